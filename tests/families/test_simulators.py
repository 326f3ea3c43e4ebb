"""Simulators: physics, episodes, determinism and resuming."""

import math
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from bmrl.errors import BmrlError
from bmrl.families import FAMILIES
from bmrl.families.velocity import (
    HALF_CHEETAH,
    HALF_CHEETAH_VELOCITY,
    HOPPER_VELOCITY,
    hopper_fell,
    load_model,
)

POINT = FAMILIES["point-goal"]
ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
VELOCITY = pytest.mark.parametrize("family", [HALF_CHEETAH_VELOCITY, HOPPER_VELOCITY], ids=lambda family: family.name)


def random_actions(family, steps, n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n, family.action_dim)).astype(np.float32)


def roll(simulator, actions):
    """Every array of every step, with ended episodes begun anew: {name: [steps, n, ...]}."""
    rows = []
    for action in actions:
        step = simulator.step(action)
        ended = step.terminations | step.truncations
        rows.append({**vars(step), **step.infos, "current": simulator.reset(ended)})
        del rows[-1]["infos"]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@ALL
def test_shapes_and_types(family):
    mdps = family.train_mdps()[:3]
    simulator = family.simulator(mdps, seed=0)
    assert (simulator.n, simulator.observation_dim, simulator.action_dim) == (
        3,
        family.observation_dim,
        family.action_dim,
    )
    observations = simulator.reset()
    assert observations.shape == (3, family.observation_dim)
    assert observations.dtype == np.float32
    step = simulator.step(random_actions(family, 1, 3)[0])
    assert step.observations.shape == (3, family.observation_dim)
    assert step.observations.dtype == step.rewards.dtype == np.float32
    assert step.rewards.shape == step.terminations.shape == step.truncations.shape == (3,)
    assert step.terminations.dtype == step.truncations.dtype == bool
    assert all(info.dtype == np.float32 and len(info) == 3 for info in step.infos.values())
    frames = simulator.frames()
    assert frames.shape == (3, frames.shape[1], 2, 2)
    assert frames.dtype == np.float32


@ALL
def test_rewards_are_the_familys_to_the_last_bit(family):
    mdps = family.train_mdps()[:3]
    simulator = family.simulator(mdps, seed=0)
    before = simulator.reset()
    for actions in random_actions(family, 10, 3):
        step = simulator.step(actions)
        for i, mdp in enumerate(mdps):
            infos = {name: values[i] for name, values in step.infos.items()}
            reward = family.reward(mdp, before[i], actions[i], step.observations[i], infos)
            assert np.float32(reward) == step.rewards[i]
        before = step.observations


@ALL
def test_slots_depend_neither_on_each_other_nor_on_threads(family):
    mdps = [*family.train_mdps()[:3], *family.validation_mdps()]
    actions = random_actions(family, 130, len(mdps))
    alone = family.simulator(mdps[:1], seed=3, threads=1)
    many = family.simulator(mdps, seed=3, threads=1)
    threaded = family.simulator(mdps, seed=3, threads=3)
    for simulator in (alone, many, threaded):
        simulator.reset()
    trajectories = roll(many, actions)
    assert_same(trajectories, roll(threaded, actions))
    assert_same({name: array[:, :1] for name, array in trajectories.items()}, roll(alone, actions[:, :1]))
    if family.horizon <= 130 or family is HOPPER_VELOCITY:  # later episodes began, and were compared too
        assert (trajectories["terminations"] | trajectories["truncations"]).any(axis=0).all()


@ALL
def test_resumes_bit_for_bit_in_the_middle_of_an_episode(family):
    mdps = family.train_mdps()[:3]
    actions = random_actions(family, 250, 3)
    simulator = family.simulator(mdps, seed=1)
    simulator.reset()
    roll(simulator, actions[:33])
    state = simulator.state()
    rest = roll(simulator, actions[33:])
    fresh = family.simulator(mdps, seed=1)
    fresh.restore(state)
    np.testing.assert_array_equal(fresh.reset(np.zeros(3, bool)), fresh.reset(np.zeros(3, bool)))
    assert_same(rest, roll(fresh, actions[33:]))
    simulator.restore(state)  # neither was the saved state touched, nor does the old simulator remember anything
    assert_same(rest, roll(simulator, actions[33:]))


@VELOCITY
def test_start_states_come_from_seed_slot_and_episode(family):
    mdps = [family.train[0]] * 2
    simulator = family.simulator(mdps, seed=5)
    first, second = simulator.reset(), simulator.reset()
    assert len({row.tobytes() for row in (*first, *second)}) == 4
    again = family.simulator(mdps, seed=5)
    np.testing.assert_array_equal(again.reset(), first)
    kept = again.reset(np.array([False, True]))
    np.testing.assert_array_equal(kept, np.stack([first[0], second[1]]))
    assert not np.array_equal(family.simulator(mdps, seed=6).reset(), first)


def test_start_noise_is_gymnasiums():
    cheetah = HALF_CHEETAH_VELOCITY.simulator([HALF_CHEETAH_VELOCITY.train[0]] * 500, seed=0)
    observations = cheetah.reset()
    assert np.abs(observations[:, :8]).max() <= 0.1
    assert observations[:, :8].std() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert observations[:, 8:].std() == pytest.approx(0.1, rel=0.05)
    hopper = HOPPER_VELOCITY.simulator([HOPPER_VELOCITY.train[0]] * 500, seed=0)
    noise = hopper.reset() - np.array([1.25] + [0.0] * 10)
    assert np.abs(noise).max() <= 5e-3 + 1e-6
    assert noise.std() == pytest.approx(5e-3 / math.sqrt(3), rel=0.05)


@VELOCITY
def test_every_step_agrees_with_gymnasiums_own_environment(family, tmp_path, monkeypatch):
    """From the same state, Gymnasium's v5 (which keeps its warm start) gives the same step.

    Each step starts from Gymnasium's state: HalfCheetah in contact is chaotic (1e-14 becomes 1e-5 in
    50 steps).
    """
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves a log of Gymnasium's HalfCheetah there
    names = {"halfcheetah-velocity": "HalfCheetah-v5", "hopper-velocity": "Hopper-v5"}
    env = gymnasium.make(names[family.name])
    env.reset(seed=0)
    mdp = family.train[3]
    simulator = family.simulator([mdp], seed=0)
    simulator.reset()
    state = simulator.state()
    terminals = 0
    for action in random_actions(family, 200, 1):
        state["physics"][0] = [env.unwrapped.data.time, *env.unwrapped.state_vector()]
        simulator.restore(state)
        step = simulator.step(action)
        observation, _, terminated, _, infos = env.step(action[0])
        np.testing.assert_allclose(step.observations[0], observation, atol=1e-6, rtol=1e-6)
        assert step.infos["x_velocity"][0] == pytest.approx(infos["x_velocity"], abs=1e-6)
        expected = family.reward(mdp, observation, action[0], observation, infos)
        assert step.rewards[0] == pytest.approx(expected, abs=1e-6)
        assert step.terminations[0] == terminated
        terminals += terminated
        if terminated:
            env.reset()
    assert (terminals > 0) == (family is HOPPER_VELOCITY)


def test_half_cheetah_is_gymnasiums_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = load_model(HALF_CHEETAH)
    assert not list(tmp_path.iterdir())  # no MUJOCO_LOG.TXT
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"
    theirs = mujoco.MjModel.from_xml_path(str(path))
    buffers = [np.empty(mujoco.mj_sizeModel(model), np.uint8) for model in (ours, theirs)]
    for model, buffer in zip((ours, theirs), buffers, strict=True):
        mujoco.mj_saveModel(model, None, buffer)
    np.testing.assert_array_equal(*buffers)


@pytest.mark.parametrize("mdp", POINT.train_mdps() + POINT.validation_mdps())
def test_point_goal_optimal_return(mdp):
    simulator = POINT.simulator([mdp], seed=0)
    position, goal = (
        simulator.reset()[0],
        10 * np.array([math.cos(mdp["goal_angle"]), math.sin(mdp["goal_angle"])]),
    )
    total = 0.0
    for t in range(20):
        step = simulator.step(np.clip(goal - position, -1, 1)[None])
        position = step.observations[0]
        total += step.rewards[0]
        assert step.truncations[0] == (t == 19)
        assert not step.terminations[0]
    assert total == pytest.approx(POINT.reference_returns(mdp)["optimal"], abs=1e-3)
    if mdp in POINT.train_mdps():
        assert total == pytest.approx(-45, abs=1e-3)


def test_every_episode_has_its_own_horizon():
    simulator = POINT.simulator(POINT.train_mdps()[:2], seed=0)
    simulator.reset()
    ends = []
    for t in range(1, 51):
        truncations = simulator.step(np.zeros((2, 2))).truncations
        ends += [(t, slot) for slot in np.flatnonzero(truncations)]
        simulator.reset(truncations | [False, t == 7])  # slot 1's first episode is given up after 7 steps
    assert ends == [(20, 0), (27, 1), (40, 0), (47, 1)]


def test_point_goal_standing_still():
    simulator = POINT.simulator(POINT.train_mdps(), seed=0)
    simulator.reset()
    returns = sum(simulator.step(np.zeros((3, 2))).rewards for _ in range(20))
    np.testing.assert_allclose(returns, -200, rtol=1e-5)


def test_half_cheetah_at_rest_earns_the_standing_return():
    family = HALF_CHEETAH_VELOCITY
    simulator = family.simulator(family.test_mdps(), seed=0)
    simulator.reset()
    total = 0.0
    for t in range(200):
        step = simulator.step(np.zeros((3, 6)))
        total += step.rewards
        assert step.truncations.all() == step.truncations.any() == (t == 199)
        assert not step.terminations.any()
    standing = [family.reference_returns(mdp)["standing"] for mdp in family.test_mdps()]
    np.testing.assert_allclose(total, standing, atol=4)  # it drops into its resting pose first


def test_hopper_falls_into_a_terminal_state():
    family = HOPPER_VELOCITY
    simulator = family.simulator([family.train[0]] * 4, seed=0)
    simulator.reset()
    fallen = np.zeros(4, bool)
    for _ in range(200):
        step = simulator.step(np.zeros((4, 3)))
        height, angle = step.observations[:, 0], step.observations[:, 1]
        np.testing.assert_array_equal(step.terminations, (height <= 0.7) | (np.abs(angle) >= 0.2))
        assert not step.truncations.any()
        fallen |= step.terminations
    assert fallen.all()


def test_hopper_falls_by_height_angle_or_any_wild_state():
    positions, velocities = np.tile([50.0, 1.25, 0, 0, 0, 0], (8, 1)), np.zeros((8, 6))
    positions[1, 1] = 0.7
    positions[2:4, 2] = 0.2, -0.2
    positions[4, 5] = -100
    velocities[5:7, [0, 5]] = [[100, 0], [0, -100]]
    velocities[7] = 99
    fallen = hopper_fell(positions, velocities)
    np.testing.assert_array_equal(fallen, [False, True, True, True, True, True, True, False])


def test_hopper_timeout_is_no_terminal_state():
    family = HOPPER_VELOCITY
    simulator = family.simulator([family.train[0]], seed=0)
    simulator.reset()
    state = simulator.state()
    state["steps"][:] = 999  # upright, one step before the horizon
    simulator.restore(state)
    step = simulator.step(np.zeros((1, 3)))
    assert step.truncations[0]
    assert not step.terminations[0]
    state["physics"][0, 2] = 0.5  # the same, lying
    simulator.restore(state)
    step = simulator.step(np.zeros((1, 3)))
    assert step.terminations[0]
    assert not step.truncations[0]


def test_hopper_observes_clipped_velocities():
    simulator = HOPPER_VELOCITY.simulator([HOPPER_VELOCITY.train[0]], seed=0)
    simulator.reset()
    state = simulator.state()
    state["physics"][0, 7:] = 50.0
    simulator.restore(state)
    assert (simulator.reset(np.zeros(1, bool))[0, 5:] == 10).all()


@VELOCITY
def test_an_unstable_simulation_is_marked_and_cut(family, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo's log
    mdps = [family.train[0]] * 3
    simulator, calm = family.simulator(mdps, seed=0), family.simulator(mdps, seed=0)
    calm.reset()
    simulator.reset()
    state = simulator.state()
    state["physics"][1, -1] = 1e12
    simulator.restore(state)
    still = np.zeros((3, family.action_dim))
    step, expected = simulator.step(still), calm.step(still)
    np.testing.assert_array_equal(step.infos["invalid"], [0, 1, 0])
    np.testing.assert_array_equal(step.truncations, [False, True, False])
    assert not step.terminations.any()
    assert np.isfinite(step.observations).all()
    assert np.isfinite(step.rewards).all()
    np.testing.assert_array_equal(step.observations[[0, 2]], expected.observations[[0, 2]])
    simulator.reset(step.truncations)
    assert not simulator.step(still).infos["invalid"].any()


@ALL
def test_refuses_what_it_cannot_step(family):
    simulator = family.simulator(family.train_mdps()[:2], seed=0)
    still = np.zeros((2, family.action_dim))
    with pytest.raises(BmrlError, match="reset"):
        simulator.step(still)
    simulator.reset(np.array([True, False]))
    with pytest.raises(BmrlError, match="reset"):
        simulator.step(still)
    simulator.reset()
    for bad in (np.nan, np.inf, 1.001):
        with pytest.raises(BmrlError, match=r"\[-1, 1\]"):
            simulator.step(np.full_like(still, bad))
    with pytest.raises(BmrlError, match="shape"):
        simulator.step(still[:1])
    with pytest.raises(BmrlError, match="at least one"):
        family.simulator([], seed=0)
    with pytest.raises(BmrlError, match="seed"):
        family.simulator(family.train_mdps(), seed=-1)
    with pytest.raises(BmrlError, match="shape"):
        simulator.restore(family.simulator(family.train_mdps()[:1], seed=0).state())
    with pytest.raises(BmrlError, match="state has"):
        simulator.restore({})


def test_point_goal_frames():
    simulator = POINT.simulator([{"goal_angle": 0.0}], seed=0)
    simulator.reset()
    simulator.step(np.array([[1.0, 0.5]]))
    simulator.step(np.array([[1.0, 0.5]]))
    move, *cross = simulator.frames()[0]
    np.testing.assert_array_equal(move, [[1, 0.5], [2, 1]])
    np.testing.assert_allclose(np.mean(cross, axis=1), [[10, 0]] * 2, atol=1e-6)


@VELOCITY
def test_bodies_are_drawn_above_the_ground_and_move_along(family):
    simulator = family.simulator([family.train[0]], seed=0)
    simulator.reset()
    frames = simulator.frames()[0]
    assert len(frames) == {"halfcheetah-velocity": 8, "hopper-velocity": 4}[family.name]
    lengths = np.linalg.norm(frames[:, 0] - frames[:, 1], axis=-1)
    expected = {"halfcheetah-velocity": [1.0, 0.3], "hopper-velocity": [0.4, 0.45]}[family.name]
    np.testing.assert_allclose(lengths[:2], expected, rtol=1e-5)  # torso and head; torso and thigh
    assert frames[..., 1].min() > 0
    state = simulator.state()
    state["physics"][0, 1] += 7
    simulator.restore(state)
    np.testing.assert_allclose(simulator.frames()[0] - frames, [[[7, 0]] * 2] * len(frames), atol=1e-5)
