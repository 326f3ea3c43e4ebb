"""Thermostats at work: a house's temperatures, the output of its heat pump and the price over a week."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmrl.families import Parameters
from bmrl.families.thermostat import INDOOR, OUTDOOR, OUTPUT, PRICE, band
from bmrl.families.weather import STEPS_A_DAY
from bmrl.figures.style import BLACK, GREY, SKY, Rollouts, method_colour, panels, save, styled


class Week(NamedTuple):
    """What happened in a house, [steps] each; NaN where the occupants want nothing."""

    indoor: np.ndarray  # °C after each step
    envelope: np.ndarray
    outdoor: np.ndarray  # during the step
    low: np.ndarray  # °C that the occupants want
    high: np.ndarray
    output: np.ndarray  # share of the capacity
    price: np.ndarray  # EUR/kWh
    reward: np.ndarray  # EUR


def week_of(episodes: Rollouts, mdp: Parameters, slot: int) -> Week:
    """The week of one slot, with ``infos["envelope"]``."""
    x = episodes.observations[slot]
    low, high = (np.where(np.isfinite(edge), edge, np.nan) for edge in band(mdp, x[:-1]))
    envelope, reward = episodes.infos["envelope"][slot], episodes.rewards[slot]
    return Week(x[1:, INDOOR], envelope, x[:-1, OUTDOOR], low, high, x[1:, OUTPUT], x[:-1, PRICE], reward)


@styled()
def plot_weeks(weeks: Mapping[str, Week], title: str, path: Path) -> None:
    """A column a method, of three panels: temperatures; the weather; the output of the heat pump and the price.

    Bold: indoors. Dashed: the envelope. Grey: the band that the occupants want while they are at home.

    Args:
        weeks: {method: a week}, of the same house.
        title: which house.
        path: the PNG file to write.
    """
    count = len(weeks)
    figure, grid = panels(3 * count, (6.4, 2.3), columns=count, sharex=True, sharey="row")
    for k, (method, week) in enumerate(weeks.items()):
        colour, days = method_colour(method), np.arange(len(week.indoor)) / STEPS_A_DAY
        warm, outside, output = (grid[row * count + k] for row in range(3))
        warm.fill_between(
            days, np.array(week.low, float), np.array(week.high, float), color="0.87", step="post", linewidth=0
        )
        warm.plot(days, week.indoor, color=colour, linewidth=1.8)
        warm.plot(days, week.envelope, color=colour, linestyle=(0, (4, 3)), linewidth=1)
        warm.set_title(f"{method}: {np.sum(week.reward):.1f} EUR")
        outside.plot(days, week.outdoor, color=SKY, linewidth=1.4)
        output.fill_between(days, 100 * np.array(week.output), step="post", color=colour, alpha=0.6, linewidth=0)
        output.step(days, 100 * np.array(week.price), color=BLACK, linewidth=0.9, where="post")
        output.set_xlabel("days")
    for row, label in enumerate(("indoors, envelope (°C)", "outdoors (°C)", "output (%), price (ct/kWh)")):
        grid[row * count].set_ylabel(label)
    figure.suptitle(title, fontsize=9, color=GREY)
    save(figure, path)
