"""Figures: what is drawn equals the data, what does not count is left out, and the files are what they claim."""

import dataclasses
import io
import math
import re
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageSequence
from rich.console import Console

from bmrl.families import FAMILIES
from bmrl.figures import animation, style
from bmrl.figures.animation import animate
from bmrl.figures.curves import plot_curves, tabulate
from bmrl.figures.identities import plot_identities, principal_components
from bmrl.figures.returns import plot_returns
from bmrl.figures.style import COLOURS, mdp_name, mdp_title, method_colour, method_names, number, valid_by_mdp
from bmrl.figures.table import judgement_table, results_table
from bmrl.figures.trajectories import plot_trajectories
from bmrl.figures.velocities import TIME_STEPS, mean_of_running, plot_velocities, smooth
from bmrl.runs.metrics import Metric, Metrics

CHEETAH, HOPPER = FAMILIES["halfcheetah-velocity"], FAMILIES["hopper-velocity"]
GOALS = [{"goal_angle": 0.0}, {"goal_angle": math.pi / 2}]
SPEEDS = [{"target_velocity": 0.475}, {"target_velocity": 1.075}]


@dataclass(frozen=True)
class Episodes:
    """What figures read of test episodes."""

    observations: np.ndarray  # [n, T + 1, 2]
    rewards: np.ndarray  # [n, T]
    lengths: np.ndarray  # [n]
    valid: np.ndarray  # [n]
    infos: dict[str, np.ndarray] = field(default_factory=dict)  # [n, T] each
    identities: np.ndarray | None = None  # [n, T, d_m]


def make_episodes(n=4, steps=20, lengths=None, valid=None, identity_dim=5):
    rng = np.random.default_rng(0)
    identities = rng.normal(size=(n, steps, identity_dim))
    identities[:, 0] = 0.0
    return Episodes(
        rng.normal(size=(n, steps + 1, 2)).cumsum(1),
        rng.normal(size=(n, steps)),
        np.full(n, steps) if lengths is None else np.array(lengths),
        np.ones(n, bool) if valid is None else np.array(valid, bool),
        {"x_velocity": rng.normal(size=(n, steps))},
        identities,
    )


def make_row(method="tiMe", mdp=SPEEDS[0], returns=(-50.0, -40.0), seed=0, variant="default", **more):
    moments = {"return_mean": float(np.mean(returns)), "return_std": float(np.std(returns))} if returns else {}
    row = {"method": method, "variant": variant, "family": "f", "mdp": mdp, "split": "test", "seed": seed}
    return {**row, "episodes": len(returns), "returns": list(returns), "length_mean": 200.0, **moments, **more}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written."""
    figures, savefig = [], style.Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(style.Figure, "savefig", keep)
    return figures


def panels_of(figure):
    """The panels with a title, without colour bars."""
    return [axes for axes in figure.axes if axes.get_title()]


def lines(axes, width):
    """The data of the lines of that width, [points, 2] each."""
    return [line.get_xydata() for line in axes.lines if line.get_linewidth() == width]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def dots(axes):
    """All dots, [dots, 2]."""
    return np.concatenate([np.asarray(collection.get_offsets()) for collection in axes.collections])


# ---------------------------------------------------------------------- style


def test_names():
    assert mdp_name({"target_velocity": 0.475}) == "target velocity 0.475 m/s"
    physics = {"target_velocity": 1.28, "mass": 0.88, "friction": 2.5, "damping": 1.42}
    assert mdp_name(physics) == "target velocity 1.28 m/s, mass 0.88×, friction 2.5×, damping 1.42×"
    assert mdp_title(physics) == "target velocity 1.28 m/s,\nmass 0.88×, friction 2.5×,\ndamping 1.42×"
    assert mdp_name({"goal_angle": math.pi / 2}) == "goal angle 90°"
    assert mdp_name({"body_mass": 2.0, "goal_angle": 0.0, "arm": 1.0}) == "goal angle 0°, arm 1, body mass 2"
    assert mdp_name(dict(sorted(physics.items()))) == mdp_name(physics)
    assert [number(x) for x in (-51.96, 1234.5, 0.5, 0.0)] == ["−52", "1234", "0.5", "0"]
    assert number(-51.96, 2) == "−52"


def test_method_names_tell_the_context_only_where_it_differs():
    rows = [
        make_row(),
        make_row(context="none"),
        make_row(variant="paper", context="none"),
        make_row("teacher", variant="", context="none"),
        make_row(context="data/logs"),
    ]
    assert method_names(rows) == ["tiMe", "tiMe (no context)", "tiMe (paper)", "teacher", "tiMe (context: logs)"]


def test_method_colours():
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert all(method_colour(name) == colour for name, colour in COLOURS.items())
    assert method_colour("pooled Batch SAC") == method_colour("pooled (SAC)") == COLOURS["pooled"]
    assert method_colour("nearest teacher (BCQ)") == COLOURS["nearest"]
    assert method_colour("tiMe (paper, no context)") in (COLOURS["tiMe (paper)"], COLOURS["tiMe (no context)"])
    assert method_colour("something else") in style.FALLBACK


def test_valid_by_mdp_groups_and_leaves_out():
    episodes = make_episodes(4, valid=[1, 0, 1, 1])
    groups = valid_by_mdp(episodes, [GOALS[1], GOALS[0], GOALS[0], GOALS[1]])
    assert [(mdp, indices.tolist()) for mdp, indices in groups] == [(GOALS[1], [0, 3]), (GOALS[0], [2])]
    with pytest.raises(ValueError, match="1 MDPs for 4 episodes"):
        valid_by_mdp(episodes, GOALS[:1])


# ---------------------------------------------------------------------- every picture


def draw_returns(path):
    plot_returns([make_row(), make_row("teacher", SPEEDS[1])], {}, path)


def draw_trajectories(path):
    plot_trajectories({"tiMe": (make_episodes(2), GOALS), "teacher": (make_episodes(2), GOALS)}, path)


def draw_velocities(path):
    plot_velocities(CHEETAH, "tiMe", make_episodes(2), SPEEDS, path)


def draw_identities(path):
    plot_identities(make_episodes(2), SPEEDS, path)


@pytest.mark.parametrize(
    ("draw", "size"),
    [
        (draw_returns, (2 * 477, 630)),
        (draw_trajectories, (2 * 555, 525)),
        (draw_velocities, (2 * 555, 450)),
        (draw_identities, (2 * 735, 585)),
    ],
)
def test_png_of_known_size_same_bytes_and_no_global_state(draw, size, tmp_path):
    before = dict(matplotlib.rcParams)
    draw(tmp_path / "one.png")
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "figure.dpi": 20}):  # a user's matplotlibrc
        draw(tmp_path / "other.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert (image.format, image.size) == ("PNG", size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "other.png"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plot_returns([], {}, path),
        lambda path: plot_returns([make_row(returns=())], {}, path),
        lambda path: plot_trajectories({}, path),
        lambda path: plot_trajectories({"tiMe": (make_episodes(2, valid=[0, 0]), GOALS)}, path),
        lambda path: plot_velocities(CHEETAH, "tiMe", make_episodes(0), [], path),
        lambda path: plot_velocities(CHEETAH, "tiMe", make_episodes(2, valid=[0, 0]), SPEEDS, path),
        lambda path: plot_identities(make_episodes(0), [], path),
        lambda path: plot_identities(make_episodes(2, valid=[0, 0]), SPEEDS, path),
    ],
)
def test_nothing_to_draw_is_said(draw, drawn, tmp_path):
    draw(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").is_file()
    assert any("no valid episode" in text for axes in drawn[0].axes for text in texts(axes))


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plot_returns([make_row(returns=[-5.0])], {}, path),
        lambda path: plot_trajectories({"tiMe": (make_episodes(1, 1), GOALS[:1])}, path),
        lambda path: plot_velocities(CHEETAH, "tiMe", make_episodes(1, 1), SPEEDS[:1], path),
        lambda path: plot_identities(make_episodes(1, 1, identity_dim=1), SPEEDS[:1], path),
    ],
)
def test_one_episode_of_one_step(draw, tmp_path):
    draw(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").is_file()


# ---------------------------------------------------------------------- returns


def test_returns_draws_every_episode_and_the_means(drawn, tmp_path):
    rows = [
        make_row(returns=[-50.0, -40.0, -30.0]),
        make_row("teacher", returns=[-20.0], seed=0),
        make_row("teacher", returns=[-10.0, -30.0], seed=1),
        make_row(mdp=SPEEDS[1], returns=[-90.0]),
    ]
    plot_returns(rows, {mdp_name(SPEEDS[0]): {"standing": -95.0}}, tmp_path / "returns.png")
    first, second = panels_of(drawn[0])
    assert (first.get_title(), second.get_title()) == ("target velocity 0.475 m/s", "target velocity 1.075 m/s")
    assert [label.get_text() for label in first.get_xticklabels()] == ["tiMe", "teacher"]
    points = dots(first)
    assert sorted(points[points[:, 0] < 0.5, 1]) == [-50, -40, -30]
    assert sorted(points[points[:, 0] > 0.5, 1]) == [-30, -20, -20, -20, -10]  # episodes, and the seeds' means
    assert [line[:, 1].tolist() for line in lines(first, 2.5)] == [[-40, -40], [-20, -20]]
    assert "standing" in texts(first) and "−40" in texts(first)
    assert "standing" not in texts(second)
    (reference,) = lines(first, 1)
    assert (reference[:, 1] == -95).all()


def test_returns_of_unstable_episodes_are_left_out(drawn, tmp_path):
    plot_returns([make_row(), make_row("teacher", returns=())], {}, tmp_path / "returns.png")
    (axes,) = panels_of(drawn[0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["tiMe"]


# ---------------------------------------------------------------------- trajectories


def test_trajectories_are_the_valid_paths_until_their_ends(drawn, tmp_path):
    episodes = make_episodes(3, 20, lengths=[20, 7, 20], valid=[1, 1, 0])
    plot_trajectories({"tiMe": (episodes, [GOALS[0], GOALS[1], GOALS[1]])}, tmp_path / "paths.png")
    (axes,) = panels_of(drawn[0])
    paths = lines(axes, 1.4)
    assert len(paths) == 2
    np.testing.assert_array_equal(paths[0], episodes.observations[0])
    np.testing.assert_array_equal(paths[1], episodes.observations[1, :8])
    ends = {tuple(dot) for dot in dots(axes)}
    assert {tuple(path[-1]) for path in paths} <= ends
    stars = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "*"]
    np.testing.assert_allclose(stars, [[10, 0], [0, 10]], atol=1e-12)
    distance = np.mean([np.linalg.norm(path[-1] - star) for path, star in zip(paths, stars, strict=True)])
    assert f"ends {distance:.2f} from the goal on average" in texts(axes)
    (low, high), inside = axes.get_xlim(), episodes.observations[0, :, 0]
    assert low < inside.min() and inside.max() < high


# ---------------------------------------------------------------------- velocities


def test_velocities_over_seconds_until_the_fall(drawn, tmp_path):
    episodes = make_episodes(4, 50, lengths=[50, 10, 50, 50], valid=[1, 1, 0, 1])
    plot_velocities(
        HOPPER, "tiMe", episodes, [{"target_velocity": 1.1}] * 3 + [{"target_velocity": 2.0}], tmp_path / "v.png"
    )
    first, second = panels_of(drawn[0])
    thin = lines(first, 0.6)
    assert [len(line) for line in thin] == [50, 10]
    np.testing.assert_allclose(thin[0][:, 0], 0.008 * np.arange(1, 51))
    np.testing.assert_array_equal(thin[1][:, 1], episodes.infos["x_velocity"][1, :10])
    (target,) = lines(first, 1.2)
    assert (target[:, 1] == 1.1).all()
    assert [dot.tolist() for dot in dots(first)] == [thin[0][-1].tolist(), thin[1][-1].tolist()]  # before the horizon
    (bold,) = lines(second, 2.5)
    np.testing.assert_allclose(bold[:, 1], smooth(episodes.infos["x_velocity"][3], 62))
    assert first.get_xlim() == (0, 8)
    mean, std = episodes.rewards[:2].sum(1).mean(), episodes.rewards[:2].sum(1).std()
    assert f"return {number(mean)} ± {std:.2g}, n = 2" in texts(first)


@pytest.mark.parametrize("family", [CHEETAH, HOPPER], ids=["halfcheetah", "hopper"])
def test_time_steps_are_the_simulators(family):
    simulator = family.simulator(family.test_mdps()[:1], seed=0)
    simulator.reset()
    before = simulator.state()["physics"][0, 0]
    simulator.step(np.zeros((1, family.action_dim)))
    assert simulator.state()["physics"][0, 0] - before == pytest.approx(TIME_STEPS[family.body.xml])


def test_smooth_is_a_centred_moving_average():
    assert smooth(np.array([0.0, 3.0, 6.0, 3.0]), 3).tolist() == [1.5, 3.0, 4.0, 4.5]
    assert smooth(np.array([1.0, 2.0]), 0).tolist() == [1.0, 2.0]
    assert smooth(np.array([1.0, 3.0]), 99).tolist() == [2.0, 2.0]


def test_mean_of_running_ends_with_half_of_the_lines():
    assert mean_of_running([np.array([1.0, 2.0, 5.0]), np.array([3.0])]).tolist() == [2.0, 2.0, 5.0]
    assert mean_of_running([np.array([1.0, 2.0]), np.array([3.0]), np.array([5.0])]).tolist() == [3.0]


# ---------------------------------------------------------------------- identities


def test_principal_components_keep_the_geometry_of_a_plane():
    rng = np.random.default_rng(1)
    plane, _ = np.linalg.qr(rng.normal(size=(7, 2)))
    flat = rng.normal(size=(50, 2)) * [3.0, 1.0]
    points, shares = principal_components(flat @ plane.T + 5.0)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1] > 0
    distances = np.linalg.norm(flat[:, None] - flat, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(points[:, None] - points, axis=-1), distances, atol=1e-9)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(points.T @ points, np.diag(np.square(points).sum(0)), atol=1e-9)


def test_principal_components_without_spread_or_second_dimension():
    points, shares = principal_components(np.ones((4, 3)))
    assert not points.any() and not shares.any()
    points, shares = principal_components(np.array([[1.0], [3.0]]))
    assert points.tolist() == [[-1, 0], [1, 0]] and shares.tolist() == [1, 0]


def test_identities_are_the_valid_paths_in_the_colour_of_their_mdp(drawn, tmp_path):
    episodes = make_episodes(4, 12, lengths=[12, 5, 12, 12], valid=[1, 1, 1, 0])
    mdps = [SPEEDS[0], SPEEDS[0], SPEEDS[1], SPEEDS[1]]
    plot_identities(episodes, mdps, tmp_path / "identities.png")
    left, right = panels_of(drawn[0])
    seen = [episodes.identities[0], episodes.identities[1, :5], episodes.identities[2]]
    points, shares = principal_components(np.concatenate(seen))
    paths = np.split(points, [12, 17])
    for drawn_path, path in zip(lines(left, 0.7), paths, strict=True):
        np.testing.assert_array_equal(drawn_path, path)
    for drawn_path, path in zip(lines(right, 0.6), paths, strict=True):
        np.testing.assert_array_equal(drawn_path, np.stack([np.arange(len(path)), path[:, 0]], 1))
    colours = [line.get_color() for line in left.lines if line.get_linewidth() == 0.7]
    assert colours[0] == colours[1] != colours[2]
    assert left.get_xlabel() == f"PC 1 ({shares[0]:.0%} of the variance)"
    assert "blank" in texts(left)


def test_identities_that_do_not_begin_blank_are_not_called_so(drawn, tmp_path):
    episodes = make_episodes(2)
    episodes.identities[0, 0] = 1.0
    plot_identities(episodes, SPEEDS, tmp_path / "identities.png")
    assert "blank" not in texts(panels_of(drawn[0])[0])


def test_identities_need_an_agent_that_infers_them(tmp_path):
    with pytest.raises(ValueError, match="no identities"):
        plot_identities(dataclasses.replace(make_episodes(2), identities=None), SPEEDS, tmp_path / "identities.png")


# ---------------------------------------------------------------------- curves


def test_tabulate_leaves_gaps_where_values_are_missing_or_not_finite():
    values = [(10, 0, 1.0), (10, 1, 3.0), (20, 0, math.nan), (20, 1, 5.0), (30, 0, math.inf)]
    steps, table = tabulate([Metric("teach", step, learner, "loss", value) for step, learner, value in values])
    assert steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(table, [[1, np.nan, np.nan], [3, 5, np.nan]])


def test_curves_are_one_file_a_stage_with_learners_and_their_mean(drawn, tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    for step in (100, 200):
        metrics.log("teach", step, {"loss": [1.0 * step, 3.0 * step], "broken": [math.nan, math.nan]})
    metrics.log("distill-default", 100, {"loss": 1e-3})
    files = plot_curves(tmp_path / "metrics.csv", tmp_path)
    assert [file.name for file in files] == ["curves-teach.png", "curves-distill-default.png"]
    loss, broken = panels_of(drawn[0])
    assert [line.tolist() for line in lines(loss, 0.6)] == [[[100, 100], [200, 200]], [[100, 300], [200, 600]]]
    assert [line.tolist() for line in lines(loss, 2)] == [[[100, 200], [200, 400]]]
    assert texts(broken) == ["never finite"]
    (alone,) = panels_of(drawn[1])
    assert [line.tolist() for line in lines(alone, 2)] == [[[100, 1e-3]]] and not lines(alone, 0.6)
    with Image.open(files[0]) as image:
        assert (image.format, image.size) == ("PNG", (2 * 465, 345))


def test_curves_of_no_metrics_are_no_files(tmp_path):
    Metrics(tmp_path / "metrics.csv")
    assert plot_curves(tmp_path / "metrics.csv", tmp_path) == []


# ---------------------------------------------------------------------- animation


def gif_frames(path):
    """The frames as RGB arrays, and their milliseconds."""
    with Image.open(path) as image:
        assert (image.format, image.info["loop"]) == ("GIF", 0)
        pairs = [(np.array(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    return [frame for frame, _ in pairs], [duration for _, duration in pairs]


def count(image, colour):
    return int((image == [int(colour[k : k + 2], 16) for k in (1, 3, 5)]).all(-1).sum())


def walk(n, steps, speed=0.05):
    """A torso and a leg that walk along x, [n, steps, 2, 2, 2]."""
    x = speed * np.arange(steps)[:, None]
    torso = np.stack([np.stack([x - 0.4, 0 * x + 0.7], -1), np.stack([x + 0.4, 0 * x + 0.7], -1)], 2)
    leg = np.stack([np.stack([x, 0 * x + 0.7], -1), np.stack([x + 0.2 * np.sin(9 * x), 0 * x], -1)], 2)
    return np.repeat(np.concatenate([torso, leg], 1)[None], n, 0).astype(np.float32)


def test_robots_play_in_real_time(tmp_path):
    animate(walk(2, 30), ["one", "two"], tmp_path / "a.gif", fps=20, targets=[1.0, 0.5])
    frames, durations = gif_frames(tmp_path / "a.gif")
    assert len(frames) == 30
    assert durations == [50] * 29 + [animation.HOLD]
    assert frames[0].shape == (184, 2 * 256, 3)
    assert all(count(frame, "#ffffff") > frame.shape[0] * frame.shape[1] / 2 for frame in frames)
    for half in (frames[-1][:, :256], frames[-1][:, 256:]):
        assert count(half, style.BLUE) > 200  # the robot
        assert count(half, style.RED) > 20  # the flag
    animate(walk(2, 30), ["one", "two"], tmp_path / "b.gif", fps=20, targets=[1.0, 0.5])
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_the_camera_follows_the_robot(tmp_path):
    animate(walk(1, 100, speed=0.2), ["far"], tmp_path / "far.gif", fps=20, targets=[0.0])
    frames, _ = gif_frames(tmp_path / "far.gif")
    blue = [np.nonzero((frame == [0x00, 0x72, 0xB2]).all(-1))[1].mean() for frame in frames[10:-10]]
    assert np.ptp(blue) < 15  # it has walked 16 m; a metre is some 70 pixels


def test_long_episodes_are_thinned_to_their_last_step_at_the_same_speed(tmp_path):
    animate(walk(1, 1000, speed=0.008), ["long"], tmp_path / "long.gif", fps=125, targets=[1.0])
    frames, durations = gif_frames(tmp_path / "long.gif")
    assert len(frames) == 143 <= animation.MAX_FRAMES
    assert durations[0] == 60  # 7 steps of 8 ms
    assert (tmp_path / "long.gif").stat().st_size < 2e6


def test_an_ended_episode_stays_where_it_was_in_grey(tmp_path):
    animate(
        walk(2, 20), ["falls", "walks"], tmp_path / "fall.gif", fps=20, lengths=np.array([8, 20]), targets=[0.0, 0.0]
    )
    frames, _ = gif_frames(tmp_path / "fall.gif")
    falls, walks = [count(f[:, :256], style.BLUE) for f in frames], [count(f[:, 256:], style.BLUE) for f in frames]
    assert all(falls[:8]) and not any(falls[8:]) and all(walks)


def test_points_leave_their_path(tmp_path):
    family = FAMILIES["point-goal"]
    simulator = family.simulator(GOALS, seed=0)
    simulator.reset()
    frames = []
    for _ in range(family.horizon):
        simulator.step(np.array([[0.5, 0.1], [-0.1, 0.5]]))
        frames.append(simulator.frames())
    animate(np.stack(frames, 1), [mdp_name(mdp) for mdp in GOALS], tmp_path / "points.gif", fps=5)
    images, durations = gif_frames(tmp_path / "points.gif")
    assert (len(images), durations[0]) == (20, 200)
    blue = [count(image, style.BLUE) for image in images]
    assert blue[-1] > blue[10] > blue[0] > 0
    assert count(images[0], style.RED) > 10  # the goals


def test_animation_of_nothing_says_so(tmp_path):
    animate(np.zeros((0, 5, 3, 2, 2)), [], tmp_path / "empty.gif", fps=5)
    (image,), _ = gif_frames(tmp_path / "empty.gif")
    assert image.min() < 200


def test_animation_needs_a_title_an_episode(tmp_path):
    with pytest.raises(ValueError, match="2 episodes"):
        animate(walk(2, 3), ["one"], tmp_path / "a.gif", fps=20)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- table


def render(rows):
    console = Console(file=io.StringIO(), width=100)
    console.print(results_table(rows))
    return console.file.getvalue()


def test_a_judgement_names_mdps_as_their_users_do():
    row = {"mdp": None, "transitions": 7, "value": 1.0, "low": 0.0, "high": 2.0, "logged_value": 1.0, "better": 0.5}
    row |= {"values": [1.0, 1.0], "far": None}
    names = [("mdp-000", "house [3]"), ("mdp-001", None)]
    console = Console(file=io.StringIO(), width=120)
    console.print(judgement_table([row | {"name": name, "imported": imported} for name, imported in names]))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["mdp-000", "house", "[3]", "7"] in [line[:4] for line in lines]
    assert ["mdp-001", "mdp-001", "7"] in [line[:3] for line in lines]


def test_results_table():
    rows = [
        make_row(returns=[-50.0, -40.0], context="episode", final_distance=[0.2, 0.4]),
        make_row("teacher", SPEEDS[1], returns=(), variant="", seed=7),
    ]
    lines = [line.split() for line in render(rows).splitlines() if line.strip()]
    assert lines[-2] == ["tiMe", "default", "0.475", "m/s", "−45", "±", "5", "0.30", "200", "episode", "2", "0"]
    assert lines[-1] == ["teacher", "1.075", "m/s", "–", "–", "–", "–", "0", "7"]
    assert "distance" not in render([make_row()])
    assert "goal angle 90°" in render([make_row(), make_row(mdp=GOALS[1])])
    assert render([])


def test_mdps_of_many_parameters_are_numbered_in_the_table():
    houses = FAMILIES["thermostat"].test_mdps()
    lines = render([make_row(mdp=houses[0]), make_row(mdp=houses[1]), make_row(mdp=houses[0])]).splitlines()
    assert [re.findall(r"no\. \d", line) for line in lines[-4:-1]] == [["no. 1"], ["no. 2"], ["no. 1"]]
