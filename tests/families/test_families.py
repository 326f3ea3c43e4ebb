"""Families: their grids, parameters and rewards."""

import math
from dataclasses import replace

import numpy as np
import pytest

import bmrl
from bmrl.errors import BmrlError
from bmrl.families import FAMILIES, get_family

CHEETAH = FAMILIES["halfcheetah-velocity"]
HOPPER = FAMILIES["hopper-velocity"]
POINT = FAMILIES["point-goal"]


def velocities(mdps):
    return [mdp["target_velocity"] for mdp in mdps]


def test_grids_are_the_papers():
    assert velocities(CHEETAH.train_mdps()) == pytest.approx(np.linspace(0, 1.5, 31)[1:-1])
    assert velocities(CHEETAH.validation_mdps()) == [0.225, 0.775, 1.225]
    assert velocities(CHEETAH.test_mdps()) == [0.475, 1.075, 1.475]
    assert velocities(HOPPER.train_mdps()) == pytest.approx(np.arange(0, 2.35, 0.15))
    assert velocities(HOPPER.validation_mdps()) == [0.375, 0.975, 1.725]
    assert velocities(HOPPER.test_mdps()) == [0.2, 1.1, 2.0]
    assert POINT.train_mdps() == POINT.test_mdps() == tuple({"goal_angle": a} for a in (0, math.pi / 2, math.pi))
    assert (len(CHEETAH.train_mdps()), len(HOPPER.train_mdps())) == (29, 16)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_test_mdp_may_be_in_no_other_split(split):
    nearly = ({"target_velocity": CHEETAH.test[0]["target_velocity"] + 1e-9},)
    with pytest.raises(BmrlError, match=f"{split} and test"):
        replace(CHEETAH, **{split: nearly})


def test_shared_test_mdps_must_be_declared():
    with pytest.raises(BmrlError, match="train and test"):
        replace(POINT, test_is_train=False)
    with pytest.raises(BmrlError, match="train and validation"):  # the declaration covers nothing else
        replace(POINT, validation=POINT.train)


def test_a_grid_must_lie_in_the_bounds():
    with pytest.raises(BmrlError, match="target_velocity"):
        replace(CHEETAH, train=({"target_velocity": 1.6},))


def test_a_family_without_mdps_or_steps_is_none():
    for split in ("train", "test"):
        with pytest.raises(BmrlError, match=f"point-goal: {split} has no MDP: name at least one"):
            replace(POINT, **{split: ()})
    with pytest.raises(BmrlError, match="point-goal: horizon is 0: a whole number from 1 on is needed"):
        replace(POINT, horizon=0)
    assert replace(POINT, validation=()).validation_mdps() == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"bounds": {"goal_angle": (0.0, 0.0)}}, r"bounds of 'goal_angle' are \(0.0, 0.0\): two numbers are needed"),
        ({"bounds": {"goal_angle": (0.0, np.inf)}}, "two numbers are needed, low < high"),
        ({"bounds": {"goal_angle": 0.2}}, "two numbers are needed, low < high"),
        ({"bounds": {"../x": (0.0, 1.0)}}, "a parameter is named '../x'"),
        ({"logarithmic": ("goal_angle",)}, "'goal_angle' is logarithmic and its bounds begin at 0"),
        ({"logarithmic": "goal_angle"}, "logarithmic"),
        ({"logarithmic": ("angle",)}, "a tuple of the parameters' names is needed"),
        ({"horizon": 50.5}, "horizon is 50.5: a whole number"),
        ({"action_dim": 0}, "action_dim is 0: a whole number"),
        ({"discount": 2}, "discount is 2: a number from 0 to below 1 is needed"),
    ],
)
def test_families_that_are_none_are_refused_when_they_are_made(changed, says):
    with pytest.raises(BmrlError, match=says):
        replace(POINT, **changed)


def test_returned_mdps_are_copies():
    CHEETAH.test_mdps()[0]["target_velocity"] = 0.05
    assert velocities(CHEETAH.test_mdps()) == [0.475, 1.075, 1.475]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_samples_are_valid_and_repeatable(family):
    mdps = family.sample(np.random.default_rng(0), 50)
    assert mdps == family.sample(np.random.default_rng(0), 50)
    assert [family.validate(mdp) for mdp in mdps] == list(mdps)
    assert len({tuple(mdp.values()) for mdp in mdps}) == 50


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"speed": 1.0}, "unknown parameter 'speed'; it has target_velocity in [0, 1.5]"),
        ({}, "missing parameter 'target_velocity'; it needs target_velocity in [0, 1.5]"),
        ({"target_velocity": 1.51}, "target_velocity is 1.51; allowed: target_velocity in [0, 1.5]"),
        ({"target_velocity": -0.1}, "target_velocity is -0.1; allowed"),
        ({"target_velocity": math.nan}, "target_velocity is nan; allowed"),
        ({"target_velocity": math.inf}, "target_velocity is inf; allowed"),
        ({"target_velocity": "fast"}, "target_velocity is 'fast'; allowed"),
        ({"target_velocity": None}, "target_velocity is None; allowed"),
    ],
)
def test_bad_parameters(parameters, message):
    for refuse in (
        CHEETAH.validate,
        CHEETAH.reference_returns,
        lambda mdp: CHEETAH.make_env(**mdp),
        lambda mdp: CHEETAH.simulator([mdp], seed=0),
    ):
        with pytest.raises(BmrlError) as error:
            refuse(parameters)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_unknown_family_lists_the_names():
    with pytest.raises(BmrlError, match="'cheetah'; the families are point-goal, halfcheetah-velocity, hopper-velo"):
        get_family("cheetah")
    assert get_family("point-goal") is POINT


def test_point_goal_reward_by_hand():
    # (3, 0) + (0, 1): to the goal (0, 10) it is 9 up and 3 left
    rewards = POINT.reward({"goal_angle": math.pi / 2}, np.array([3.0, 0]), np.array([0, 1.0]), np.array([3.0, 1]), {})
    assert rewards == pytest.approx(-math.sqrt(90))


def test_velocity_rewards_by_hand():
    observations, actions = np.zeros((2, 17)), np.array([[1.0, -1, 0.5, 0, 0, 0], np.zeros(6)])
    infos = {"x_velocity": np.array([0.3, 2.0])}
    rewards = CHEETAH.reward({"target_velocity": 0.5}, observations, actions, observations, infos)
    assert rewards == pytest.approx([-0.2 - 0.05 * 2.25, -1.5])
    observations, actions = np.zeros((2, 11)), np.array([[1.0, -1, 0.5], np.zeros(3)])
    rewards = HOPPER.reward({"target_velocity": 0.5}, observations, actions, observations, infos)
    assert rewards == pytest.approx([1 - 0.2 - 0.001 * 2.25, 1 - 1.5])


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_rewards_broadcast_over_leading_axes_and_mdps(family):
    rng = np.random.default_rng(0)
    mdps = family.sample(rng, 3)
    observations, next_observations = rng.normal(size=(2, 4, 3, family.observation_dim))
    actions = rng.uniform(-1, 1, (4, 3, family.action_dim))
    infos = {"x_velocity": rng.normal(size=(4, 3))}
    columns = {name: np.array([mdp[name] for mdp in mdps]) for name in family.parameter_names}
    together = family.reward(columns, observations, actions, next_observations, infos)
    assert together.shape == (4, 3)
    for i, mdp in enumerate(mdps):
        one = [array[:, i] for array in (observations, actions, next_observations)]
        np.testing.assert_allclose(family.reward(mdp, *one, {"x_velocity": infos["x_velocity"][:, i]}), together[:, i])


def test_reference_returns():
    for mdp in POINT.train_mdps():
        assert POINT.reference_returns(mdp) == pytest.approx({"optimal": -45.0, "standing": -200.0})
    standing = [CHEETAH.reference_returns(mdp)["standing"] for mdp in CHEETAH.test_mdps()]
    assert standing == pytest.approx([-95, -215, -295])
    standing = [HOPPER.reference_returns(mdp)["standing"] for mdp in HOPPER.test_mdps()]
    assert standing == pytest.approx([800, -100, -1000])
    assert CHEETAH.reference_returns({"target_velocity": 1})["ideal"] == 0
    assert HOPPER.reference_returns({"target_velocity": 1})["ideal"] == 1000


def test_version():
    assert bmrl.__version__
