"""The identity: what it says and when, what contexts and batches it needs, and what makes it."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from bmrl.experiments.experiment import Scale
from bmrl.reproduce.identity import parts, training
from bmrl.reproduce.identity.page import page
from bmrl.reproduce.identity.setting import Setting, setting_of
from bmrl.reproduce.study import Row, Study, Unit

PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "decode": parts.decode,
    "contexts": parts.contexts_at_test,
    "sweep": parts.sweep,
    "k": training.counts,
    "context-training": training.contexts_in_training,
    "batches": training.batches,
    "td": training.td,
    "ablations": training.ablations,
}


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """Every part for every seed."""
    settings = [setting_of(scale, seed, runs) for seed in seeds]
    return [
        Unit(f"seed-{setting.experiment.seed}/{name}", setting.config, functools.partial(part, setting))
        for setting in settings
        for name, part in PARTS.items()
    ]


STUDY = Study(units, page)
