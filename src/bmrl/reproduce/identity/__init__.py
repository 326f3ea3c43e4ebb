"""The identity: what it says and when, what contexts and batches it needs, and what makes it."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from bmrl.experiments.experiment import Scale
from bmrl.reproduce.identity import parts, training
from bmrl.reproduce.identity.page import page
from bmrl.reproduce.identity.setting import Setting, setting_of
from bmrl.reproduce.study import Row, Study, Unit


def parts_of(setting: Setting) -> dict[str, Callable[[], list[Row]]]:
    """Every part of a seed; those of many students are cut, since each of these takes minutes."""
    some = slice(setting.conditions)
    return {
        "decode": functools.partial(parts.decode, setting),
        "contexts": functools.partial(parts.contexts_at_test, setting),
        "sweep": functools.partial(parts.sweep, setting),
        **{f"k-{k:02d}": functools.partial(training.of_few, setting, k) for k in setting.counts},
        **{
            f"context-training-{draw}": functools.partial(training.contexts_in_training, setting, draw)
            for draw in training.DRAWS[some]
        },
        **{
            f"batches-{name.replace(' ', '-')}": functools.partial(training.batches, setting, name)
            for name in list(training.BATCHES)[some]
        },
        "td": functools.partial(training.td, setting),
        **{
            f"ablations-{kind}": functools.partial(training.ablations, setting, kind)
            for kind in training.bases(setting)
        },
    }


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """Every part for every seed."""
    settings = [setting_of(scale, seed, runs) for seed in seeds]
    return [
        Unit(f"seed-{setting.experiment.seed}/{name}", setting.config, part)
        for setting in settings
        for name, part in parts_of(setting).items()
    ]


STUDY = Study(units, page)
