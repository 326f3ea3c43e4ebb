"""NaN put into one learner of phase 1, at many steps and in every leaf of its state: of several, or of the pooled one.

Collection and phase 2 have the same in `torture.divergence_elsewhere`.
"""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bmrl import parallel
from bmrl.batch_rl import BCQ, SAC, TD3BC
from bmrl.batch_rl.base import Algorithm, Targets
from bmrl.batch_rl.base import Metrics as Losses
from bmrl.batch_rl.replay import Episodes, Replay, pool
from bmrl.batch_rl.teach import Taught, TeachConfig, spec_of, teach, teacher_template
from bmrl.networks import Normaliser
from bmrl.runs.checkpoint import latest_checkpoint, save_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.training import DivergedError
from bmrl.types import Spec, Transition
from torture import Section

ALGORITHMS: dict[str, Algorithm] = {
    "SAC": SAC((8,), batch_size=8),
    "BCQ": BCQ((8,), (8,), batch_size=8),
    "TD3+BC": TD3BC((8,), batch_size=8),
}
LEARNERS, UPDATES = 3, 40
TRIALS = 500  # over all algorithms


class Fault(NamedTuple):
    """The update, told by its key, after which a leaf is NaN; none has the key of zeros."""

    key: Any  # [2]
    leaf: Any


@dataclass(frozen=True)
class Faulty:
    """An algorithm with a fault in its state, which is data: one compiled program serves for all faults."""

    algorithm: Algorithm

    @property
    def batch_size(self) -> int:
        """That of the algorithm."""
        return self.algorithm.batch_size

    def init(self, key: jax.Array, spec: Spec, normaliser: Normaliser) -> tuple[Any, Fault]:
        """A sound learner."""
        return self.algorithm.init(key, spec, normaliser), Fault(jnp.zeros(2, jnp.uint32), jnp.int32(0))

    def update(self, state: tuple[Any, Fault], batch: Transition, key: jax.Array) -> tuple[tuple[Any, Fault], Losses]:
        """The algorithm's, and then the fault if this is its step."""
        learner, fault = state
        learner, losses = self.algorithm.update(learner, batch, key)
        strikes = (key == fault.key).all()
        leaves, structure = jax.tree.flatten(learner)
        for i, x in enumerate(leaves):
            if jnp.issubdtype(x.dtype, jnp.floating):
                leaves[i] = jnp.where(strikes & (fault.leaf == i), jnp.nan, x)
        return (jax.tree.unflatten(structure, leaves), fault), losses

    def act(self, state: Any, observations: jax.Array, key: jax.Array) -> jax.Array:
        """That of the algorithm."""
        return self.algorithm.act(state[0], observations, key)

    def targets(self, state: Any, observations: jax.Array, actions: jax.Array, key: jax.Array) -> Targets:
        """That of the algorithm."""
        return self.algorithm.targets(state[0], observations, actions, key)


def diverge(place: Path, seconds: float) -> Section:
    """`TRIALS` faults, the algorithms in turn, and the pooled baseline."""
    trials = {name: inject(algorithm, place / f"{i}", seed=i) for i, (name, algorithm) in enumerate(ALGORITHMS.items())}
    trials["pooled TD3+BC"] = inject(ALGORITHMS["TD3+BC"], place / "pooled", seed=9, pooled=True)
    until, failures, done = time.monotonic() + seconds, list[str](), dict.fromkeys(trials, 0)
    while sum(done.values()) < TRIALS and time.monotonic() < until:
        name = min(done, key=lambda name: done[name])
        failures += [f"{name}: {failure}" for failure in next(trials[name])]
        done[name] += 1
    counts = ", ".join(f"{count} in {name}" for name, count in done.items())
    lines = [
        "## One learner diverges",
        "",
        f"NaN in one of {LEARNERS} learners (or in the only one of pooled batches) after a random one of {UPDATES} "
        "updates, in a random leaf of its state: "
        f"{counts}. The learner went back to its last sound state and stayed there, it was named with the number of "
        "its updates, the other learners were equal to those of the undisturbed training bit for bit, and no "
        f"checkpoint and no result had a NaN: failed {len(failures)} times.",
        *(f"- {failure}" for failure in failures),
    ]
    return Section("\n".join(lines), len(failures))


def inject(algorithm: Algorithm, place: Path, seed: int, pooled: bool = False) -> Iterator[list[str]]:
    """Without end: the failures of a training of several learners, or of one ``pooled``, with one random fault."""
    faulty, replay, rng = Faulty(algorithm), random_replay(seed), np.random.default_rng(seed)
    replay = pool(replay) if pooled else replay
    learners = len(replay)
    template = teacher_template(faulty, spec_of(replay), learners)
    keys = np.asarray(parallel.learner_keys(seed, "teach", learners))
    train = functools.partial(_train, replay, faulty, seed)
    sound = {n: train(n, place / f"{n}").states for n in (0, UPDATES)}
    leaves = jax.tree.leaves(template[0])
    floats = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating) and x.size]
    for trial in range(1 << 30):
        learner, step, leaf = int(rng.integers(learners)), int(rng.integers(UPDATES)), int(rng.choice(floats))
        directory = place / f"trial-{trial}"
        fault = Fault(np.zeros((learners, 2), np.uint32), np.zeros(learners, np.int32))
        fault.key[learner] = np.asarray(jax.random.split(jax.random.fold_in(keys[learner], step))[1])
        fault.leaf[learner] = leaf
        none = np.full(learners, -1, np.int32)
        save_checkpoint(directory / "checkpoints", 0, Taught((sound[0][0], fault), none))
        found = train(UPDATES, directory)
        step_back = int(found.diverged[learner])
        if step_back not in sound:
            sound[step_back] = train(step_back, place / f"{step_back}").states
        saved = latest_checkpoint(directory / "checkpoints", Taught(template, none))
        assert saved is not None
        yield [
            f"learner {learner}, step {step}, leaf {leaf}: {failure}"
            for failure, holds in {
                f"named after {step_back} updates": 0 <= step_back <= step < step_back + 25,
                "another one is named": (np.delete(found.diverged, learner) == -1).all(),
                "it is not where it was": _same(found.states, sound.get(step_back), learner),
                "another one has changed": all(
                    _same(found.states, sound[UPDATES], k) for k in range(learners) if k != learner
                ),
                "NaN in the result": finite(found.states),
                "NaN in a checkpoint": finite(saved[1].states),
            }.items()
            if not holds
        ]


def _train(replay: Replay, algorithm: Any, seed: int, updates: int, directory: Path) -> Taught:
    directory.mkdir(parents=True, exist_ok=True)
    config, metrics = TeachConfig(algorithm, updates), Metrics(directory / "metrics.csv")
    try:
        return teach(replay, config, seed, directory / "checkpoints", metrics, "teach", checkpoint_seconds=0.0)
    except DivergedError as error:  # a single one: this is what a baseline is left as
        assert isinstance(error.state, Taught)
        return error.state


def random_replay(seed: int) -> Replay:
    """Logs of `LEARNERS` MDPs, 60 random transitions each."""
    rng = np.random.default_rng(seed)

    def log() -> Episodes:
        def numbers(*shape: int) -> np.ndarray:
            return rng.uniform(-1, 1, shape).astype(np.float32)

        return Episodes(numbers(66, 3), numbers(60, 2), numbers(60), np.zeros(60, bool), np.arange(10, 61, 10))

    return Replay(tuple(log() for _ in range(LEARNERS)))


def _same(one: Any, other: Any, learner: int) -> bool:
    """Whether a learner is the same in both, bit for bit, but for its fault."""
    pairs = zip(jax.tree.leaves(one[0]), jax.tree.leaves(other[0]), strict=True)
    return all(x[learner].tobytes() == y[learner].tobytes() for x, y in pairs)


def finite(tree: Any) -> bool:
    """Whether every number is."""
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree) if not callable(x))
