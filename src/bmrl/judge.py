"""`bmrl judge`: what a run's policy is worth in the MDPs of some logs, from these logs alone; no environment is needed.

OUT/
  config.json         of which policy and logs this is
  members/0/ ...      fitted Q evaluation, one learner an MDP, each member on episodes of its own
  metrics.csv, log.txt
  judgement.json      a row an MDP
  judgement.png       its picture
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.markup import escape

from bmrl import pipeline
from bmrl.batch_rl.fqe import FQE, Pairs
from bmrl.batch_rl.replay import Episodes, Replay, stack
from bmrl.config import to_json
from bmrl.data import Batch, read_batches
from bmrl.data.batch import batches_of
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import Student
from bmrl.errors import BmrlError, printable
from bmrl.evaluate.evaluate import check_dimensions, evidence_of_log
from bmrl.evaluate.judging import actions_at, far_share, logged_returns
from bmrl.figures.judging import plot_judgement
from bmrl.figures.table import judgement_table
from bmrl.learned import load_learners, load_student
from bmrl.runs.progress import Screen
from bmrl.runs.storage import verify_directory, write_json
from bmrl.scaling import check_logs

INTERVAL = (0.05, 0.95)  # quantiles of the members
UNSURE = 0.25  # share of far actions from which on the log says little of the policy


@dataclass(frozen=True)
class JudgeConfig:
    """Fitted Q evaluation, and for how long."""

    algorithm: FQE
    updates: int  # gradient steps of each learner


def judge_stage(
    run: pipeline.Run, out: Path, logs: Path | None, variant: str, members: int, updates: int, discount: float | None
) -> None:
    """Judge a student of the run by logs, its own or those in ``logs``; write, print and draw the result.

    Raises BmrlError where there is no such student, where logs do not fit it or each other, or where ``out`` holds the
    judgement of something else.
    """
    if members < 2 or updates < 1:
        raise BmrlError("--members must be at least 2, --updates at least 1: the spread of the members is the interval")
    pipeline.check_variants(run.experiment, [variant])
    pipeline.check_all_sources(run)
    if (out / "students").exists() or (out / "batches").exists():
        raise BmrlError(f"--out {out} is a run: choose a directory for the judgement")
    pipeline.check_place(out, resume=True)
    config = JudgeConfig(FQE(discount=_discount(run, variant) if discount is None else discount), updates)
    if not 0 < config.algorithm.discount < 1:
        raise BmrlError(f"--discount {config.algorithm.discount}: a number between 0 and 1 is needed")
    path = run.directory / "students" / variant
    student, distilled = load_student(path)
    logs = logs and batches_of(logs)
    batches = read_batches(logs or run.directory / "batches")
    for batch in batches:
        check_dimensions(student, batch, logs or run.directory)
    if logs:
        check_logs(read_batches(run.directory / "batches"), run.directory / "batches", batches, logs)
    place = replace(run, directory=out)
    held = {"judge": to_json(config), "members": members, "seed": run.experiment.seed, "variant": variant}
    with pipeline.working_on(out, held):
        sources = {f"students/{variant}": verify_directory(path, hashes=False)["manifest_sha256"]}
        rows = judged(place, student, distilled.context, batches, config, members, sources)
        write_json(out / "judgement.json", rows)
        plot_judgement(rows, out / "judgement.png")
    console = Screen()
    console.print(judgement_table(rows))
    console.print(LIMITS.format(discount=config.algorithm.discount, horizon=round(1 / (1 - config.algorithm.discount))))
    for caution in cautions(rows, distilled.student.trials):
        console.print(escape(printable(caution)))
    console.print(f"results: {out / 'judgement.json'}\npicture: {out / 'judgement.png'}")


LIMITS = """value: discounted return, without end, from the logged first states (discount {discount}: about {horizon}
steps), of the policy with the identity that its log tells; an estimate, least sure where actions are far"""


def cautions(rows: Sequence[Mapping[str, Any]], trials: bool) -> list[str]:
    """What speaks against the values, in sentences; ``trials``: the policy chooses among all MDPs' learners."""
    found = []
    if far := [row["imported"] or row["name"] for row in rows if (row["far"] or 0) > UNSURE]:
        found.append(f"little is logged of what the policy does in {', '.join(far)}: their values are the least sure")
    if trials:
        found.append(
            "the policy acts as the learner that did best in trials, of whichever MDP: it may do what nobody did in a "
            "log, and its values, tried where true returns are known, are then far too low (docs/judging.md)"
        )
    return found


def _discount(run: pipeline.Run, variant: str) -> float:
    """That of the learners behind a student."""
    found = getattr(run.experiment.teach[run.experiment.learners(variant)].algorithm, "discount", None)
    if found is None:
        raise BmrlError("the run's algorithm has no discount: say with --discount what a later reward is worth")
    return float(found)


def judged(
    place: pipeline.Run,
    student: Student,
    context: ContextConfig,
    batches: Sequence[Batch],
    config: JudgeConfig,
    members: int,
    sources: Mapping[str, str],
) -> list[dict[str, Any]]:
    """A row for each log, from ``members`` repetitions on episodes drawn with replacement; goes on where it stopped.

    Args:
        place: where members, checkpoints and metrics lie; the seed is that of its experiment.
        student: whose policy it is.
        context: of its training.
        batches: the logs.
        config: how the values are fitted.
        members: repetitions.
        sources: the policy by its hash; what was fitted for another, or from other logs, is refused.

    Returns:
        For each log its "name", "imported" (the MDP's name in the user's logs, None if they were not imported) and
        "mdp", the numbers of "transitions" and "episodes", "discount", the policy's "values" and the "logged" ones, one
        a member that did not diverge, of the same episodes; "value", "low" and
        "high", their mean and interval; "logged_value" of all episodes; "better", the share of members in which the
        policy's is higher; "far", the share of its actions that the log hardly has (None if it has one episode);
        "beyond", the weight of rewards that no logged episode reaches.
    """
    replay, discount, seed = stack(batches), config.algorithm.discount, place.experiment.seed
    logs = [log for log in replay.logs if isinstance(log, Episodes)]
    evidence = [evidence_of_log(student, log) for log in logs]
    sources = {**sources, **{batch.name: batch.manifest["manifest_sha256"] for batch in batches}}
    chosen = [actions_at(student, context, m, log, place.directory) for m, log in zip(evidence, logs, strict=True)]
    logged = [logged_returns(log, discount) for log in logs]
    values = np.full((members, len(logs)), np.nan)
    others = np.full((members, len(logs)), np.nan)
    for member in range(members):
        pairs = [
            Pairs(log, actions, _drawn(len(log.ends), seed, member, k), discount)
            for k, (log, actions) in enumerate(zip(logs, chosen, strict=True))
        ]
        path = place.directory / "members" / str(member)
        pipeline.learn(place, f"member-{member}", path, config, sources, functools.partial(Replay, tuple(pairs)))
        learners = load_learners(path, config, leave_out_diverged=True)
        kept = [k for k in range(len(logs)) if k not in learners.left_out]
        for state, k in enumerate(kept):
            one = jax.tree.map(lambda x, state=state: jnp.asarray(x[state]), learners.states)
            values[member, k] = pairs[k].returns(one.values(pairs[k].first()).mean() + pairs[k].lag(one))
            others[member, k] = logged[k].value(pairs[k].episodes, discount)
    rows = []
    for k, batch in enumerate(batches):
        sound = np.isfinite(values[:, k])
        if not sound.any():
            raise BmrlError(f"{batch.name}: every member diverged; look at it with 'bmrl data validate'")
        own, others_own = values[sound, k], others[sound, k]
        low, high = np.quantile(own, INTERVAL)
        far = far_share(logs[k], chosen[k], seed)
        rows.append(
            {
                "name": batch.name,
                "imported": batch.imported,
                "mdp": batch.manifest["mdp"],
                "transitions": batch.size,
                "episodes": batch.episodes,
                "discount": discount,
                "values": own.tolist(),
                "logged": others_own.tolist(),
                "value": float(own.mean()),
                "low": float(low),
                "high": float(high),
                "logged_value": logged[k].value(np.arange(batch.episodes), discount),
                "better": float((own > others_own).mean()),
                "far": far if np.isfinite(far) else None,
                "beyond": float(1 - logged[k].weights.mean() * (1 - discount)),
            }
        )
    return rows


def _drawn(episodes: int, seed: int, member: int, log: int) -> np.ndarray:
    """Episodes with replacement, as many as there are."""
    return np.random.default_rng([seed, member, log]).integers(0, episodes, episodes)
