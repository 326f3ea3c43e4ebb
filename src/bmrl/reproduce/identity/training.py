"""The parts of the study that train short students, and the ablations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bmrl.batch_rl import BCQ
from bmrl.batch_rl.replay import Replay, select
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.distill import DistillConfig, Parts, TDConfig
from bmrl.evaluate.agents import StudentAgent
from bmrl.evaluate.evaluate import learner_agent, nearest
from bmrl.reproduce.identity.parts import evidence_of_logs
from bmrl.reproduce.identity.setting import (
    Setting,
    by_themselves,
    held_out,
    logs_of_tests,
    short_rows,
    short_student,
    splits,
    taught_anew,
    tested,
    velocities,
    with_virtual,
    working_on,
)
from bmrl.reproduce.lesson import Lesson, lesson_of
from bmrl.reproduce.study import Row

PROPOSERS = "paper"  # the learners for which G_S and xi_S have something to say: BCQ
LOGGED = 16  # transitions of a context of logs, for students that were trained with other contexts


# ---------------------------------------------------------------------- contexts in training


def contexts_in_training(setting: Setting) -> list[Row]:
    """Students trained with contexts of other sizes, drawn in other ways; at test their own episodes, or logs."""
    logs, mdps, rows = logs_of_tests(setting), setting.family.test_mdps(), []
    with working_on(setting) as run:
        lesson = lesson_of(run)
        for context in _contexts()[: setting.conditions]:
            config = replace(setting.short, context=context)
            name = "base" if config == setting.short else f"context-{context.draw}-{context.size}"
            name += "" if context.relabel else "-as-logged"
            told = {"draw": context.draw, "size": context.size, "relabel": context.relabel}
            condition = f"{context.draw}, {context.size}" + ("" if context.relabel else ", as logged")
            found = short_rows(setting, "context training", condition, lesson, config, name, splits(setting.family))
            student = short_student(setting, name, lesson, config)
            prior = evidence_of_logs(setting, student, logs, LOGGED, "transitions")
            agent = StudentAgent(student, context, prior=prior, blank=True)
            found += tested(setting, "context training", condition, "tiMe from logs", agent, "test", mdps)[0]
            rows += [{**row, **told} for row in found]
    return rows


def _contexts() -> list[ContextConfig]:
    """The default first; then one choice after the other is changed."""
    sizes = [ContextConfig(size, draw=draw) for size in (16, 1) for draw in ("mixed", "transitions", "prefix")]
    return [*sizes, ContextConfig(64), *(replace(x, relabel=False) for x in sizes[:3])]


# ---------------------------------------------------------------------- how many MDPs, and which batches


def counts(setting: Setting) -> list[Row]:
    """Students of K evenly spread train MDPs, without and with virtual ones, beside the nearest one's learner."""
    rows = []
    with working_on(setting) as run:
        whole, groups = lesson_of(run), {**splits(setting.family), "held out": held_out(setting)}
        for count in setting.counts:
            lesson = by_themselves(setting, whole, count)
            for kind, config in bases(setting).items():
                name = kind if count == len(whole.mdps) else f"{kind}-of-{count}"
                rows += short_rows(setting, "k", f"{kind}, {count}", lesson, config, name, groups)
            if count < setting.filled:
                name = f"virtual-of-{count}"
                filled = with_virtual(setting, name, lesson)
                rows += short_rows(setting, "k", f"virtual, {count}", filled, setting.short, name, groups)
                if count == setting.few:
                    for kind, taught in (("longer", lesson), ("longer virtual", filled)):
                        name = f"{kind.replace(' ', '-')}-of-{count}"
                        rows += short_rows(setting, "k", f"{kind}, {count}", taught, setting.longer, name, groups)
            for split, mdps in groups.items():
                which = nearest(mdps, lesson.mdps, setting.family)
                learners = lesson.learners
                agent = learner_agent(learners.algorithm, learners.states, which, setting.episodes)
                rows += tested(setting, "k", f"nearest, {count}", "nearest MDP", agent, split, mdps)[0]
    return [_with_distance(row, whole) for row in rows]


def _with_distance(row: Row, whole: Lesson) -> Row:
    """The row with K, and the distance of its MDP from the nearest of the K train MDPs, m/s."""
    kind, count = row["condition"].split(", ")
    at = velocities(whole.some(int(count)).mdps)
    distance = float(np.abs(at - row["mdp"]["target_velocity"]).min())
    return {**row, "condition": kind, "k": int(count), "distance": round(distance, 3)}


def bases(setting: Setting) -> dict[str, DistillConfig]:
    """The default student and the one whose f has no posterior and learns from the distillation alone, both short."""
    mean = replace(setting.short, student=replace(setting.short.student, pooling="mean"))
    return {"base": setting.short, "mean": mean}


def batches(setting: Setting) -> list[Row]:
    """Learners taught anew from parts of the same buffers, and students of these."""
    rng = np.random.default_rng(setting.experiment.seed)
    thirds: dict[str, Callable[[int], np.ndarray]] = {
        "whole": np.arange,
        "first third": lambda n: np.arange(n // 3),
        "last third": lambda n: np.arange(n - n // 3, n),
        "random third": lambda n: np.sort(rng.permutation(n)[: n // 3]),
    }
    rows = []
    with working_on(setting) as run:
        lesson = lesson_of(run).some(setting.eight)
        for condition, choose in list(thirds.items())[: setting.conditions]:
            name = f"batches-{condition.replace(' ', '-')}"
            part = taught_anew(setting, name, lesson, Replay(tuple(select(log, choose) for log in lesson.logs.logs)))
            learners, own = part.learners, np.arange(len(part.mdps))
            agent = learner_agent(learners.algorithm, learners.states, own, setting.episodes)
            rows += tested(setting, "batches", condition, "learners", agent, "train", part.mdps)[0]
            rows += short_rows(setting, "batches", condition, part, setting.short, name, splits(setting.family))
    return rows


# ---------------------------------------------------------------------- what f learns from, and ablations


def td(setting: Setting) -> list[Row]:
    """What f learns from, all else equal: the distillation, that of Q_S alone, or the TD error of Q_S alone."""
    mean = bases(setting)["mean"]
    alone = replace(mean, parts=Parts(auxiliary=False, proposal_gradients=False))
    taught = setting.experiment.teach[PROPOSERS]
    assert isinstance(taught.algorithm, BCQ)
    # As far as the learners' values reach: targets move by this share at each of so many updates.
    rate = taught.algorithm.target_rate * taught.updates / alone.updates
    conditions = {
        "distillation": ("bcq-mean", mean),
        "distillation of Q_S": ("bcq-value-alone", alone),
        "TD error of Q_S": ("bcq-td", replace(alone, td=TDConfig(target_rate=min(1.0, rate)))),
    }
    with working_on(setting, learners=PROPOSERS) as run:
        lesson = lesson_of(run, PROPOSERS)
        return [
            row
            for condition, (name, config) in conditions.items()
            for row in short_rows(setting, "td", condition, lesson, config, name, splits(setting.family))
        ]


def ablations(setting: Setting) -> list[Row]:
    """Both base students, each without one part of the method."""
    rows = []
    with working_on(setting, learners=PROPOSERS) as run:
        lesson = lesson_of(run, PROPOSERS)
        for kind, base in bases(setting).items():
            for condition, config in list(ablated(base).items())[: setting.conditions]:
                name = f"bcq-{kind}" + ("" if config == base else f"-{condition.replace(' ', '-')}")
                found = short_rows(setting, "ablations", condition, lesson, config, name, splits(setting.family))
                rows += [{**row, "kind": kind} for row in found]
    return rows


def ablated(base: DistillConfig) -> dict[str, DistillConfig]:
    """A student's configuration, and the same without one part each."""
    student = base.student
    found = {
        "nothing": base,
        "auxiliary loss": replace(base, parts=Parts(auxiliary=False)),
        "scaling": replace(base, parts=Parts(scaling=False)),
        "low capacity of P": replace(base, student=replace(student, prediction_hidden=student.value_hidden)),
        "identity for xi_S": replace(base, student=replace(student, correction_identity=False)),
        "gradients of G_S and xi_S": replace(base, parts=Parts(proposal_gradients=False)),
    }
    if student.pooling == "posterior":
        found["labels"] = replace(base, student=replace(student, labels=False))
    return found
