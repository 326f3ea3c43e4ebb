"""Phase 1: K learners trained in one compiled program, each from its own frozen batch; the last iterate is kept."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bmrl import parallel
from bmrl.batch_rl.base import Algorithm
from bmrl.batch_rl.bcq import BCQ
from bmrl.batch_rl.cloning import Cloning
from bmrl.batch_rl.replay import Replay
from bmrl.batch_rl.sac import SAC
from bmrl.batch_rl.td3_bc import TD3BC
from bmrl.networks import Normaliser
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.training import train
from bmrl.types import Spec, Watch


@dataclass(frozen=True)
class TeachConfig:
    """Which algorithm learns from each batch, and for how long."""

    algorithm: SAC | BCQ | TD3BC | Cloning
    updates: int  # gradient steps of each learner


def spec_of(replay: Replay) -> Spec:
    """The sizes that the networks need, read off the data."""
    return Spec(replay.observations.shape[-1], replay.actions.shape[-1])


def teacher_template(algorithm: Algorithm, spec: Spec, learners: int) -> Any:
    """Shapes of K stacked learners, to load saved ones into."""
    one = functools.partial(algorithm.init, spec=spec, normaliser=Normaliser.identity(spec.observation_dim))
    return jax.eval_shape(jax.vmap(one), jnp.zeros((learners, 2), jnp.uint32))


def teach(
    replay: Replay,
    config: TeachConfig,
    seed: int,
    checkpoints: Path,
    metrics: Metrics,
    stage: str,
    checkpoint_seconds: float,
    watch: Watch | None = None,
) -> Any:
    """Train one learner for each of the K batches of ``replay``; goes on from the newest checkpoint.

    Returns the learners' states as numpy arrays [K, ...]. Every learner starts from the same weights, so that
    their generators' latents start aligned: phase 2 averages over teachers, and unaligned ones would blur.

    Raises BmrlError for a learner that diverges.
    """
    learners, spec = len(replay.size), spec_of(replay)
    keys = parallel.learner_keys(seed, stage, learners)
    init, program = _programs(config.algorithm, spec)
    states, step = None, 0
    if found := latest_checkpoint(checkpoints, teacher_template(config.algorithm, spec, learners)):
        step, states, _ = found
    metrics.truncate(stage, step)

    data, keys = parallel.shard((replay, np.asarray(keys)))
    states = (
        init(data, jnp.asarray(parallel.learner_keys(seed, stage, 1)[0])) if states is None else parallel.shard(states)
    )

    def advance(states: Any, step: int, steps: int) -> tuple[Any, dict[str, np.ndarray]]:
        states, losses = program(states, data, keys, step, steps)
        return states, parallel.unshard(losses, learners)

    def snapshot(states: Any) -> Any:
        return parallel.unshard(states, learners)

    look = (lambda step, states: watch(step, snapshot(states))) if watch else None
    states = train(
        stage, config.updates, states, step, advance, snapshot, checkpoints, metrics, checkpoint_seconds, look
    )
    return snapshot(states)


@functools.lru_cache(maxsize=8)
def _programs(algorithm: Algorithm, spec: Spec) -> tuple[Any, Any]:
    """The compiled programs of phase 1: start K learners, and train them for a number of steps."""

    def init(replay: Replay, key: jax.Array) -> Any:
        return algorithm.init(key, spec, batch_normaliser(replay))

    def train(state: Any, replay: Replay, key: jax.Array, start: jax.Array, steps: jax.Array) -> Any:
        def body(i: jax.Array, carry: Any) -> Any:
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, start + i))
            return algorithm.update(carry[0], replay.sample(sample_key, algorithm.batch_size), update_key)

        shapes = jax.eval_shape(lambda: body(jnp.int32(0), (state, None))[1])
        nothing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)
        return jax.lax.fori_loop(0, steps, body, (state, nothing))

    return parallel.over_learners(init, replicated=1), parallel.over_learners(
        train, replicated=2, donate=(0,), one_by_one=True
    )


def batch_normaliser(replay: Replay) -> Normaliser:
    """Observation statistics of one batch; a constant column keeps scale 1."""
    last = replay.rows[replay.size - 1] + 1
    mask = (jnp.arange(len(replay.observations)) <= last)[:, None] / (last + 1)
    mean = (mask * replay.observations).sum(0)
    scale = jnp.sqrt((mask * (replay.observations - mean) ** 2).sum(0))
    return Normaliser(mean, jnp.where(scale > 1e-6, scale, 1.0))
