"""Ordinary thermostats: two-point control, a clock with setback, and PI, as their users set them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bmrl.families.base import Array, Parameters
from bmrl.families.thermostat import AT_HOME, COSINE, DAYS, INDOOR, SINE, UNTIL_HOME
from bmrl.families.weather import HOURS_A_STEP, STEPS_A_DAY

HYSTERESIS, SCHEDULE, PI = KINDS = ("hysteresis", "schedule", "PI")

OVERRIDES_A_DAY = 0.4  # how often occupants turn the dial for some hours


class Settings(NamedTuple):
    """n thermostats, each array [n]. Temperatures in °C or K, times in hours."""

    kind: Array  # index in `KINDS`
    setpoint: Array
    setback: Array  # K lower while nobody is up (schedule and PI)
    deadband: Array  # K between on and off (hysteresis and schedule)
    warm_from: Array  # hour of the day (schedule)
    warm_until: Array
    gain: Array  # of the capacity for a K of error (PI)
    reset_time: Array  # in which the integral repeats the proportional part (PI)
    start: Array  # hours of heating ahead of the occupants for each K that is missing (PI)
    offsets: Array  # [n, steps] K by which occupants override the setpoint


class ControllerMemory(NamedTuple):
    """What n thermostats remember."""

    step: int
    heats: Array  # [n] bool
    integral: Array  # [n]


class ControllerAgent:
    """n thermostats at work: an agent of `bmrl.evaluate.rollout`."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def start(self, n: int) -> ControllerMemory:
        """Off, at midnight."""
        return ControllerMemory(0, np.zeros(n, bool), np.zeros(n))

    def act(self, memory: ControllerMemory, observations: Array, key: Any) -> Array:
        """Commands [n, 1]."""
        error = self._error(memory, observations)
        half = self.settings.deadband / 2
        two_point = (error > half) | (memory.heats & (error > -half))
        continuous = np.clip(self.settings.gain * error + memory.integral, 0.0, 1.0)
        output = np.where(self.settings.kind == KINDS.index(PI), continuous, two_point)
        return (2 * output[:, None] - 1).astype(np.float32)

    def observe(self, memory: ControllerMemory, transition: Any) -> ControllerMemory:
        """The next step; the integral stands still where the output is at its limit (no windup)."""
        error = self._error(memory, transition.observations)
        wanted = self.settings.gain * error + memory.integral
        grows = np.where(error > 0, wanted < 1, wanted > 0)
        change = self.settings.gain * error * HOURS_A_STEP / self.settings.reset_time
        integral = np.clip(memory.integral + np.where(grows, change, 0.0), 0.0, 1.0)
        return ControllerMemory(memory.step + 1, transition.actions[:, 0] > 0, integral)

    def identity(self, memory: ControllerMemory) -> None:
        """It infers none."""

    def _error(self, memory: ControllerMemory, observations: Array) -> Array:
        """K that are missing indoors, [n] float64."""
        settings, indoor = self.settings, observations[:, INDOOR].astype(np.float64)
        hour = np.arctan2(observations[:, SINE], observations[:, COSINE]) * 12 / np.pi % 24
        up = observations[:, AT_HOME] > 0.5
        soon = observations[:, UNTIL_HOME] <= settings.start * np.maximum(settings.setpoint - indoor, 0.0)
        clock = (hour >= settings.warm_from) & (hour < settings.warm_until)
        warm = np.select(
            [settings.kind == KINDS.index(HYSTERESIS), settings.kind == KINDS.index(SCHEDULE)],
            [np.ones_like(up), clock],
            up | soon,
        )
        offset = settings.offsets[:, min(memory.step, settings.offsets.shape[1] - 1)]
        return settings.setpoint - settings.setback * ~warm + offset - indoor


def users_settings(mdps: Sequence[Parameters], kinds: Sequence[Sequence[str]], seed: int) -> Settings:
    """How the occupants of each house have set their thermostat in each week, [houses * weeks].

    A household's setpoint lies about what it wants (standard deviation .5 K), and from week to week about that (.7 K).
    Deadbands, setbacks, times and gains are of each week. Every now and then someone turns the dial up or down for some
    hours.

    Args:
        mdps: the houses.
        kinds: of each house, the kind of its thermostat in each week.
        seed: of what the occupants do.
    """
    rows = []
    for house, (mdp, weeks) in enumerate(zip(mdps, kinds, strict=True)):
        rng = np.random.default_rng([seed, house])
        household = mdp["comfort_temperature"] + rng.normal(0.0, 0.5)
        rows += [_week(household, kind, np.random.default_rng([seed, house, week])) for week, kind in enumerate(weeks)]
    return Settings(*(np.stack(column) for column in zip(*rows, strict=True)))


def _week(household: float, kind: str, rng: np.random.Generator) -> Settings:
    """One thermostat's settings, each a scalar, for a household of that setpoint."""
    settings = {
        "kind": KINDS.index(kind),
        "setpoint": household + rng.normal(0.0, 0.7),
        "setback": rng.uniform(1.0, 5.0),
        "deadband": rng.uniform(0.5, 2.0),
        "warm_from": rng.uniform(5.0, 7.5),
        "warm_until": rng.uniform(21.5, 23.5),
        "gain": rng.uniform(0.2, 0.8),
        "reset_time": rng.uniform(1.0, 4.0),
        "start": rng.choice([0.0, 0.0, 0.5]),
    }
    return Settings(**{name: np.asarray(value) for name, value in settings.items()}, offsets=_overrides(rng))


def _overrides(rng: np.random.Generator) -> Array:
    """K by which the dial is turned from its setpoint over a week, [steps]."""
    offsets = np.zeros(DAYS * STEPS_A_DAY)
    for _ in range(rng.poisson(OVERRIDES_A_DAY * DAYS)):
        begin, length = rng.integers(len(offsets)), rng.integers(4, 24)  # for 1 ... 6 hours
        offsets[begin : begin + length] = rng.choice([1.5, 1.0, -1.5, -3.0])
    return offsets
