"""Logs of houses as they are run: by ordinary thermostats, whose users set them, with no exploration noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bmrl.collect.log import empty_log, provenance, record, write_log
from bmrl.controllers import KINDS, ControllerAgent, users_settings
from bmrl.errors import BmrlError
from bmrl.families.base import Family, Parameters
from bmrl.families.thermostat import ThermostatFamily
from bmrl.types import Transition


@dataclass(frozen=True)
class ControllerLogs:
    """How long each house was logged. Its thermostat was replaced twice: a third of the time belongs to each kind."""

    collector: ClassVar[str] = "controllers"
    weeks: int


def log_controllers(family: Family, mdps: Sequence[Parameters], config: ControllerLogs, seed: int, out: Path) -> None:
    """Fill ``out`` with one batch directory a house.

    Raises BmrlError for a family that has no controllers.
    """
    if not isinstance(family, ThermostatFamily):
        raise BmrlError(f"{family.name} has no controllers to log: collect with SAC, or bring batches of your own")
    house = [mdp for mdp in mdps for _ in range(config.weeks)]
    kinds = [KINDS[week * len(KINDS) // config.weeks] for week in range(config.weeks)]
    agent = ControllerAgent(users_settings(mdps, [kinds] * len(mdps), seed))
    simulator = family.simulator(house, seed)
    log, now, memory = empty_log(len(house), family.horizon, family), simulator.reset(), agent.start(len(house))
    for t in range(family.horizon):
        actions = agent.act(memory, now, None)
        before, now = now, record(log, t, now, actions, simulator)
        step = (log[name][:, t] for name in ("rewards", "next_observations", "terminations"))
        memory = agent.observe(memory, Transition(before, actions, *step))
    for k, mdp in enumerate(mdps):
        weeks = slice(k * config.weeks, (k + 1) * config.weeks)
        arrays = {name: x[weeks].reshape(-1, *x.shape[2:]) for name, x in log.items()}
        write_log(out / f"mdp-{k:03d}", arrays, mdp, family, provenance(config, seed))
