"""Proposition 1: what Q-learning on a pooled batch converges to, and what that costs. Tabular."""

import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bmrl.experiments.experiment import Scale
from bmrl.reproduce.proposition1.examples import examples
from bmrl.reproduce.proposition1.page import page
from bmrl.reproduce.proposition1.random_mdps import SETTINGS, random_mdps
from bmrl.reproduce.study import Study, Unit


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """The two examples, and random MDPs for every seed."""
    settings = SETTINGS[scale]
    found = [Unit("examples", {}, examples)]
    for seed in seeds:
        found.append(Unit(f"seed-{seed}", asdict(settings), functools.partial(random_mdps, settings, seed)))
    return found


STUDY = Study(units, page)
