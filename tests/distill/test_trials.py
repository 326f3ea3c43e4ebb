"""Trials: every learner in a learned model of every MDP, beside what it returns in the MDP itself."""

import functools
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from distill import toy

from bmrl import parallel
from bmrl.batch_rl import Targets
from bmrl.batch_rl.teach import spec_of
from bmrl.distill.distill import TDConfig, data_statistics, distill
from bmrl.distill.reward_model import RewardModelConfig, fit_reward_model
from bmrl.distill.trials import ROLLOUTS, check_trials, trials
from bmrl.errors import BmrlError
from bmrl.runs.metrics import Metrics

PUSH = np.array([0.3, -0.2, 0.1])  # how far an action of 1 moves x in each MDP
GAINS = np.array([1.0, -1.0, 0.0], np.float32)  # of the learners: what leads to x = 0 in one MDP leads away in another
MODEL = RewardModelConfig((64,), updates=3000, batch_size=256, learning_rate=1e-2, next_observations=True)
STEPS = 5  # of a logged episode, and so of a rollout


@dataclass(frozen=True)
class Gain:
    """Acts by -gain sign(x), the gain being its state."""

    batch_size: int = 1

    def act(self, state, observations, key):
        return -state * jnp.sign(observations[..., :1])


def moved(x, action, mdp):
    return np.clip(x + PUSH[mdp] * action, -1, 1)


def logged(mdp, terminates=False):
    """Episodes of random actions, which pay -|x'|. The second observation is noise."""
    rng, found = np.random.default_rng(mdp), []
    for _ in range(150):
        actions, x = rng.uniform(-1, 1, (STEPS, 1)), [rng.uniform(-0.8, 0.8)]
        for action in actions[:, 0]:
            x.append(moved(x[-1], action, mdp))
        found.append((np.stack([x, rng.normal(size=STEPS + 1)], 1), actions, -np.abs(x[1:]), terminates))
    return found


def returns(first, gain, mdp):
    """What a gain earns in the MDP itself."""
    x, total = first, 0.0
    for _ in range(STEPS):
        x = moved(x, -gain * np.sign(x), mdp)
        total -= np.abs(x)
    return total.mean()


def fitted(replay):
    inputs, key = data_statistics(replay)[1], parallel.learner_keys(0, "model", 1)[0]
    return fit_reward_model(replay, inputs, spec_of(replay), MODEL, key)[0]


def test_trials_are_what_learners_return_in_the_mdps(tmp_path):
    replay = toys.replay(tmp_path, [logged(mdp) for mdp in range(3)])
    found = trials(Gain(), jnp.asarray(GAINS)[:, None], fitted(replay), replay, seed=4)
    assert found.shape == (3, 3)
    for mdp, log in enumerate(replay.logs):
        drawn = np.random.default_rng([4, mdp]).integers(0, log.size, ROLLOUTS)
        first = log.take(log.starts(drawn)).observations[:, 0]
        np.testing.assert_allclose(found[mdp], [returns(first, gain, mdp) for gain in GAINS], atol=0.5)
    np.testing.assert_array_equal(found.argmax(1), [0, 1, 0])


def test_what_is_foretold_stays_within_what_was_logged(tmp_path):
    replay = toys.replay(tmp_path, [logged(mdp) for mdp in range(3)])
    found = trials(Gain(), jnp.full((3, 1), -50.0), fitted(replay), replay, seed=0)
    assert (found > -20.0 * STEPS).all()  # x itself would have left [-1, 1] by tens at each step


def test_logs_with_terminations_are_refused(tmp_path):
    replay = toys.replay(tmp_path, [logged(0), logged(1, terminates=True)])
    check_trials(replay.of([0]), ["mdp-002"])
    with pytest.raises(BmrlError, match="episodes of mdp-004 terminate"):
        check_trials(replay, ["mdp-002", "mdp-004"])


def test_trials_that_are_not_finite_are_refused(tmp_path):
    replay = toys.replay(tmp_path, [logged(0)])
    with pytest.raises(BmrlError, match="goes on to infinity"):
        trials(Gain(), jnp.full((1, 1), jnp.nan), fitted(replay), replay, seed=0)


BY_TRIALS = replace(
    toy.CONFIG,
    updates=20,
    student=replace(toy.STUDENT, trials=True),
    reward_model=replace(toy.REWARD_MODEL, updates=20, next_observations=True),
)


def distilled(tmp_path, config, tried, values_alone=False):
    replay = toy.replay(tmp_path / "batches")
    metrics, checkpoints = Metrics(tmp_path / "metrics.csv"), tmp_path / "checkpoints"
    bound, targets = toy.MAX_CORRECTION, toy.targets(replay)
    targets = Targets(targets.values) if values_alone else targets
    return distill(replay, targets, bound, config, 0, checkpoints, metrics, "distill", 1e9, tried=tried)


def test_a_student_keeps_the_trials_as_they_are(tmp_path):
    table, asked = np.arange(9.0, dtype=np.float32).reshape(3, 3), []

    def tried(model):
        asked.append(model.next_observations)
        return table

    student = distilled(tmp_path, BY_TRIALS, tried)
    assert asked == [True]
    np.testing.assert_array_equal(student.encoder.trials, table)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reward_model": toy.REWARD_MODEL}, "trials need a model of the MDPs"),
        ({"context": replace(toy.CONFIG.context, relabel=False)}, "trials need a model of the MDPs"),
        ({"student": replace(BY_TRIALS.student, pooling="mean")}, "trials weigh train MDPs"),
        ({"student": replace(BY_TRIALS.student, labels=False)}, "trials weigh train MDPs"),
        ({"student": replace(BY_TRIALS.student, mean_action=True)}, "trials weigh train MDPs"),
    ],
)
def test_trials_that_could_not_be_used_are_refused(tmp_path, change, says):
    with pytest.raises(BmrlError, match=f"distill: {says}"):
        distilled(tmp_path, replace(BY_TRIALS, **change), functools.partial(pytest.fail, "asked"))


def test_td_targets_of_a_policy_of_one_action_are_refused(tmp_path):
    config = replace(toy.CONFIG, td=TDConfig(), student=replace(toy.CONFIG.student, mean_action=True))
    with pytest.raises(BmrlError, match="distill: td takes the best of several actions"):
        distilled(tmp_path, config, functools.partial(pytest.fail, "asked"))


def test_trials_of_learners_without_candidates_are_refused(tmp_path):
    with pytest.raises(BmrlError, match="trials need learners that propose actions"):
        distilled(tmp_path, BY_TRIALS, functools.partial(pytest.fail, "asked"), values_alone=True)
