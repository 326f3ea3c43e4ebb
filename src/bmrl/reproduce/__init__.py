"""The paper's figures and claims, each by one command: `bmrl reproduce NAME`."""

from pathlib import Path
from typing import cast, get_args

from bmrl.errors import BmrlError
from bmrl.experiments.experiment import Scale
from bmrl.reproduce import (
    baselines,
    cem_ablation,
    dynamics,
    figure2,
    figure3,
    identity,
    judging,
    proposition1,
    thermostat,
)
from bmrl.reproduce.study import Study, parse_seeds, run_study

STUDIES: dict[str, Study] = {
    "figure2": figure2.STUDY,
    "figure3": figure3.STUDY,
    "baselines": baselines.STUDY,
    "cem-ablation": cem_ablation.STUDY,
    "proposition1": proposition1.STUDY,
    "dynamics": dynamics.STUDY,
    "identity": identity.STUDY,
    "thermostat": thermostat.STUDY,
    "judging": judging.STUDY,
}


def reproduce(name: str, scale: str, seeds: str, out: Path, runs: Path | None, only: str) -> None:
    """Do a study's missing units and draw its page. Raises BmrlError for an unknown name, scale or seed."""
    if name not in STUDIES:
        raise BmrlError(f"unknown study {name!r}; choose one of {', '.join(STUDIES)}")
    if scale not in get_args(Scale):
        raise BmrlError(f"unknown scale {scale!r}; choose one of {', '.join(get_args(Scale))}")
    run_study(name, STUDIES[name], cast(Scale, scale), parse_seeds(seeds), out, runs, only)
