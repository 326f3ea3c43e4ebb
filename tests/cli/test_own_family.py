"""A family of a user's own file: the page's example from end to end, and when its file is run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bmrl.data import read_batches, write_batch
from bmrl.errors import BmrlError
from bmrl.experiments import get_experiment
from bmrl.families import LOADED, get_family
from bmrl.families.own import load_family
from bmrl.pipeline import check_family, collect_stage, open_run, start_run, with_family
from bmrl.report import evaluate_stage
from bmrl.workflow import run

PAGE = Path(__file__).parents[2] / "docs" / "own-family.md"
BMRL = [sys.executable, "-c", "from bmrl.cli import main; main()"]


@pytest.fixture
def example(tmp_path):
    """The page's file, forgotten again afterwards."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    path = tmp_path / "tank.py"
    path.write_text(code)
    yield path
    LOADED.clear()


def bmrl(*words):
    return subprocess.run([*BMRL, *map(str, words)], capture_output=True, text=True, timeout=300)


def test_the_pages_example_from_collection_to_test(example, tmp_path, caplog):
    run, word = tmp_path / "run", f"{example}:TANKS"
    done = bmrl("run", "own", "--family", word, "--scale", "smoke", "--out", run)
    assert done.returncode == 0, done.stderr
    config = json.loads((run / "config.json").read_text())
    assert config["family"] == "tank.py:TANKS" and len(config["family_sha256"]) == 64
    rows = json.loads((run / "results.json").read_text())
    assert {json.dumps(row["mdp"]) for row in rows} == {
        json.dumps({"hole": 0.5, "mark": 1.5}),
        json.dumps({"hole": 0.8, "mark": 3.5}),
    }
    assert all(row["length_mean"] == 50 and row["return_mean"] < 0 for row in rows)
    batches = read_batches(run / "batches")
    assert len(batches) == 12 and {batch.manifest["family"] for batch in batches} == {"tanks"}

    policy = tmp_path / "policy"
    done = bmrl("policy", "export", run, "--out", policy)
    assert done.returncode == 0, done.stderr
    exported = json.loads((policy / "manifest.json").read_text())
    assert (exported["action_low"], exported["action_high"]) == ([0.0], [2.0])  # as the environment takes them

    # The same logs alone: nobody may act in their MDPs, the policy is the same.
    alone = tmp_path / "alone"
    assert "holds no logs: import some" in bmrl("run", "own", "--scale", "smoke", "--out", alone).stderr
    shutil.copytree(run / "batches", alone / "batches")
    done = bmrl("run", "own", "--scale", "smoke", "--out", alone, "--resume")
    assert done.returncode == 0 and f"bmrl judge {alone} --out" in done.stdout, done.stderr
    weights = [next((place / "students/default").glob("*.safetensors")).read_bytes() for place in (run, alone)]
    assert weights[0] == weights[1]
    refused = bmrl("evaluate", alone)
    assert refused.returncode == 2 and "made from logs alone, there is no environment" in refused.stderr

    # No word, no code: the run names the file, but only a person may have it run.
    mark = example.with_name("ran")
    example.write_text(example.read_text() + f"\nopen({str(mark)!r}, 'w').close()\n")
    refused = bmrl("evaluate", run)
    assert refused.returncode == 2 and "add --family PATH/tank.py:TANKS" in refused.stderr and not mark.exists()
    check_family(open_run(run).experiment, word)
    assert mark.exists() and "the file has changed" in caplog.text
    with pytest.raises(BmrlError, match="family_sha256"):
        start_run(run, with_family(get_experiment("own", "smoke", 0), word))


def test_simulators_of_the_example_keep_the_contract(example):
    family = load_family(f"{example}:TANKS").family
    mdps, rng = family.train_mdps()[:3], np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (70, 3, 1)).astype(np.float32)

    def roll(simulator, actions):
        rows = []
        for action in actions:
            step = simulator.step(action)
            rows.append((step.observations, step.rewards, step.truncations, simulator.reset(step.truncations)))
        return [np.stack(x) for x in zip(*rows, strict=True)]

    simulator, alone = family.simulator(mdps, 1), family.simulator(mdps[:1], 1)
    assert not np.array_equal(*family.simulator([mdps[0]] * 2, 1).reset())
    np.testing.assert_array_equal(simulator.reset()[:1], alone.reset())
    roll(simulator, actions[:33])
    state, rest = simulator.state(), roll(simulator, actions[33:])
    for again in (simulator, family.simulator(mdps, 1)):
        again.restore(state)
        for one, other in zip(roll(again, actions[33:]), rest, strict=True):
            np.testing.assert_array_equal(one, other)
    assert rest[2].any()
    for one, other in zip(roll(alone, actions[:, :1])[:2], (None, None), strict=True):
        assert np.isfinite(one).all() and other is None
    # Actions are scaled to the environment's bounds: all that flows in is 0 or 2.
    simulator = family.simulator([mdps[0]], 0)
    level = float(simulator.reset()[0, 0])
    step = simulator.step(np.ones((1, 1)))
    assert step.observations[0, 0] == pytest.approx(level + 2 - 0.3 * level**0.5, rel=1e-5)
    assert step.rewards[0] == pytest.approx(-abs(step.observations[0, 0] - mdps[0]["mark"]), rel=1e-5)


BROKEN = """
import gymnasium, numpy as np
from bmrl.families import GymnasiumFamily
class Env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = {space}
    def __init__(self, x): self.x = x
    def reset(self, *, seed=None, options=None): return np.zeros(1, np.float32), {{}}
    def step(self, action): {step}
F = GymnasiumFamily("mine", {{"x": (0.0, 1.0)}}, ({{"x": 0.1}},), (), ({{"x": 0.9}},), 5, 1, 1, Env)
"""
BOX = "gymnasium.spaces.Box(-1, 1, (1,), np.float32)"


@pytest.mark.parametrize(
    ("step", "terminates", "fails"),
    [
        ("raise RuntimeError('burst')", False, True),
        ("return np.full(1, np.nan), 0.0, False, False, {}", False, True),
        ("return np.zeros(1), 1.0, True, False, {}", True, False),
        ("return np.zeros(1), 1.0, False, True, {}", False, False),
    ],
    ids=["error", "nan", "end", "time-out"],
)
def test_what_fails_is_cut_and_what_is_over_stands_still(tmp_path, step, terminates, fails):
    (tmp_path / "mine.py").write_text(BROKEN.format(space=BOX, step=step))
    simulator = load_family(f"{tmp_path / 'mine.py'}:F").family.simulator([{"x": 0.1}], 0)
    LOADED.clear()
    simulator.reset()
    first = simulator.step(np.zeros((1, 1)))
    assert first.terminations[0] == terminates and first.truncations[0] != terminates
    assert first.infos["invalid"][0] == fails and np.isfinite(first.observations).all()
    assert first.rewards[0] == (0 if fails else 1)
    second = simulator.step(np.zeros((1, 1)))
    assert second.terminations[0] == terminates and second.truncations[0] != terminates
    assert second.rewards[0] == 0 and second.infos["invalid"][0] == 0  # nobody asked the environment again


def test_spaces_that_do_not_fit_are_refused(tmp_path):
    for k, space in enumerate(("gymnasium.spaces.Discrete(3)", "gymnasium.spaces.Box(-np.inf, 1, (1,), np.float32)")):
        path = tmp_path / f"mine{k}.py"
        path.write_text(BROKEN.format(space=space, step="pass"))
        with pytest.raises(BmrlError, match=r"a bounded Box of shape \(1,\) is needed"):
            load_family(f"{path}:F").family.simulator([{"x": 0.1}], 0)
    LOADED.clear()


@pytest.mark.parametrize(
    ("reset", "says"),
    [
        ("raise RuntimeError('sensor offline')", "of {'x': 0.1} fails: RuntimeError: sensor offline"),
        ("return np.zeros(1)", "fails: ValueError: .*; it is to return an observation and a dict"),
        ("return np.full(1, np.nan), {}", r"gives \[nan\]: finite numbers are needed"),
    ],
)
def test_an_episode_that_cannot_begin_is_told_in_a_line(tmp_path, reset, says):
    text = BROKEN.format(space=BOX, step="pass").replace("return np.zeros(1, np.float32), {}", reset)
    (tmp_path / "mine.py").write_text(text)
    simulator = load_family(f"{tmp_path / 'mine.py'}:F").family.simulator([{"x": 0.1}], 0)
    LOADED.clear()
    with pytest.raises(BmrlError, match=rf"mine: reset\(seed=.*{says}") as caught:
        simulator.reset()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "other", "says"),
    [
        ("5, 1, 1, Env)", "5, 1, 1, lambda x: None)", "make returned NoneType, which has no observation_space"),
        ("5, 1, 1, Env)", "5, 1, 1, Env, info_names=('t',))", "info_names: what step returns as infos is not kept"),
        ("5, 1, 1, Env)", "5, 1, 1, Env, env_id='no good id')", "env_id is 'no good id'"),
    ],
)
def test_families_that_cannot_be_are_refused(tmp_path, word, other, says):
    (tmp_path / "mine.py").write_text(BROKEN.format(space=BOX, step="pass").replace(word, other))
    with pytest.raises(BmrlError, match=says):
        load_family(f"{tmp_path / 'mine.py'}:F").family.simulator([{"x": 0.1}], 0)
    LOADED.clear()


def test_a_mistake_in_the_file_can_be_mended_where_nothing_was_done(tmp_path):
    path, place = tmp_path / "mine.py", tmp_path / "run"
    path.write_text(BROKEN.format(space=BOX, step="pass").replace("5, 1, 1, Env)", "5, 1, 1, lambda x: None)"))
    words = ("collect", "own", "--family", f"{path}:F", "--scale", "smoke", "--out", place)
    done = bmrl(*words)
    assert done.returncode == 2 and "make returned NoneType" in done.stderr and (place / "config.json").exists()
    path.write_text(BROKEN.format(space=BOX, step="return np.zeros(1), 1.0, False, False, {}"))
    done = bmrl(*words)
    assert done.returncode == 0, done.stderr
    path.write_text(path.read_text() + "# another\n")
    done = bmrl(*words, "--resume")
    assert done.returncode == 2 and "another configuration: family_sha256" in done.stderr


def test_a_box_of_whole_numbers_is_refused(tmp_path):
    """Actions between them would be cut off."""
    path = tmp_path / "mine.py"
    path.write_text(BROKEN.format(space="gymnasium.spaces.Box(-9, 9, (1,), np.int64)", step="pass"))
    with pytest.raises(BmrlError, match=r"mine: .* whole numbers; a Box of np\.float32 is needed"):
        load_family(f"{path}:F").family.simulator([{"x": 0.1}], 0)
    LOADED.clear()


def test_an_environment_that_cannot_be_made_is_told_in_a_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(BROKEN.format(space=BOX, step="pass").replace("def __init__(self, x)", "def __init__(self, y)"))
    family = load_family(f"{path}:F").family
    for made in (lambda: family.simulator([{"x": 0.1}], 0), lambda: family.action_bounds({"x": 0.1})):
        with pytest.raises(
            BmrlError, match=r"mine: making the environment of \{'x': 0\.1\} fails: TypeError.*'x'"
        ) as caught:
            made()
        assert "\n" not in str(caught.value)
    LOADED.clear()


def test_two_files_have_environments_of_their_own(tmp_path):
    """Neither names an id."""
    for name, low in (("one", 1), ("an other", 2)):
        code = (
            BROKEN.format(space=BOX, step="pass")
            .replace('"mine"', f'"{name}"')
            .replace("np.zeros(1", f"{low} * np.ones(1")
        )
        (tmp_path / f"{low}.py").write_text(code.replace("Box(0, 1", "Box(0, 9"))
    one, other = (load_family(f"{tmp_path / file}:F").family for file in ("1.py", "2.py"))
    assert (one.env_id, other.env_id) == ("bmrl/one-v0", "bmrl/an-other-v0")
    assert [family.make_env(x=0.1).reset(seed=0)[0].item() for family in (one, other)] == [1, 2]
    LOADED.clear()


@pytest.mark.parametrize("shape", ["()", "(2,)", "(1, 1)"])
def test_observations_of_another_shape_than_declared_are_refused(tmp_path, shape):
    """NumPy would stretch or flatten some of them."""
    path, code = (
        tmp_path / "mine.py",
        BROKEN.format(space=BOX, step=f"return np.zeros({shape}), 0.0, False, False, {{}}"),
    )
    path.write_text(code)
    simulator = load_family(f"{path}:F").family.simulator([{"x": 0.1}], 0)
    simulator.reset()
    with pytest.raises(BmrlError, match=rf"mine: step .* of shape {re.escape(shape)}, not \(1,\)"):
        simulator.step(np.zeros((1, 1)))
    path.write_text(code.replace("np.zeros(1, np.float32), {}", f"np.zeros({shape}), {{}}"))
    simulator = load_family(f"{path}:F").family.simulator([{"x": 0.1}], 0)
    with pytest.raises(BmrlError, match=rf"mine: reset .* of shape {re.escape(shape)}, not \(1,\)"):
        simulator.reset()
    LOADED.clear()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("tank.py", "write PATH.py:NAME"),
        ("tank.txt:TANKS", "write PATH.py:NAME"),
        ("absent.py:TANKS", "there is no file"),
        ("tank.py:POOLS", r"has no Family 'POOLS'; it has TANKS"),
        ("tank.py:Tank", r"has no Family 'Tank'"),
        ("bad.py:F", r"bad.py fails: ZeroDivisionError"),
        ("leaves.py:F", r"leaves.py fails: RuntimeError.*it ends Python \(SystemExit\(3\)\)"),
        ("taken.py:POINT_GOAL", "a family 'point-goal' of its own"),
    ],
)
def test_words_that_name_no_family(example, word, says):
    (example.parent / "bad.py").write_text("1 / 0")
    (example.parent / "leaves.py").write_text("raise SystemExit(3)")
    (example.parent / "taken.py").write_text("from bmrl.families.point_goal import POINT_GOAL")
    with pytest.raises(BmrlError, match=says) as caught:
        load_family(str(example.parent / word))
    assert "\n" not in str(caught.value)


def test_the_word_is_for_the_experiment_own_alone(example):
    own, other = get_experiment("own", "smoke", 0), get_experiment("point-goal", "smoke", 0)
    with pytest.raises(BmrlError, match="--family is for the experiment 'own': this one has the family point-goal"):
        with_family(other, f"{example}:TANKS")
    assert with_family(own, None).logs_alone
    for experiment, of in ((other, "point-goal"), (own, "logs alone")):
        with pytest.raises(BmrlError, match=f"the run is of {of}"):
            check_family(experiment, f"{example}:TANKS")
    with pytest.raises(BmrlError, match=r"only you can run: add --family PATH/other\.py:F"):
        get_family("other.py:F")
    assert with_family(own, f"{example}:TANKS").family == "tank.py:TANKS"
    assert get_family("tank.py:TANKS").make_env(hole=0.5, mark=1.0).reset(seed=0)[0].shape == (1,)


def test_logs_of_other_actions_than_the_familys_are_refused(example, tmp_path):
    """The example's actions are 0 to 2: logs that were imported as of 0 to 4 are not of its environments."""

    def logs(high):
        write_batch(
            tmp_path / "batches" / "mdp-000",
            observations=np.zeros((3, 1)),
            actions=np.zeros((2, 1)),
            rewards=np.zeros(2),
            terminations=np.zeros(2, bool),
            truncations=np.array([False, True]),
            provenance={"actions": {"names": ["inflow"], "low": [0.0], "high": [high]}},
        )

    logs(4.0)
    own = with_family(get_experiment("own", "smoke", 0), f"{example}:TANKS")
    run = start_run(tmp_path, own)
    says = r"mdp-000 was imported with low = \[0.0\] and high = \[4.0\].* takes actions from \[0.0\] to \[2.0\]"
    for stage in (collect_stage, evaluate_stage):
        with pytest.raises(BmrlError, match=says):
            stage(run)
    logs(2.0)
    collect_stage(run)
    with pytest.raises(BmrlError, match="has no students"):
        evaluate_stage(run)
    # Contexts are compared as the run's own logs are.
    shutil.copytree(tmp_path / "batches", tmp_path / "others")
    logs(4.0)
    (tmp_path / "batches").rename(tmp_path / "wrong")
    (tmp_path / "others").rename(tmp_path / "batches")
    with pytest.raises(BmrlError, match=f"wrong: {says}"):
        evaluate_stage(run, context=str(tmp_path / "wrong"))


def test_an_empty_validation_split_tests_nothing(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(BROKEN.format(space=BOX, step="pass"))
    run = start_run(tmp_path / "run", with_family(get_experiment("own", "smoke", 0), f"{path}:F"))
    with pytest.raises(BmrlError, match="--split validation: mine has no validation MDPs: name one by --mdp"):
        evaluate_stage(run, split="validation")
    LOADED.clear()


def test_from_python_it_is_named_as_on_the_command_line(example, tmp_path, monkeypatch):
    monkeypatch.setattr("bmrl.parallel.set_up_jax", lambda: None)
    monkeypatch.setattr("bmrl.workflow.all_stages", lambda *_: None)
    own = get_experiment("own", "smoke", seed=0)
    begun = run(own, tmp_path / "run", family=f"{example}:TANKS")
    assert begun.experiment.family == "tank.py:TANKS"
