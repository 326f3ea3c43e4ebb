"""Three MDPs on a line, told apart by their rewards alone. What their teachers say is known in closed form."""

import numpy as np
from batch_rl import toys

from bmrl.batch_rl import Targets
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.distill import DistillConfig, distill
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.distill.student import StudentConfig
from bmrl.runs.metrics import Metrics

GOALS = np.array([-1.0, 0.2, 1.0])
MAX_CORRECTION = 0.05
LENGTHS = ([4] * 150, [3] * 150, [5] * 120 + [2])  # of each MDP's episodes: 600, 450 and 602 transitions

STUDENT = StudentConfig(
    identity_dim=4,
    pooling="posterior",
    encoder_hidden=(32,),
    auxiliary_hidden=(),
    auxiliary_dim=8,
    prediction_hidden=(8,),
    value_hidden=(32,),
    candidate_hidden=(16,),
    correction_hidden=(16,),
)
REWARD_MODEL = RewardModelConfig((32,), embedding_dim=3, updates=1500, batch_size=128, learning_rate=1e-2)
CONFIG = DistillConfig(
    STUDENT,
    ContextConfig(4, draw="mixed", relabel=True),
    updates=1000,
    contexts=16,
    queries=8,
    learning_rate=1e-2,
    predict_next=True,
    reward_model=REWARD_MODEL,
)


def reward(x_next, mdp):
    return -np.abs(x_next - GOALS[mdp])


def value(x, action, mdp):
    """Q*: anything that depends on the MDP will do."""
    return -2 * np.abs(x + 0.1 * action - GOALS[mdp]) + 0.5 * action * GOALS[mdp]


def candidate(x, z, mdp):
    return np.tanh(0.5 * x + z[..., 0] + GOALS[mdp])


def correction(action, mdp):
    return MAX_CORRECTION * np.tanh(action * GOALS[mdp])


def episodes(mdp, lengths=None, seed=0):
    """Random walks of x in [-1, 1]; the second observation is noise."""
    rng = np.random.default_rng([mdp, seed])
    out = []
    for length in lengths or LENGTHS[mdp]:
        actions = rng.uniform(-1, 1, (length, 1))
        x = np.clip(rng.uniform(-1, 1) + np.concatenate([[0], 0.3 * actions[:, 0].cumsum()]), -1, 1)
        observations = np.stack([x, rng.normal(size=length + 1)], axis=1)
        out.append((observations, actions, reward(x[1:], mdp), False))
    return out


def replay(directory):
    return toys.replay(directory, [episodes(mdp) for mdp in range(3)])


def targets(replay):
    """The teachers' targets, [3, n, ...]."""
    mdp = np.arange(3)[:, None]
    logged = toys.padded(replay)
    x = logged.observations[..., 0]
    z = np.random.default_rng(0).normal(size=(*x.shape, 2)).clip(-0.5, 0.5).astype(np.float32)
    actions = candidate(x, z, mdp)
    values = value(x, logged.actions[..., 0], mdp).astype(np.float32)
    return Targets(values, z, *(v[..., None].astype(np.float32) for v in (actions, correction(actions, mdp))))


def train(replay, directory, seed=0, checkpoint_seconds=1e9):
    """Phase 2."""
    directory.mkdir(exist_ok=True)
    metrics, checkpoints = Metrics(directory / "metrics.csv"), directory / "checkpoints"
    return distill(
        replay, targets(replay), MAX_CORRECTION, CONFIG, seed, checkpoints, metrics, "distill", checkpoint_seconds
    )
