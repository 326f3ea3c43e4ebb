"""Run SAC in K MDPs in lockstep and keep every transition: the replay buffers are the batches (paper, section 5)."""

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bmrl import parallel
from bmrl.batch_rl.base import unless_diverged
from bmrl.batch_rl.sac import SAC
from bmrl.collect.log import empty_log, provenance, record, write_log
from bmrl.families.base import Family, Parameters
from bmrl.networks import Normaliser
from bmrl.runs.checkpoint import latest_checkpoint, save_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.progress import Progress
from bmrl.runs.stopping import Stopped, asked, saving_first
from bmrl.runs.training import sound
from bmrl.types import Spec, Transition, Watch

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectConfig:
    """How much is collected and by which SAC."""

    collector: ClassVar[str] = "SAC"
    transitions: int  # in each MDP
    warmup: int  # of these, the first ones act uniformly at random
    warmup_hold: int = 1  # steps for which a random action of the warm-up is held: the longer, the wider it roams
    steps_per_train: int = 50  # environment steps between trainings of as many gradient steps each
    sac: SAC = field(default_factory=SAC)


def collect(
    family: Family,
    mdps: Sequence[Parameters],
    config: CollectConfig,
    seed: int,
    out: Path,
    checkpoints: Path,
    metrics: Metrics,
    checkpoint_seconds: float,
    watch: Watch | None = None,
    first: int = 0,
) -> None:
    """Fill ``out`` with one batch directory an MDP; goes on from the newest checkpoint, if there is one.

    The MDPs are numbered from ``first`` on: not from 0 where others are collected elsewhere.

    A learner that diverges goes back to where it was before that training, and goes on acting and learning from
    there: its MDP's batch is filled, and the others do not notice.

    ``watch`` looks at the learners every 1,000 steps or so and at the end.
    """
    learners = len(mdps)
    spec = Spec(family.observation_dim, family.action_dim)
    simulator = family.simulator(mdps, seed, parallel.cores())
    simulator.first = first
    keys = parallel.learner_keys(seed, "collect", learners, first)
    init = jax.jit(jax.vmap(lambda key: config.sac.init(key, spec, Normaliser.identity(spec.observation_dim))))
    explore, keep, train = _programs(config)

    states = parallel.unshard(init(jax.vmap(lambda k: jax.random.fold_in(k, 0))(keys)), learners)
    log, now, step = empty_log(learners, config.transitions, family), simulator.reset(), 0

    def whole() -> dict[str, Any]:
        host = parallel.unshard(states, learners)
        return {"states": host, "log": log, "simulator": simulator.state(), "observations": now}

    if found := latest_checkpoint(checkpoints, whole()):
        step, tree = found
        states, log, now = tree["states"], tree["log"], tree["observations"]
        simulator.restore(tree["simulator"])
    metrics.truncate("collect", step)

    states, keys = parallel.shard((states, np.asarray(keys)))
    replay = parallel.shard(
        Transition(log["observations"], log["actions"], log["rewards"], log["next_observations"], log["terminations"])
    )
    saved = time.monotonic()
    with Progress("collect", config.transitions, step) as progress, saving_first():
        while step < config.transitions:
            steps = min(config.steps_per_train, config.transitions - step)
            for t in range(step, step + steps):
                actions = explore(states, parallel.shard(now), keys, t)
                now = record(log, t, now, parallel.unshard(actions, learners), simulator)
            new = parallel.shard(Transition(*(log[f][:, step : step + steps] for f in Transition._fields)))
            train_steps = steps if step + steps > config.warmup else 0
            replay, drawn = keep(replay, new, keys, step)
            states, losses = train(states, drawn, keys, step, train_steps)
            losses = parallel.unshard(losses, learners)
            if train_steps:
                for slot in np.flatnonzero(~sound(losses)):
                    name = f"mdp-{first + slot:03d}"
                    _log.warning("collect: SAC in %s diverged; it stays as it was after %d steps", name, step)
            step += steps
            progress.update(step)
            if step % (20 * config.steps_per_train) == 0 or step == config.transitions:
                window = slice(max(0, step - 10 * family.horizon), step)
                losses["reward"] = log["rewards"][:, window].mean(1)
                if watch:
                    losses |= watch(step, parallel.unshard(states, learners))
                metrics.log("collect", step, losses)
            if (asked() or time.monotonic() - saved > checkpoint_seconds) and step < config.transitions:
                save_checkpoint(checkpoints, step, whole())
                saved = time.monotonic()
                if asked():
                    raise Stopped

    for k, parameters in enumerate(mdps):
        arrays = {name: values[k] for name, values in log.items()}
        write_log(out / f"mdp-{first + k:03d}", arrays, parameters, family, provenance(config, seed))


@functools.lru_cache(maxsize=4)
def _programs(config: CollectConfig) -> tuple[Any, Any, Any]:
    """The compiled programs of collection: choose the next action; keep new transitions and draw minibatches; train."""
    sac = config.sac

    def keys_of(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        index_key, update_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 3), step))
        return index_key, update_key

    def explore(state: Any, observation: jax.Array, key: jax.Array, step: jax.Array) -> jax.Array:
        policy_key = jax.random.fold_in(jax.random.fold_in(key, 1), step)
        hold_key = jax.random.fold_in(jax.random.fold_in(key, 2), step // config.warmup_hold)
        action = sac.explore(state, observation[None], policy_key)[0]
        return jnp.where(step < config.warmup, jax.random.uniform(hold_key, action.shape, minval=-1, maxval=1), action)

    def keep(replay: Transition, new: Transition, key: jax.Array, start: jax.Array) -> tuple[Transition, Transition]:
        """The replay buffer with the new transitions, and a minibatch of it for each of as many gradient steps."""
        replay = jax.tree.map(lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, start, 0), replay, new)
        steps = len(new.rewards)

        def rows(step: jax.Array) -> jax.Array:
            return jax.random.randint(keys_of(key, step)[0], (sac.batch_size,), 0, start + steps)

        index = jax.vmap(rows)(start + jnp.arange(steps))
        return replay, jax.tree.map(lambda x: x[index], replay)

    def train(state: Any, drawn: Transition, key: jax.Array, start: jax.Array, steps: jax.Array) -> Any:
        def body(i: jax.Array, carry: Any) -> Any:
            state, _ = carry
            return sac.update(state, jax.tree.map(lambda x: x[i], drawn), keys_of(key, start + i)[1])

        shapes = jax.eval_shape(lambda: body(jnp.int32(0), (state, None))[1])
        nothing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)
        new, losses = jax.lax.fori_loop(0, steps, body, (state, nothing))
        return unless_diverged(new, state, losses)

    return (
        parallel.over_learners(explore, replicated=1),
        parallel.over_learners(keep, replicated=1, donate=(0,)),
        parallel.over_learners(train, replicated=2, donate=(0,), at_once=1),
    )
