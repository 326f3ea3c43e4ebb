"""The families whose physics vary: which MDPs they have, and that the physics really differ."""

import numpy as np
import pytest

from bmrl.families.dynamics import HALF_CHEETAH_DYNAMICS, HALF_CHEETAH_VELOCITY_DYNAMICS, halton
from bmrl.families.velocity import HALF_CHEETAH, HALF_CHEETAH_VELOCITY, HOPPER, NOMINAL, load_model

BOTH = pytest.mark.parametrize(
    "family", [HALF_CHEETAH_DYNAMICS, HALF_CHEETAH_VELOCITY_DYNAMICS], ids=lambda family: family.name
)
ROOT = 3  # x, z and the angle, before the joints


def test_haltons_sequence_by_hand():
    assert [halton(i, 2) for i in range(1, 6)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8]
    assert [halton(i, 3) for i in range(1, 6)] == pytest.approx([1 / 3, 2 / 3, 1 / 9, 4 / 9, 7 / 9])


def test_the_mdps_are_its_points():
    train, test = HALF_CHEETAH_DYNAMICS.train_mdps(), HALF_CHEETAH_DYNAMICS.test_mdps()
    # the middle of 0.5 ... 2, a third into 0.3 ... 3 and a fifth into 0.5 ... 2, on logarithmic scales
    assert train[0] == {"mass": 1.0, "friction": 0.65, "damping": 0.66}
    assert test[0] == {"mass": 1.48, "friction": 0.77, "damping": 1.79}
    first = HALF_CHEETAH_VELOCITY_DYNAMICS.train_mdps()[0]
    assert first == {"target_velocity": 1.0, "mass": 0.79, "friction": 0.48, "damping": 0.61}


@BOTH
def test_a_fixed_set_that_fills_the_bounds(family):
    assert (len(family.train), len(family.validation), len(family.test)) == (16, 2, 4)
    assert family.transitions_vary
    train = family.coordinates(family.train)
    assert ((train > 0) & (train < 1)).all()
    assert (train.max(0) - train.min(0) > 0.7).all()
    distances = np.linalg.norm(train[:, None] - train, axis=-1) + np.eye(16)
    assert distances.min() > 0.15
    to_train = np.linalg.norm(family.coordinates(family.test)[:, None] - train, axis=-1).min(1)
    assert ((to_train > 0.2) & (to_train < 0.6)).all()  # in none of the batches, and not out of their reach


def test_coordinates_are_shares_of_the_bounds_logarithmic_for_ratios():
    low, middle, high = (
        {"target_velocity": v, "mass": m, "friction": f, "damping": d}
        for v, m, f, d in ((0.5, 0.5, 0.3, 0.5), (1.0, 1.0, np.sqrt(0.9), 1.0), (1.5, 2.0, 3.0, 2.0))
    )
    found = HALF_CHEETAH_VELOCITY_DYNAMICS.coordinates([low, middle, high])
    np.testing.assert_allclose(found, np.array([[0.0], [0.5], [1.0]]) * np.ones(4), atol=1e-12)


@BOTH
def test_samples_are_uniform_in_the_coordinates(family):
    found = family.coordinates(family.sample(np.random.default_rng(0), 2000))
    np.testing.assert_allclose(found.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(found.std(0), np.sqrt(1 / 12), atol=0.02)


@pytest.mark.parametrize("body", [HALF_CHEETAH, HOPPER], ids=lambda body: body.xml)
def test_multiples_scale_the_model(body):
    nominal, scaled = load_model(body), load_model(body, mass=2.0, friction=0.5, damping=3.0)
    np.testing.assert_allclose(scaled.body_mass, 2 * nominal.body_mass)
    np.testing.assert_allclose(scaled.body_inertia, 2 * nominal.body_inertia)
    np.testing.assert_allclose(scaled.geom_friction[:, 0], 0.5 * nominal.geom_friction[:, 0])
    np.testing.assert_allclose(scaled.dof_damping, 3 * nominal.dof_damping)
    np.testing.assert_allclose(scaled.body_subtreemass, 2 * nominal.body_subtreemass)  # MuJoCo's own sums follow
    assert nominal.dof_damping[ROOT:].min() > 0


def robots(**multiples):
    """Three robots 10 m above the ground, at rest, whose physics differ in the multiples [3]."""
    mdps = [NOMINAL | {name: x[i] for name, x in multiples.items()} for i in range(3)]
    simulator = HALF_CHEETAH_DYNAMICS.simulator(mdps, seed=0)
    simulator.reset()
    state = simulator.state()
    state["physics"][:] = 0.0
    state["physics"][:, 2] = 10.0
    return simulator, state


def joint_speeds(simulator):
    return np.linalg.norm(simulator.state()["physics"][:, 10 + ROOT :], axis=1)


def test_the_heavier_the_robot_the_less_the_same_torques_accelerate_it():
    simulator, state = robots(mass=[0.5, 1.0, 2.0])
    simulator.restore(state)
    simulator.step(np.tile([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], (3, 1)))
    speeds = joint_speeds(simulator)
    assert speeds[0] > speeds[1] > speeds[2]
    # Yet all fall alike.
    simulator.restore(state)
    simulator.step(np.zeros((3, 6)))
    np.testing.assert_allclose(simulator.state()["physics"][:, 11], -9.81 * 0.05, rtol=1e-3)


def test_the_heavier_the_robot_the_deeper_its_springs_let_it_sink():
    simulator, state = robots(mass=[0.5, 1.0, 2.0])
    state["physics"][:, 2] = 0.0
    simulator.restore(state)
    for _ in range(60):
        simulator.step(np.zeros((3, 6)))
    heights = simulator.state()["physics"][:, 2]
    assert heights[0] > heights[1] + 0.01 > heights[2] + 0.05


def test_the_more_damped_the_joints_the_sooner_they_come_to_rest():
    simulator, state = robots(damping=[0.5, 1.0, 2.0])
    state["physics"][:, 10 + ROOT :] = 5.0
    simulator.restore(state)
    simulator.step(np.zeros((3, 6)))
    speeds = joint_speeds(simulator)
    assert speeds[0] > 1.05 * speeds[1] > 1.1 * speeds[2]


def test_the_rougher_the_ground_the_less_far_a_robot_slides():
    simulator, state = robots(friction=[0.3, 1.0, 3.0])
    state["physics"][:, 2] = 0.0
    state["physics"][:, 10] = 3.0  # m/s along the track
    simulator.restore(state)
    for _ in range(10):
        simulator.step(np.zeros((3, 6)))
    slid = simulator.state()["physics"][:, 1]
    assert slid[0] > 1.2 * slid[1] > 1.3 * slid[2] > 0


def test_nominal_physics_are_the_velocity_familys():
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 1, 6)).astype(np.float32)
    one = HALF_CHEETAH_DYNAMICS.simulator([NOMINAL], seed=3)
    other = HALF_CHEETAH_VELOCITY.simulator([{"target_velocity": 1.0}], seed=3)
    np.testing.assert_array_equal(one.reset(), other.reset())
    for action in actions:
        found, expected = one.step(action), other.step(action)
        np.testing.assert_array_equal(found.observations, expected.observations)
        np.testing.assert_array_equal(found.rewards, expected.rewards)


def test_rewards_and_references_know_the_target_velocity():
    x, infos = np.zeros(17), {"x_velocity": np.array(0.4)}
    shared, varied = HALF_CHEETAH_DYNAMICS, HALF_CHEETAH_VELOCITY_DYNAMICS
    assert shared.reward(NOMINAL, x, np.ones(6), x, infos) == pytest.approx(-0.6 - 0.05 * 6)
    assert varied.reward(NOMINAL | {"target_velocity": 1.5}, x, np.zeros(6), x, infos) == pytest.approx(-1.1)
    assert shared.reference_returns(NOMINAL)["standing"] == -200
    assert varied.reference_returns(NOMINAL | {"target_velocity": 0.5})["standing"] == -100
