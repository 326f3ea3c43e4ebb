"""Weather, occupants and tariff of a heating season: what acts on a house whatever its thermostat does. NumPy only.

Nothing is downloaded: the weather is drawn, from a process that has what matters to heating: the season, the day,
fronts that stay for days, and clouds. It resembles central Europe at 52° north; constants without a source are chosen.
"""

from typing import NamedTuple

import numpy as np

from bmrl.families.base import Array

STEPS_A_DAY = 96  # of 15 minutes
HOURS_A_STEP = 24 / STEPS_A_DAY

FIRST_DAY, LAST_DAY = 288, 455  # of the heating season, counted from 1 January: 15 October ... 31 March
LATITUDE = np.radians(52.0)

MEAN, SEASON = 9.5, 9.0  # °C: the year's mean and its swing about it, coldest (.5 °C) on 20 January
DAY_SWING = 3.0  # K under a clear sky, warmest at 15:00; a third of it under a closed one
FRONTS, FRONT_HOURS = 4.0, 60.0  # standard deviation in K and correlation time
CLOUDS, CLOUD_HOURS = 1.5, 12.0  # the same of the cloud cover, before it is squeezed into 0 ... 1
GUSTS, GUST_HOURS = 0.5, 2.0
APPLIANCES, APPLIANCE_HOURS = 0.15, 2.0  # kW

AWAY, ASLEEP, HOME = 0, 1, 2
GAINS = (0.15, 0.25, 0.55)  # kW of people and appliances, in each of these: 1.3 ... 4.6 W/m² of 120 m²
HOME_ALL_DAY = 2 / 7  # of the days

NIGHT, DAY, PEAK = 0.20, 0.28, 0.42  # EUR/kWh
DAY_BEGINS, PEAK_BEGINS, PEAK_ENDS = 6.0, 17.0, 21.0


class Surroundings(NamedTuple):
    """What acts on a house, one value each quarter of an hour, [steps]."""

    outdoor: Array  # °C
    sun: Array  # kW/m² on the horizontal
    gains: Array  # kW from people and appliances
    occupancy: Array  # `AWAY`, `ASLEEP` or `HOME`


def draw_surroundings(rng: np.random.Generator, days: int) -> Surroundings:
    """Weather and occupants of some days in a row, from midnight of a random day of the heating season."""
    first_day, hours = rng.uniform(FIRST_DAY, LAST_DAY - days), np.arange(24 * days + 1)
    fronts, clouds, gusts, appliances = (
        _autoregressive(rng, len(hours), deviation, time)
        for deviation, time in (
            (FRONTS, FRONT_HOURS),
            (CLOUDS, CLOUD_HOURS),
            (GUSTS, GUST_HOURS),
            (APPLIANCES, APPLIANCE_HOURS),
        )
    )
    day = first_day + hours / 24 - first_day % 1  # episodes begin at midnight
    cover = 1 / (1 + np.exp(-clouds - 0.8))  # more often closed than clear, as winters are
    swing = DAY_SWING * (1 - cover * 2 / 3) * np.cos(2 * np.pi * (hours - 15) / 24)
    outdoor = MEAN - SEASON * np.cos(2 * np.pi * (day - 20) / 365) + swing + fronts + gusts
    # Clear nights are cold, overcast ones mild: a closed sky comes with the mild side of a front.
    outdoor += 2.0 * (cover - 0.65)
    sun = clear_sky(day) * (1 - 0.75 * cover**3.4)
    steps = np.arange(STEPS_A_DAY * days) * HOURS_A_STEP
    occupancy = _occupancy(rng, days)
    gains = np.array(GAINS)[occupancy] + np.abs(np.interp(steps, hours, appliances))
    return Surroundings(np.interp(steps, hours, outdoor), np.interp(steps, hours, sun), gains, occupancy)


def clear_sky(day: Array) -> Array:
    """Irradiance on the horizontal in kW/m² at a time in days from 1 January, under a clear sky.

    Haurwitz (1945), 1.098 cos(z) exp(-.057 / cos(z)), z the zenith angle; clouds of cover c leave 1 - .75 c^3.4 of it
    (Kasten and Czeplak 1980).
    """
    declination = np.radians(-23.45) * np.cos(2 * np.pi * (day + 10) / 365)
    angle = 2 * np.pi * (day % 1 - 0.5)
    height = np.sin(LATITUDE) * np.sin(declination) + np.cos(LATITUDE) * np.cos(declination) * np.cos(angle)
    height = np.maximum(height, 1e-3)
    return 1.098 * height * np.exp(-0.057 / height)


def price(hour: Array) -> Array:
    """EUR/kWh at an hour of the day in [0, 24): a tariff with a cheap night and a dear evening."""
    return np.where(hour < DAY_BEGINS, NIGHT, np.where((hour >= PEAK_BEGINS) & (hour < PEAK_ENDS), PEAK, DAY))


def hours_until(flags: Array) -> Array:
    """For each step [steps] bool how many hours later the next one is set, 0 where it is; 24 if none is."""
    steps = np.arange(len(flags))
    following = np.minimum.accumulate(np.where(flags, steps, len(flags) + STEPS_A_DAY)[::-1])[::-1]
    return np.minimum((following - steps) * HOURS_A_STEP, 24.0)


def _autoregressive(rng: np.random.Generator, steps: int, deviation: float, hours: float) -> Array:
    """A stationary process of hourly values whose correlation falls to 1/e within ``hours``."""
    kept = np.exp(-1 / hours)
    noise = rng.standard_normal(steps) * np.append(1.0, np.full(steps - 1, np.sqrt(1 - kept**2)))
    values = np.empty(steps)
    now = 0.0
    for t, x in enumerate(noise.tolist()):
        now = kept * now + x
        values[t] = now
    return deviation * values


def _occupancy(rng: np.random.Generator, days: int) -> Array:
    """A household's days: asleep, at home, mostly away from the morning to the afternoon."""
    hour = np.arange(STEPS_A_DAY) * HOURS_A_STEP
    found = []
    for _ in range(days):
        wakes, leaves = rng.uniform(6.0, 7.5), rng.uniform(7.5, 9.0)
        returns, sleeps = rng.uniform(15.5, 18.5), rng.uniform(22.0, 23.5)
        today = np.where((hour < wakes) | (hour >= sleeps), ASLEEP, HOME)
        if rng.random() >= HOME_ALL_DAY:
            today[(hour >= leaves) & (hour < returns)] = AWAY
        found.append(today)
    return np.concatenate(found)
