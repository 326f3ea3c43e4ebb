"""A batch-RL algorithm that bmrl does not know, through all of training. Its values are known."""

import json
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from distill import toy

from bmrl import BmrlError, Targets, get_experiment
from bmrl.batch_rl import TD3BC
from bmrl.batch_rl.base import check_algorithm, check_shapes
from bmrl.batch_rl.teach import TeachConfig
from bmrl.config import to_json
from bmrl.learned import load_learners
from bmrl.networks import Normaliser
from bmrl.pipeline import open_run, start_run, teach_stage
from bmrl.types import Spec


class MeanState(NamedTuple):
    normaliser: Normaliser
    reward: jax.Array


@dataclass(frozen=True)
class Mean:
    """Learns the mean reward of its batch, and goes the same way everywhere."""

    rate: float = 0.1
    batch_size: int = 8
    way: tuple[float, ...] = (0.5,)

    def init(self, key, spec, normaliser):
        return MeanState(normaliser, jnp.zeros(()))

    def update(self, state, batch, key):
        error = batch.rewards.mean() - state.reward
        return state._replace(reward=state.reward + self.rate * error), {"error": error**2}

    def act(self, state, observations, key):
        return jnp.broadcast_to(jnp.asarray(self.way), (len(observations), 1))

    def targets(self, state, observations, actions, key):
        values = jnp.broadcast_to(state.reward, (len(observations),))
        return Targets(values, jnp.zeros((len(observations), 0)), self.act(state, observations, key))


def odd(**functions):
    """An algorithm of which some functions are others."""
    return dataclass(frozen=True)(type("Odd", (Mean,), {"__annotations__": {}, **functions}))()


@pytest.mark.parametrize(
    ("functions", "says"),
    [
        ({"update": lambda self, state, batch, key: state}, "update gives no pair of the next state and a dict"),
        ({"update": lambda self, state, batch, key: (state, {"l": batch.rewards})}, "update: one number for each loss"),
        (
            {"update": lambda self, state, batch, key: (state._replace(reward=batch.rewards), {})},
            "update: a state of the same arrays",
        ),
        ({"update": lambda self, state, batch, key: batch.nothing}, "update fails: AttributeError: .*nothing"),
        ({"act": lambda self, state, observations, key: observations[:, 0]}, r"act: an array of actions \[n, 1\]"),
        ({"targets": lambda self, state, s, a, key: s[:, 0]}, "targets: an instance of bmrl.Targets"),
        ({"targets": lambda self, state, s, a, key: Targets(a)}, r"targets: values of shape \[n\]"),
    ],
)
def test_what_functions_give_is_checked_before_anything_is_trained(functions, says):
    with pytest.raises(BmrlError, match=f"Odd.{says}"):
        check_shapes(odd(**functions), Spec(1, 1))


@pytest.mark.parametrize(("field", "size"), [("batch_size", 0), ("batch_size", 2.5), ("window", 0)])
def test_sizes_that_are_none_are_refused(field, size):
    with pytest.raises(BmrlError, match=f"the algorithm Odd has {field} {size}: a whole number from 1 on is needed"):
        check_algorithm(replace(odd(), **{field: size}) if field == "batch_size" else odd(**{field: size}))


LOGS = [toy.episodes(mdp, [4] * 20) for mdp in range(3)]


def begin(directory, algorithm):
    """A run of the toy's three MDPs, whose batches are there already."""
    experiment = get_experiment("point-goal", "smoke", seed=0)
    experiment = replace(experiment, teach={"default": TeachConfig(algorithm, updates=200)})
    if not directory.exists():
        toys.write(directory / "batches", LOGS)
    return start_run(directory, experiment)


def test_it_is_trained_saved_and_resumed(tmp_path, monkeypatch):
    algorithm = Mean(rate=0.05)
    teach_stage(whole := begin(tmp_path / "whole", algorithm))

    toys.kill_at_log(monkeypatch, 4)
    with pytest.raises(toys.Killed):
        teach_stage(begin(tmp_path / "killed", algorithm))
    monkeypatch.undo()
    teach_stage(killed := begin(tmp_path / "killed", algorithm), resume=True)

    taught = whole.experiment.teach["default"]
    one, other = (load_learners(run.directory / "teachers" / "default", taught) for run in (whole, killed))
    assert one.algorithm is algorithm
    np.testing.assert_array_equal(one.states.reward, other.states.reward)
    rewards = [np.concatenate([episode[2] for episode in episodes]).mean() for episodes in LOGS]
    np.testing.assert_allclose(one.states.reward, rewards, atol=0.1)


def test_a_file_names_it_and_loads_nothing(tmp_path):
    run = begin(tmp_path / "run", Mean())
    config = json.loads((run.directory / "config.json").read_text())
    assert config["teach"]["default"]["algorithm"] == {
        "algorithm": "Mean",
        "rate": 0.1,
        "batch_size": 8,
        "way": [0.5],
    }
    with pytest.raises(BmrlError, match=r"config.json: 'Mean' is none of SAC, BCQ, .* with bmrl.run @ \$\.teach"):
        open_run(run.directory)
    with pytest.raises(BmrlError, match=r"algorithm\.rate: 0\.1 -> 0\.2"):
        begin(run.directory, Mean(rate=0.2))


@dataclass(frozen=True)
class Half:
    batch_size: int = 8

    def init(self, key, spec, normaliser): ...

    def update(self, state, batch, key): ...


@dataclass
class Loose:
    batch_size: int = 8


Namesake = dataclass(frozen=True)(type("SAC", (Mean,), {}))


@pytest.mark.parametrize(
    ("algorithm", "says"),
    [
        (Half(), "Half has no act, targets"),
        (object(), "object is no frozen dataclass"),
        (Loose(), "Loose is no frozen dataclass"),
        (Mean(way=[0.5]), "Mean has a field that may change .* use tuples"),
        (Namesake(), "an algorithm of bmrl is called SAC"),
    ],
)
def test_what_is_no_algorithm_is_refused_before_anything_runs(algorithm, says, tmp_path):
    with pytest.raises(BmrlError, match=says):
        begin(tmp_path / "run", algorithm)
    assert not (tmp_path / "run" / "config.json").exists()


def test_what_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(BmrlError, match=r"config.json"):
        begin(tmp_path / "run", Mean(rate=jnp.tanh))


def test_those_of_bmrl_are_told_apart_by_the_same_word():
    assert to_json(TeachConfig(TD3BC(greed=1.0), 5))["algorithm"]["algorithm"] == "TD3BC"
