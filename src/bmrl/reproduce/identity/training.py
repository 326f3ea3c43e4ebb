"""The parts of the study that train short students, and the ablations."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bmrl.batch_rl import BCQ
from bmrl.batch_rl.replay import Replay, select
from bmrl.distill.contexts import ContextConfig, Draw
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
DRAWS: tuple[Draw, ...] = ("mixed", "transitions", "prefix")
# Indices of n episodes, with a generator for what is random.
BATCHES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "whole": lambda n, _: np.arange(n),
    "first third": lambda n, _: np.arange(n // 3),
    "last third": lambda n, _: np.arange(n - n // 3, n),
    "random third": lambda n, rng: np.sort(rng.permutation(n)[: n // 3]),
}


# ---------------------------------------------------------------------- contexts in training


def contexts_in_training(setting: Setting, draw: Draw) -> list[Row]:
    """Students trained with contexts of many sizes, drawn in one way; at test their own episodes, or logs."""
    logs, mdps, rows = logs_of_tests(setting), setting.family.test_mdps(), []
    with working_on(setting) as run:
        lesson = lesson_of(run)
        for context in _contexts(draw)[: setting.conditions]:
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


def _contexts(draw: Draw) -> list[ContextConfig]:
    """Of the default's size and smaller, and of the default's size as logged; larger ones of the default's draw."""
    found = [ContextConfig(16, draw=draw), ContextConfig(1, draw=draw), ContextConfig(16, draw=draw, relabel=False)]
    return [*found, ContextConfig(64)] if draw == ContextConfig().draw else found


# ---------------------------------------------------------------------- how many MDPs, and which batches


def of_few(setting: Setting, count: int) -> list[Row]:
    """Students of ``count`` evenly spread train MDPs, without and with virtual ones, and the nearest one's learner."""
    rows = []
    with working_on(setting) as run:
        whole, groups = lesson_of(run), {**splits(setting.family), "held out": held_out(setting)}
        lesson = by_themselves(setting, whole, count)
        for kind, config in bases(setting).items():
            name = kind if count == len(whole.mdps) else f"{kind}-of-{count}"
            rows += short_rows(setting, "k", kind, lesson, config, name, groups)
        if count < setting.filled:
            name = f"virtual-of-{count}"
            filled = with_virtual(setting, name, lesson)
            rows += short_rows(setting, "k", "virtual", filled, setting.short, name, groups)
            if count == setting.few:
                for kind, taught in (("longer", lesson), ("longer virtual", filled)):
                    name = f"{kind.replace(' ', '-')}-of-{count}"
                    rows += short_rows(setting, "k", kind, taught, setting.longer, name, groups)
        for split, mdps in groups.items():
            which = nearest(mdps, lesson.mdps, setting.family)
            learners = lesson.learners
            agent = learner_agent(learners.algorithm, learners.states, which, setting.episodes)
            rows += tested(setting, "k", "nearest", "nearest MDP", agent, split, mdps)[0]
    return [_with_distance(row, lesson) for row in rows]


def _with_distance(row: Row, lesson: Lesson) -> Row:
    """The row with K, and the distance of its MDP from the nearest of the K train MDPs, m/s."""
    distance = float(np.abs(velocities(lesson.mdps) - row["mdp"]["target_velocity"]).min())
    return {**row, "k": len(lesson.mdps), "distance": round(distance, 3)}


def bases(setting: Setting) -> dict[str, DistillConfig]:
    """The default student and the one whose f has no posterior and learns from the distillation alone, both short."""
    mean = replace(setting.short, student=replace(setting.short.student, pooling="mean"))
    return {"base": setting.short, "mean": mean}


def batches(setting: Setting, name: str) -> list[Row]:
    """Learners taught anew from a part of the same buffers, and a student of these."""
    rng = np.random.default_rng(setting.experiment.seed)
    place = f"batches-{name.replace(' ', '-')}"
    with working_on(setting) as run:
        lesson = lesson_of(run).some(setting.batch_mdps)
        chosen = Replay(tuple(select(log, lambda n: BATCHES[name](n, rng)) for log in lesson.logs.logs))
        part = taught_anew(setting, place, lesson, chosen)
        learners, own = part.learners, np.arange(len(part.mdps))
        agent = learner_agent(learners.algorithm, learners.states, own, setting.episodes)
        return [
            *tested(setting, "batches", name, "learners", agent, "train", part.mdps)[0],
            *short_rows(setting, "batches", name, part, setting.short, place, splits(setting.family)),
        ]


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


def ablations(setting: Setting, kind: str) -> list[Row]:
    """One of the base students, and the same without one part of the method each."""
    rows, base = [], bases(setting)[kind]
    with working_on(setting, learners=PROPOSERS) as run:
        lesson = lesson_of(run, PROPOSERS)
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
