"""The crux: an identity that follows the reward, and a student that finds its goal from its own first steps."""

import jax
import numpy as np
import pytest

from bmrl.batch_rl.base import Targets
from bmrl.batch_rl.replay import Replay, stack
from bmrl.data import read_batches, write_batch
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.distill import DistillConfig, distill
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.distill.student import Student, StudentConfig
from bmrl.evaluate.agents import StudentAgent
from bmrl.evaluate.identity import HeldOut, relabelling_test
from bmrl.evaluate.rollout import run_episodes
from bmrl.families import get_family
from bmrl.families.point_goal import goals
from bmrl.runs.metrics import Metrics
from bmrl.types import Transition

CONTEXT = ContextConfig(size=10)
FAMILY = get_family("point-goal")
MDPS = FAMILY.train_mdps()
EPISODES, HORIZON = 100, 20


def log(seed: int, path) -> Replay:
    """Episodes from the origin whose actions are uniform and held for five steps, drawn towards each MDP's own goal."""
    rng = np.random.default_rng(seed)
    for k, mdp in enumerate(MDPS):
        actions = np.repeat(rng.uniform(-1, 1, (EPISODES, HORIZON // 5, 2)), 5, axis=1).astype(np.float32)
        actions[::2] = np.clip(actions[::2] + goals(mdp["goal_angle"]) / 10, -1, 1)
        observations = np.concatenate([np.zeros((EPISODES, 1, 2)), np.cumsum(actions, 1)], 1).astype(np.float32)
        rewards = FAMILY.reward(mdp, observations[:, :-1], actions, observations[:, 1:], {})
        write_batch(
            path / f"mdp-{k:03d}",
            observations=observations.reshape(-1, 2),
            actions=actions.reshape(-1, 2),
            rewards=rewards.reshape(-1),
            terminations=np.zeros(EPISODES * HORIZON, bool),
            truncations=np.tile(np.arange(HORIZON) == HORIZON - 1, EPISODES),
            provenance={},
        )
    return stack(read_batches(path))


def transitions(replay: Replay) -> Transition:
    """All of them, [K, n, ...]."""
    each = [log.take(np.arange(EPISODES * HORIZON)) for log in replay.logs]
    return jax.tree.map(lambda *x: np.stack(x), *each)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    """Distilled from exact values: minus the number of steps to the goal, discounted."""
    path = tmp_path_factory.mktemp("identity")
    replay = log(0, path / "batches")
    logged = transitions(replay)
    # values[j, i]: of goal j, on the batch of goal i
    to_goal = np.stack([np.abs(logged.next_observations - goals(m["goal_angle"])).max(-1) for m in MDPS])
    values = -(to_goal * (to_goal + 1) / 2).astype(np.float32)
    config = DistillConfig(
        StudentConfig(
            identity_dim=16,
            pooling="posterior",
            encoder_hidden=(128, 128),
            auxiliary_hidden=(64,),
            auxiliary_dim=32,
            prediction_hidden=(32,),
            value_hidden=(128, 128),
        ),
        CONTEXT,
        updates=8000,
        contexts=32,
        queries=8,
        queries_everywhere=True,
        reward_model=RewardModelConfig(hidden=(128, 128), updates=1500, batch_size=256),
    )
    metrics = Metrics(path / "metrics.csv")
    return distill(replay, Targets(values), 0.0, config, 0, path / "checkpoints", metrics, "distill", 1e9)


def test_the_identity_and_the_action_follow_the_reward(student: Student, tmp_path) -> None:
    of_mdps = transitions(log(1, tmp_path))
    held_out = HeldOut(of_mdps, {}, np.ones(of_mdps.rewards.shape, bool))
    result = relabelling_test(student, FAMILY, MDPS, held_out, size=10, most=10, contexts=100, seed=0)
    assert result["identity_worst"] >= 0.9
    assert result["action_worst"] >= 0.9


def test_zero_shot_from_the_running_episode_every_goal_is_reached(student: Student) -> None:
    episodes = run_episodes(FAMILY, [m for m in MDPS for _ in range(5)], StudentAgent(student, CONTEXT), seed=7)
    assert -episodes.rewards[:, -1].min() < 4.0  # of 10, after so short a training
    np.testing.assert_array_equal(episodes.identities[:, 0], 0.0)  # blank at the first step


def test_without_a_context_no_goal_is_known(student: Student) -> None:
    blank = run_episodes(FAMILY, MDPS, StudentAgent(student, CONTEXT, blank=True), seed=7)
    assert np.abs(blank.rewards[:, -1]).max() > 5
    np.testing.assert_array_equal(blank.identities, 0.0)
