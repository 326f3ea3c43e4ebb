"""NaN put into a learner of collection, and into the minibatches of phase 2."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from bmrl import parallel
from bmrl.batch_rl import SAC
from bmrl.batch_rl.base import Targets
from bmrl.collect import CollectConfig, collect
from bmrl.data import read_batches
from bmrl.distill import distill as phase_2
from bmrl.experiments import get_experiment
from bmrl.families import get_family
from bmrl.runs.checkpoint import latest_checkpoint, save_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.training import DivergedError
from torture import Section
from torture.divergence import LEARNERS, UPDATES, Fault, Faulty, finite, random_replay

TRIALS = {"phase 2": 200, "collection": 50}
SAVED, STEPS, TRANSITIONS = 20, 20, 60  # of collection: where the fault is planted; between trainings; in all


def diverge_elsewhere(place: Path, seconds: float) -> Section:
    """`TRIALS` faults in each."""
    parallel.set_up_jax()  # with its cache of compiled programs, of which each collection starts some anew
    until, found = time.monotonic() + seconds, {name: list[str]() for name in TRIALS}
    trials = {"collection": inject_collection(place / "collect", 0), "phase 2": inject_minibatch(place / "distill", 0)}
    done = dict.fromkeys(trials, 0)
    for name, count in TRIALS.items():
        while done[name] < count and time.monotonic() < until:
            found[name] += next(trials[name])
            done[name] += 1
    lines = [
        "## Collection or phase 2 diverges",
        "",
        f"NaN in one of {LEARNERS} learners of collection, after a random update and in a random leaf of its state: "
        f"{done['collection']} times. It was named and went back to where it was before that training, all batches "
        "were filled, those of the others were equal to those of the undisturbed collection byte for byte, and no "
        f"checkpoint had a NaN: failed {len(found['collection'])} times.",
        "",
        f"NaN in one number of a random minibatch of phase 2, among {UPDATES}: {done['phase 2']} times. It ended with "
        "a message, or without having read that number; every checkpoint and every student was finite: failed "
        f"{len(found['phase 2'])} times.",
        *(f"- {name}: {failure}" for name, failures in found.items() for failure in failures),
    ]
    return Section("\n".join(lines), sum(map(len, found.values())))


# ---------------------------------------------------------------------- collection


@dataclass(frozen=True)
class FaultySAC(Faulty):
    """SAC with a fault in its state, which collects."""

    def explore(self, state: tuple[Any, Fault], observations: jax.Array, key: jax.Array) -> jax.Array:
        """That of SAC."""
        assert isinstance(self.algorithm, SAC)
        return self.algorithm.explore(state[0], observations, key)


def inject_collection(place: Path, seed: int) -> Iterator[list[str]]:
    """Without end: the failures of a collection with one random fault."""
    family, rng = get_family("point-goal"), np.random.default_rng(seed)
    sac: Any = FaultySAC(SAC((8,), batch_size=8))
    config, trees = CollectConfig(TRANSITIONS, warmup=SAVED, steps_per_train=STEPS, sac=sac), dict[int, Any]()
    mdps = family.train_mdps()

    def run(directory: Path) -> list[str]:
        """What was said of learners that diverged."""
        directory.mkdir(parents=True, exist_ok=True)
        metrics, out, checkpoints = Metrics(directory / "metrics.csv"), directory / "out", directory / "checkpoints"
        with _warnings() as said:
            collect(family, mdps, config, seed, out, checkpoints, metrics, 0.0)
        return said

    with mock.patch("bmrl.collect.sac.save_checkpoint", lambda root, step, tree: trees.setdefault(step, _copy(tree))):
        run(place / "sound")
    keys = np.asarray(parallel.learner_keys(seed, "collect", len(mdps)))
    leaves = jax.tree.leaves(trees[SAVED]["states"][0])
    floats = [i for i, x in enumerate(leaves) if x.dtype == np.float32 and x.size]
    for trial in range(1 << 30):
        learner, step = int(rng.integers(len(mdps))), SAVED + int(rng.integers(STEPS))
        leaf, directory = int(rng.choice(floats)), place / f"trial-{trial}"
        tree = _copy(trees[SAVED])
        fault = tree["states"][1]
        key = jax.random.fold_in(jax.random.fold_in(keys[learner], 3), step)
        fault.key[learner], fault.leaf[learner] = np.asarray(jax.random.split(key)[1]), leaf
        save_checkpoint(directory / "checkpoints", SAVED, tree)
        said = run(directory)
        saved = latest_checkpoint(directory / "checkpoints", tree)
        assert saved is not None
        same = [
            _files(place / "sound" / "out" / f"mdp-{k:03d}") == _files(directory / "out" / f"mdp-{k:03d}")
            for k in range(len(mdps))
        ]
        before = jax.tree.leaves(trees[SAVED]["states"][0])
        pairs = zip(before, jax.tree.leaves(saved[1]["states"][0]), strict=True)
        yield [
            f"learner {learner}, step {step}, leaf {leaf}: {failure}"
            for failure, holds in {
                "it is not named": [f"SAC in mdp-{learner:03d} diverged" in line for line in said] == [True],
                "its batch is not filled": read_batches(directory / "out")[learner].size == TRANSITIONS,
                "another batch has changed": all(same[:learner] + same[learner + 1 :]),
                "it is not where it was": all(x[learner].tobytes() == y[learner].tobytes() for x, y in pairs),
                "NaN in a checkpoint": saved[0] == SAVED + STEPS and finite(saved[1]),
            }.items()
            if not holds
        ]


# ---------------------------------------------------------------------- phase 2


def inject_minibatch(place: Path, seed: int) -> Iterator[list[str]]:
    """Without end: the failures of a phase 2 that reads one NaN."""
    replay, rng = random_replay(seed), np.random.default_rng(seed)
    config = get_experiment("point-goal", "smoke", 0).distill["default"]
    context = replace(config.context, relabel=False)
    config = replace(config, updates=UPDATES, context=context, queries_everywhere=False)
    targets = Targets(rng.normal(size=(LEARNERS, 60)).astype(np.float32))
    read, statistics = phase_2.read_minibatch, phase_2.train_statistics(replay, targets)
    like = phase_2.initial_state(jax.random.PRNGKey(0), replay, targets, statistics, 0.0, config)
    for trial in range(1 << 30):
        chunk, leaf, place_in_it = int(rng.integers(UPDATES // 10)), int(rng.integers(1 << 16)), rng.random()
        calls, directory = list[None](), place / f"trial-{trial}"

        def broken(*args: Any) -> Any:
            calls.append(None)  # noqa: B023 - it is not called after this trial
            batch = read(*args)
            if len(calls) == chunk + 1:  # noqa: B023
                floats = [x for x in jax.tree.leaves(batch) if x.dtype == np.float32]
                x = floats[leaf % len(floats)]  # noqa: B023
                x[:10].reshape(-1)[int(place_in_it * x[:10].size)] = np.nan  # noqa: B023
            return batch

        directory.mkdir(parents=True, exist_ok=True)
        metrics, checkpoints, student = Metrics(directory / "metrics.csv"), directory / "checkpoints", None
        says, message = "", f"distill: diverged before step {10 * (chunk + 1)} "
        with mock.patch("bmrl.distill.distill.read_minibatch", broken):
            try:
                student = phase_2.distill(replay, targets, 0.0, config, seed, checkpoints, metrics, "distill", 0.0)
            except DivergedError as error:
                says = str(error)
        saved = latest_checkpoint(checkpoints, like)
        yield [
            f"chunk {chunk}, leaf {leaf}: {failure}"
            for failure, holds in {
                "no message": student is not None or says.startswith(message),
                "NaN in the student": finite(student),
                "NaN in a checkpoint": saved is None or finite(saved[1]),
            }.items()
            if not holds
        ]


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What is warned of within."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("bmrl").addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger("bmrl").removeHandler(handler)


def _copy(tree: Any) -> Any:
    return jax.tree.map(np.array, tree)


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
