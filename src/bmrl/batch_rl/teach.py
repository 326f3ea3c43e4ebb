"""Phase 1: K learners trained in one compiled program, each from its own frozen batch; the last iterate is kept."""

import functools
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from bmrl import parallel
from bmrl.batch_rl.base import Algorithm, Learner, check_shapes, unless_diverged, window_of
from bmrl.batch_rl.replay import Log, Replay, minibatches
from bmrl.batch_rl.windows import Windows
from bmrl.errors import BmrlError
from bmrl.networks import Normaliser, normaliser_of
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.training import CHUNK, ReadAhead, sound, train
from bmrl.types import ABLATION, Spec, Transition, Watch

_log = logging.getLogger(__name__)


Logs: TypeAlias = Literal["own", "shared", "both"]
"""What an MDP's learner sees: its own log, the best of all MDPs' logs (see `distill.shared`) instead, or both."""


@dataclass(frozen=True)
class TeachConfig:
    """Which algorithm learns from each batch, from how much of it and of others', and for how long."""

    algorithm: Algorithm  # one of `bmrl.batch_rl`, or a user's own
    updates: int  # gradient steps of each learner
    best: float = field(default=1.0, metadata=ABLATION)  # share of each batch: see `replay.best_episodes`
    logs: Logs = field(default="own", metadata=ABLATION)


class Training(Protocol):
    """What is trained, and for how long: a `TeachConfig` or, where no policy is learned, the like."""

    @property
    def algorithm(self) -> Learner:
        """Who learns."""

    @property
    def updates(self) -> int:
        """Gradient steps of each learner."""


def spec_of(replay: Replay) -> Spec:
    """The sizes that the networks need, read off the data."""
    return Spec(*replay.logs[0].dims)


def teacher_template(algorithm: Learner, spec: Spec, learners: int) -> Any:
    """Shapes of K stacked learners, to load saved ones into."""
    one = functools.partial(algorithm.init, spec=spec, normaliser=Normaliser.identity(spec.observation_dim))
    return jax.eval_shape(jax.vmap(one), jnp.zeros((learners, 2), jnp.uint32))


class Taught(NamedTuple):
    """What phase 1 has so far."""

    states: Any  # of K learners, [K, ...]
    diverged: Int[Any, " K"]  # after how many updates a learner diverged, -1: it did not


def teach(
    replay: Replay,
    config: Training,
    seed: int,
    checkpoints: Path,
    metrics: Metrics,
    stage: str,
    checkpoint_seconds: float,
    watch: Watch | None = None,
    first: int = 0,
) -> Taught:
    """Train one learner for each of the K batches of ``replay``; goes on from the newest checkpoint.

    Returns numpy arrays. Every learner starts from the same weights, so that their generators' latents start aligned:
    phase 2 averages over teachers, and unaligned ones would blur.

    A learner that diverges (a loss or a number of its state is not finite) goes back to where it was at most ``CHUNK``
    updates before and stays there; the others do not notice.

    Where the devices cannot hold all learners, it goes on from the newest checkpoint with half as many at a time.

    The learners are numbered from ``first`` on, which is not 0 where others learn elsewhere.

    Raises DivergedError, with a `Taught`, if every learner diverges, and BmrlError if a batch is shorter than the
    algorithm's window.
    """
    if hasattr(config.algorithm, "targets"):  # a learner of values alone is no user's
        check_shapes(config.algorithm, spec_of(replay))
    if (window := window_of(config.algorithm)) > replay.size.min():
        raise BmrlError(f"{stage}: windows of {window} transitions do not fit a batch of {replay.size.min()}")
    together = parallel.padded(len(replay))
    while True:
        try:
            seconds = checkpoint_seconds
            return _teach(replay, config, seed, checkpoints, metrics, stage, seconds, watch, together, first)
        except jax.errors.JaxRuntimeError as error:
            if not parallel.out_of_memory(error) or together <= jax.local_device_count():
                raise
        together = parallel.padded(-(-together // 2))
        _log.warning("%s: the device's memory is full: from now on %d learners at a time", stage, together)


def _teach(
    replay: Replay,
    config: Training,
    seed: int,
    checkpoints: Path,
    metrics: Metrics,
    stage: str,
    checkpoint_seconds: float,
    watch: Watch | None,
    together: int,
    first: int,
) -> Taught:
    """See `teach`; ``together`` learners are on the devices at a time, those of the other groups in host memory."""
    learners, spec = len(replay), spec_of(replay)
    groups = [slice(start, min(start + together, learners)) for start in range(0, learners, together)]
    keys = np.asarray(parallel.learner_keys(seed, stage, learners, first))
    init, draw, program = _programs(config.algorithm, spec)

    def kept(states: Any, group: slice) -> Any:
        """A group's states where they wait for the next updates."""
        return states if len(groups) == 1 else parallel.unshard(states, group.stop - group.start)

    def part(tree: Any, group: slice) -> Any:
        return parallel.shard(jax.tree.map(lambda x: x[group], tree))

    template = Taught(
        teacher_template(config.algorithm, spec, learners), jax.ShapeDtypeStruct((learners,), np.dtype(np.int32))
    )
    if found := latest_checkpoint(checkpoints, template):
        step, (whole, diverged) = found
        states = [kept(part(whole, group), group) for group in groups]
    else:
        normalisers = jax.tree.map(lambda *x: np.stack(x), *map(observation_normaliser, replay.logs))
        first_key = jnp.asarray(parallel.learner_keys(seed, stage, 1)[0])
        step, states = 0, [kept(init(part(normalisers, group), first_key), group) for group in groups]
        diverged = np.full(learners, -1, np.int32)
    metrics.truncate(stage, step)
    group_keys = [part(keys, group) for group in groups]

    windows = Windows(replay, keys, learners * config.algorithm.batch_size * window_of(config.algorithm))

    def read(step: int) -> Transition:
        given = windows.at(step).replay
        return minibatches(given, draw(keys, given.size, step))

    drawn = ReadAhead(read)

    def advance(taught: Taught, step: int, steps: int) -> tuple[Taught, dict[str, np.ndarray]]:
        given, states, losses = (taught.diverged < 0, drawn.at(step)), [], []
        for group, waiting, own_keys in zip(groups, taught.states, group_keys, strict=True):
            own = waiting if len(groups) == 1 else parallel.shard(waiting)
            new, found = program(own, *part(given, group), own_keys, step, steps)
            if group is groups[-1]:
                drawn.prepare(step + steps)
            states.append(kept(new, group))
            losses.append(parallel.unshard(found, group.stop - group.start))
        whole = {name: np.concatenate([found[name] for found in losses]) for name in losses[0]}
        fails = (taught.diverged < 0) & ~sound(whole)
        for k in first + np.flatnonzero(fails):
            one_of_many = learners > 1 or first  # one alone may be of all batches
            whose = f"the learner of mdp-{k:03d}" if one_of_many else "the learner"
            _log.warning("%s: %s diverged; it stays as it was after %d updates", stage, whose, step)
        return Taught(states, np.where(fails, np.int32(step), taught.diverged)), whole

    def snapshot(taught: Taught) -> Taught:
        parts = [parallel.unshard(x, g.stop - g.start) for x, g in zip(taught.states, groups, strict=True)]
        return taught._replace(states=jax.tree.map(lambda *x: np.concatenate(x), *parts))

    look = (lambda step, taught: watch(step, snapshot(taught).states)) if watch else None
    state = Taught(states, diverged)
    state = train(stage, config.updates, state, step, advance, snapshot, checkpoints, metrics, checkpoint_seconds, look)
    return snapshot(state)


@functools.lru_cache(maxsize=8)
def _programs(algorithm: Learner, spec: Spec) -> tuple[Any, Any, Any]:
    """The compiled programs of phase 1: start K learners, draw minibatches for `CHUNK` steps, make at most as many."""

    def init(normaliser: Normaliser, key: jax.Array) -> Any:
        return algorithm.init(key, spec, normaliser)

    def keys_of(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        sample_key, update_key = jax.random.split(jax.random.fold_in(key, step))
        return sample_key, update_key

    def draw(key: jax.Array, size: jax.Array, start: jax.Array) -> jax.Array:
        """For each step its minibatch, uniformly with replacement: transitions [CHUNK, n], or windows of them."""
        window = window_of(algorithm)

        def one(step: jax.Array) -> jax.Array:
            first = jax.random.randint(keys_of(key, step)[0], (algorithm.batch_size,), 0, size - window + 1)
            return first if window == 1 else first[:, None] + jnp.arange(window)

        return jax.vmap(one)(start + jnp.arange(CHUNK))

    def train(
        state: Any, alive: jax.Array, batches: Transition, key: jax.Array, start: jax.Array, steps: jax.Array
    ) -> Any:
        def body(i: jax.Array, carry: Any) -> Any:
            batch = jax.tree.map(lambda x: x[i], batches)
            return algorithm.update(carry[0], batch, keys_of(key, start + i)[1])

        shapes = jax.eval_shape(lambda: body(jnp.int32(0), (state, None))[1])
        nothing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)
        # One that has diverged computes along in vain: loops of different lengths would be no loop of all learners.
        new, losses = jax.lax.fori_loop(0, steps, body, (state, nothing))
        return unless_diverged(new, state, {name: jnp.where(alive, x, jnp.nan) for name, x in losses.items()})

    return (
        parallel.over_learners(init, replicated=1),
        parallel.on_host_alone(jax.vmap(draw, in_axes=(0, 0, None))),
        parallel.over_learners(train, replicated=2, donate=(0,), at_once=1),
    )


def observation_normaliser(log: Log) -> Normaliser:
    """Observation statistics of one batch; a constant column keeps scale 1."""
    return normaliser_of(log.visited)
