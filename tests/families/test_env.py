"""The registered Gymnasium environments."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from bmrl.errors import BmrlError
from bmrl.families import FAMILIES

ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@pytest.mark.parametrize("first", ["import gymnasium", "import bmrl, gymnasium"])
def test_gymnasium_finds_them_by_module_prefix(first):
    """In a fresh interpreter, where nothing but the prefix says where they are; and where bmrl was there before."""
    code = (
        f"{first};"
        "env = gymnasium.make('bmrl:bmrl/HalfCheetahVelocity-v0', target_velocity=0.475);"
        "print(env.reset(seed=0)[0].shape, env.spec.max_episode_steps)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(17,) 200"


def test_importing_bmrl_imports_no_family():
    code = "import bmrl, sys; print([m for m in sys.modules if m.startswith(('bmrl.', 'mujoco', 'jax'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['bmrl.registration']"


@ALL
@pytest.mark.filterwarnings("ignore:.*A Box observation space m:UserWarning")  # unbounded, as Gymnasium's own
def test_passes_gymnasiums_checks(family):
    check_env(family.make_env(**family.test[0]).unwrapped)


@ALL
def test_registration_agrees_with_the_family(family):
    spec = family.make_env(**family.test[0]).spec
    assert spec.id == family.env_id
    assert spec.max_episode_steps == family.horizon
    assert spec.kwargs == {"family": family.name, **family.test[0]}


@ALL
def test_equals_the_simulator(family):
    env = family.make_env(**family.test[1])
    observation, _ = env.reset(seed=4)
    simulator = env.unwrapped._family.simulator([family.test[1]], env.unwrapped._simulator.seed)
    np.testing.assert_array_equal(simulator.reset()[0], observation)
    env.action_space.seed(0)
    for _ in range(300):
        action = env.action_space.sample()
        observation, reward, terminated, truncated, infos = env.step(action)
        step = simulator.step(action[None])
        np.testing.assert_array_equal(observation, step.observations[0])
        assert (reward, terminated, truncated) == (step.rewards[0], step.terminations[0], step.truncations[0])
        assert infos == {name: values[0] for name, values in step.infos.items()}
        if terminated or truncated:
            observation, _ = env.reset()
            np.testing.assert_array_equal(observation, simulator.reset()[0])


def test_seeds():
    env = gymnasium.make("bmrl:bmrl/HopperVelocity-v0", target_velocity=1.1)
    first, second = env.reset(seed=1)[0], env.reset()[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(env.reset(seed=1)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)
    assert not np.array_equal(env.reset(seed=2)[0], first)


def test_errors():
    with pytest.raises(BmrlError, match="missing parameter 'target_velocity'"):
        gymnasium.make("bmrl:bmrl/HalfCheetahVelocity-v0")
    with pytest.raises(BmrlError, match="unknown parameter 'goal'"):
        gymnasium.make("bmrl:bmrl/PointGoal-v0", goal=1.0)
    env = gymnasium.make("bmrl:bmrl/PointGoal-v0", goal_angle=1.0).unwrapped
    with pytest.raises(BmrlError, match="reset"):
        env.step(np.zeros(2))
    env.reset()
    with pytest.raises(BmrlError, match=r"\[-1, 1\]"):
        env.step(np.full(2, 2.0))
