"""A run's student as a policy that needs nothing but NumPy: its weights, and what `bmrl.runtime` must know beside them.

DIR/
  arrays.safetensors     the networks, the statistics of their inputs, the random numbers of deterministic choices
  manifest.json          bounds, scaling, the context's size, the fallback; with the SHA-256 of all
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.batch_rl.bcq import LATENT_CLIP
from bmrl.batch_rl.replay import Replay, bounds_of, gone_through, stack
from bmrl.data import Batch, read_batches
from bmrl.data.batch import columns
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import Student
from bmrl.errors import BmrlError
from bmrl.evaluate.agents import FixedDraws
from bmrl.learned import load_learners, load_student
from bmrl.networks import MLP, ConditionedMLP, Normaliser
from bmrl.pipeline import Run, check_all_sources, check_variants
from bmrl.runs.checkpoint import save_arrays
from bmrl.runs.storage import MANIFEST, commit_directory, is_committed, read_json
from bmrl.runtime import Policy
from bmrl.runtime.description import FORMAT, VERSION, Description
from bmrl.runtime.policy import running_mean
from bmrl.scaling import action_bounds

_log = logging.getLogger(__name__)

MARGIN = 0.5  # of the range seen in training: how far beyond it an observation or a reward is still used
CONTEXTS = 4096  # of the train MDPs' logs, by which the misfit's limits are set
SIZES = 48  # transitions of the largest of them: three times what the misfit looks back
QUANTILE = 0.999  # of the misfit: its limit


def export_policy(
    run: Run, out: str | os.PathLike[str], variant: str = "default", fallback: Sequence[float] = ()
) -> None:
    """Write a student of a run as a policy to a directory, where an earlier policy is replaced.

    Args:
        run: what `bmrl.run` returns.
        out: the directory to make, which `bmrl.runtime.Policy.load` reads.
        variant: the student.
        fallback: the action where an observation cannot be used, [d_a] in the user's units; by default the mean of the
            logged ones.

    Raises:
        BmrlError: the run has no such student or no batches, or ``out`` holds something else.
    """
    out = Path(out)
    check_variants(run.experiment, [variant])
    if is_committed(out) and read_json(out / MANIFEST).get("format") != FORMAT:
        raise BmrlError(f"{out} holds something else than a policy: choose another --out")
    check_all_sources(run)
    student, config = load_student(run.directory / "students" / variant)
    learners = run.experiment.learners(variant)
    taught = run.experiment.teach[learners]
    teachers = load_learners(run.directory / "teachers" / learners, taught, leave_out_diverged=True)
    batches = read_batches(run.directory / "batches")
    batches = [batch for k, batch in enumerate(batches) if k not in teachers.left_out]
    arrays = student_arrays(student)
    description = calibrated(describe(student, config.context, batches, variant, fallback), arrays, stack(batches))
    manifest = {"format": FORMAT, "version": VERSION, **description._asdict()}
    manifest["columns"] = columns(batches[0])  # for who deploys it: the order of what it is given, and gives
    commit_directory(out, lambda directory: save_arrays(directory, arrays), manifest)


# ---------------------------------------------------------------------- weights


def student_arrays(student: Student) -> dict[str, np.ndarray]:
    """All arrays of a policy by the names under which `bmrl.runtime` looks for them."""
    encoder, statistics = student.encoder, student.statistics
    arrays: dict[str, Any] = {f"draws.{name}": x for name, x in FixedDraws().numbers(student).items()}
    for name in ("observations", "rewards", "values"):
        arrays |= _scaling(f"statistics.{name}", getattr(statistics, name))
    arrays |= _scaling("statistics.context", encoder.inputs)
    arrays |= _layers("encoder", encoder.network)
    of_mdps = {"embeddings": encoder.embeddings, "trials": encoder.trials}
    arrays |= {name: x for name, x in of_mdps.items() if x is not None}
    arrays |= _layers("auxiliary", student.auxiliary) | _layers("prediction", student.prediction)
    for name in ("value", "candidate", "correction"):
        network: ConditionedMLP | None = getattr(student, name)
        if network is not None:
            arrays |= _layers(name, network.network) | _layers(f"{name}_modulation", network.modulation)
    return {name: np.asarray(x, np.float32) for name, x in arrays.items()}


def _layers(name: str, network: MLP) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        found |= {f"{name}.{layer}.weight": weight, f"{name}.{layer}.bias": bias}
    return found


def _scaling(name: str, normaliser: Normaliser) -> dict[str, Any]:
    return {f"{name}.mean": normaliser.mean, f"{name}.scale": normaliser.scale}


# ---------------------------------------------------------------------- bounds and scaling


def describe(
    student: Student, context: ContextConfig, batches: Sequence[Batch], variant: str, fallback: Sequence[float]
) -> Description:
    """What is known of a policy before its misfit is calibrated."""
    replay, outputs = stack(batches), student.prediction.biases[-1].shape[0]
    low, high = action_bounds(batches)
    mean = np.mean([np.mean([t.actions.mean(0) for t in gone_through(log)], axis=0) for log in replay.logs], axis=0)
    chosen = np.array(fallback or np.clip(low + (mean + 1) / 2 * (high - low), low, high), np.float32)
    if len(chosen) != len(low) or not ((chosen >= low) & (chosen <= high)).all():
        raise BmrlError(f"--fallback {chosen.tolist()}: a number for each action is needed, from {low} to {high}")
    observations = _widened(rows for log in replay.logs for rows in log.visited())
    rewards = _widened(t.rewards[:, None] for log in replay.logs for t in gone_through(log))
    return Description(
        family=batches[0].manifest["family"],
        variant=variant,
        observation_low=observations[0].tolist(),
        observation_high=observations[1].tolist(),
        reward_low=float(rewards[0][0]),
        reward_high=float(rewards[1][0]),
        action_low=low.tolist(),
        action_high=high.tolist(),
        fallback=chosen.tolist(),
        context_size=context.size,
        window=not context.vary_size,
        pooling=student.encoder.pooling,
        labels=student.encoder.labels,
        trials=student.encoder.trials is not None,
        max_correction=float(student.max_correction),
        correction_identity=student.correction_identity,
        mean_action=student.mean_action,
        latent_clip=LATENT_CLIP,
        residuals=[1.0] * outputs,
        misfit_limits=[1e30],
    )


def _widened(chunks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of the columns of rows, wider by `MARGIN` of the range on either side; by 1 where that is 0."""
    low, high = (bound.astype(float) for bound in bounds_of(chunks))
    margin = np.where(high > low, MARGIN * (high - low), 1.0)
    return low - margin, high + margin


# ---------------------------------------------------------------------- what is unlike the train MDPs


def calibrated(description: Description, arrays: dict[str, np.ndarray], replay: Replay) -> Description:
    """The description with the misfit of P on contexts from the train MDPs' logs: its unit, and its limits by size.

    Each MDP has as many contexts, which are stretches of episodes; half begin where an episode does.
    """
    policy, rng = Policy(description, arrays), np.random.default_rng(0)
    mdp = np.arange(CONTEXTS) % len(replay)
    first = rng.integers(0, replay.size[mdp])
    first = np.where(np.arange(CONTEXTS) < CONTEXTS // 2, replay.starts_of(mdp, first), first)
    episode, last = replay.starts_of(mdp, first), replay.size[mdp] - 1
    state, alive, errors, there = policy.start(CONTEXTS), np.ones(CONTEXTS, bool), [], []
    for size in range(SIZES):
        index = np.minimum(first + size, last)
        alive &= (first + size <= last) & (replay.starts_of(mdp, index) == episode)
        t = replay.take_from(mdp, index)
        found = policy.student.errors(t.observations, t.actions, t.rewards, t.next_observations, policy.identity(state))
        errors.append(found.astype(float))
        there.append(alive.copy())
        state = policy.observe(state, t.observations, policy.unscaled(t.actions), t.rewards, t.next_observations)
    # Of the first transition of a context nothing is foretold: what MDP it is of was not known.
    counted = [(error, alive) for error, alive in zip(errors[1:], there[1:], strict=True) if alive.any()]
    if not counted:
        _log.warning("no episode in the batches has two transitions: the policy takes every MDP for familiar")
        return description
    squares = [np.square(error[alive]).mean(0) for error, alive in counted]
    residuals = np.maximum(np.sqrt(np.mean(squares, axis=0)), 1e-6)
    misfit, limits = np.zeros(CONTEXTS), []
    for count, (error, alive) in enumerate(counted):
        misfit = running_mean(misfit, np.square(error / residuals).mean(-1), np.array(count))
        limits.append(max(float(np.quantile(misfit[alive], QUANTILE)), 1e-6))
    return description._replace(residuals=residuals.tolist(), misfit_limits=limits)
