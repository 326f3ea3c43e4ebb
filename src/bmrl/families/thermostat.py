"""Thermostats: houses that differ in their physics and in what their occupants want (the paper's motivating case).

A house is a network of two resistances and two capacities, 2R2C, of the kind that Bacher and Madsen (2011) identify
from measurements ("TiTe", here with a path for exchanged air), heated by an air-source heat pump:

             1/R_ie           transmission
    indoor ---------- envelope ---------- outdoor
      |  |                |                  |
    C_i  +----------- ventilation -----------+
                         C_e

    C_i dT_i/dt = (T_e - T_i) / R_ie + ventilation (T_a - T_i) + heat + gains + (1 - SUN_IN_WALLS) aperture sun
    C_e dT_e/dt = (T_i - T_e) / R_ie + transmission (T_a - T_e) + SUN_IN_WALLS aperture sun

The envelope's temperature T_e is not observed. Units: °C, kW, kWh, h, EUR.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import numpy as np

from bmrl.families.base import Array, Family, Parameters, Simulator, place
from bmrl.families.weather import (
    ASLEEP,
    HOME,
    HOURS_A_STEP,
    STEPS_A_DAY,
    Surroundings,
    draw_surroundings,
    hours_until,
    price,
)

DAYS, FORECAST_DAYS = 7, 2  # of an episode; the weather behind its end, that a forecast can see

FLOOR = 120.0  # m², heated
INDOOR_CAPACITY = 0.8  # kWh/K
INDOOR_RESISTANCE = 0.9  # K/kW
SUN_IN_WALLS = 0.5  # share of the sun through the windows that walls and floors take up

DESIGN_OUTDOOR, DESIGN_INDOOR = -12.0, 20.0  # °C of the design heat load
FLOW = 45.0  # °C of the water that the heat pump makes

MINIMUM = 0.3  # of the capacity: below it the compressor is off
RAMP = 0.35  # of the capacity a step
MINIMUM_ON = MINIMUM_OFF = 2  # steps

BAND = 1.0  # K to either side of the comfort temperature
SLEEPS_COOLER = 4.0  # K by which the band's lower edge falls at night
DISCOMFORT = 0.2  # EUR for a K h out of the band
BASE = 17.0  # °C of the degree hours of the standard demand

# Columns of an observation.
(
    INDOOR,
    INDOOR_DAMPED,
    OUTDOOR,
    OUTDOOR_DAMPED,
    SUN,
    SINE,
    COSINE,
    PRICE,
    AT_HOME,
    SLEEPING,
    UNTIL_HOME,
    HOME_FOR,
    OUTPUT,
    HELD,
) = range(14)
SEEN_AHEAD = 12.0  # h of the occupants' schedule
INDOOR_HOURS, OUTDOOR_HOURS = 5.0, 24.0  # time constants of the damped temperatures


@final
class ThermostatFamily(Family):
    """A house's heat pump is told its output every quarter of an hour; the reward is minus energy cost and discomfort.

    Action: the output asked for, -1 (off) to 1 (all of the capacity). What the plant makes of it is observed: below
    half of its minimum it is off, it rises and falls by at most `RAMP` a step, and once switched it stays on or off
    for at least `MINIMUM_ON` and `MINIMUM_OFF` steps.

    Observation: indoor and outdoor temperature, each also damped, over 5 and 24 hours, the sun, the hour as sine and
    cosine, the price; whether the occupants are at home and awake, asleep, in how many hours they will be at home and
    awake, and for how many they will stay so, as the thermostat's schedule knows; the output, and the hours since the
    last switch. There is no forecast of the weather, and nobody tells the temperature that the occupants want: it
    shows in the reward.

    Reward: EUR saved against the house's standard demand in the same weather, less `DISCOMFORT` EUR for each K h out of
    the band, which is `BAND` around the comfort temperature while someone is at home, its lower edge `SLEEPS_COOLER`
    lower while they sleep. The standard demand is the heat loss times the degree hours below `BASE`. Nothing that is
    done changes it, so that differences of returns are those of cost and comfort; without it the weather would drown
    them.

    Infos: "electricity" in kWh, "discomfort" in K h, "envelope" in °C.
    """

    def reward(
        self,
        parameters: Mapping[str, float | Array],
        observations: Array,
        actions: Array,
        next_observations: Array,
        infos: Mapping[str, Array],
    ) -> Array:
        """See the class; ``infos`` may be empty."""
        saved = standard(parameters, observations) - electricity(parameters, observations, next_observations)
        discomforted = DISCOMFORT * discomfort(parameters, observations, next_observations)
        rewards: Array = observations[..., PRICE].astype(np.float64) * saved - discomforted
        return rewards

    def simulator(self, mdps: Sequence[Parameters], seed: int, threads: int = 2) -> "ThermostatSimulator":
        """See `Family.simulator`; a step is a few additions, so `threads` is not used."""
        return ThermostatSimulator(self, mdps, seed)

    def figures(self, observations: Array, rewards: Array, infos: Mapping[str, Array]) -> dict[str, Array]:
        """What the episodes used, cost and failed to keep: kWh, EUR and K h."""
        cost = observations[:, :-1, PRICE] * infos["electricity"]
        return {
            "electricity": infos["electricity"].sum(1),
            "cost": cost.sum(1),
            "discomfort": infos["discomfort"].sum(1),
        }

    def reference_returns(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """None: what a week costs depends on its weather."""
        self.validate(parameters)
        return {}


def heat_loss(parameters: Mapping[str, float | Array]) -> Array:
    """KW/K from indoors to outdoors at rest."""
    return parameters["ventilation"] + 1 / (INDOOR_RESISTANCE + 1 / np.asarray(parameters["transmission"], np.float64))


def capacity(parameters: Mapping[str, float | Array]) -> Array:
    """Heat in kW that the heat pump can give: a multiple of the design heat load."""
    return parameters["sizing"] * heat_loss(parameters) * (DESIGN_INDOOR - DESIGN_OUTDOOR)


def efficiency(outdoor: Array) -> Array:
    """Heat for electricity (COP) of air-source heat pumps, by the regression of Staffell et al. (2012)."""
    lift = np.clip(FLOW - np.asarray(outdoor, np.float64), 15.0, 60.0)
    return 6.81 - 0.121 * lift + 0.000630 * lift**2


def electricity(parameters: Mapping[str, float | Array], observations: Array, next_observations: Array) -> Array:
    """KWh of a step: the output that the plant really had, which the next observation tells."""
    heat = capacity(parameters) * next_observations[..., OUTPUT] * HOURS_A_STEP
    return heat / efficiency(observations[..., OUTDOOR])


def standard(parameters: Mapping[str, float | Array], observations: Array) -> Array:
    """KWh of electricity of a step's standard demand."""
    outdoor = np.asarray(observations[..., OUTDOOR], np.float64)
    return heat_loss(parameters) * np.maximum(BASE - outdoor, 0.0) * HOURS_A_STEP / efficiency(outdoor)


def discomfort(parameters: Mapping[str, float | Array], observations: Array, next_observations: Array) -> Array:
    """K h of a step out of the band that the occupants want."""
    indoor = np.asarray(next_observations[..., INDOOR], np.float64)
    low, high = band(parameters, observations)
    return HOURS_A_STEP * (np.maximum(low - indoor, 0.0) + np.maximum(indoor - high, 0.0))


def band(parameters: Mapping[str, float | Array], observations: Array) -> tuple[Array, Array]:
    """The lowest and the highest temperature that the occupants want now; infinite while nobody is at home."""
    wanted = np.asarray(parameters["comfort_temperature"])
    asleep, someone = observations[..., SLEEPING] > 0.5, observations[..., SLEEPING] + observations[..., AT_HOME] > 0.5
    low = np.where(someone, wanted - BAND - SLEEPS_COOLER * asleep, -np.inf)
    return low, np.where(someone, wanted + BAND, np.inf)


def discretise(parameters: Mapping[str, Array], hours: float) -> tuple[Array, Array]:
    """The exact step of the network with inputs held: T(t + hours) = A T(t) + B (T_a, sun, heat and gains).

    T = (T_i, T_e). A = exp(F hours) [..., 2, 2] and B = F^-1 (A - I) G [..., 2, 3] of dT/dt = F T + G u. F has two
    real eigenvalues, l1 > l2, so that exp(F t) = (e1 (F - l2) - e2 (F - l1)) / (l1 - l2) with e = exp(l t).
    """
    ventilation, transmission, mass, aperture = (
        np.asarray(parameters[name], np.float64) for name in ("ventilation", "transmission", "thermal_mass", "aperture")
    )
    link, zero, one = 1 / INDOOR_RESISTANCE, np.zeros_like(mass), np.ones_like(mass)
    air, walls = one / INDOOR_CAPACITY, 1 / mass
    f = _matrix([[-(link + ventilation) * air, link * air], [link * walls, -(link + transmission) * walls]])
    sun = ((1 - SUN_IN_WALLS) * aperture * air, SUN_IN_WALLS * aperture * walls)
    g = _matrix([[ventilation * air, sun[0], air], [transmission * walls, sun[1], zero]])
    half, determinant = (f[..., 0, 0] + f[..., 1, 1]) / 2, f[..., 0, 0] * f[..., 1, 1] - f[..., 0, 1] * f[..., 1, 0]
    root = np.sqrt(half**2 - determinant)
    slow, fast = half + root, half - root
    grown, shrunk = (np.exp(x * hours)[..., None, None] for x in (slow, fast))
    unit = np.eye(2)
    slow, fast = slow[..., None, None], fast[..., None, None]
    a = (grown * (f - fast * unit) - shrunk * (f - slow * unit)) / (slow - fast)
    return a, np.linalg.solve(f, (a - unit) @ g)


def _matrix(rows: Sequence[Sequence[Array]]) -> Array:
    """A matrix whose elements are arrays of any shape, [..., rows, columns]."""
    return np.stack([np.stack(np.broadcast_arrays(*row), axis=-1) for row in rows], axis=-2)


def plant(commands: Array, output: Array, held: Array) -> tuple[Array, Array]:
    """What the heat pump does with commands in 0 ... 1: its output, and for how many steps it has been on or off.

    Args:
        commands: [...], shares of the capacity.
        output: [...] of the step before, 0 or `MINIMUM` ... 1.
        held: [...] steps since it was switched on or off.
    """
    on, wanted = output > 0, commands >= MINIMUM / 2
    runs = np.where(on, wanted | (held < MINIMUM_ON), wanted & (held >= MINIMUM_OFF))
    before = np.where(on, output, MINIMUM)  # a compressor starts at its minimum
    asked = np.clip(commands, MINIMUM, 1.0)
    level = np.where(runs, np.clip(asked, before - RAMP, before + RAMP), 0.0)
    level = np.where(runs & ~on, MINIMUM, level)
    return level, np.where(runs == on, held + 1, 1)


@final
class ThermostatSimulator(Simulator):
    """n houses. Each episode is a week of its own, in weather and with occupants drawn when it begins."""

    def __init__(self, family: ThermostatFamily, mdps: Sequence[Parameters], seed: int):
        super().__init__(family, mdps, seed)
        a, b = discretise(self._parameters, HOURS_A_STEP)
        self._a, self._b, self._capacity = a, b, capacity(self._parameters)
        steps = STEPS_A_DAY * (DAYS + FORECAST_DAYS)
        self._temperatures = np.zeros((self.n, 2))
        self._damped = np.zeros((self.n, 2))  # indoors and outdoors
        self._output = np.zeros(self.n)
        self._held = np.zeros(self.n)
        self._surroundings = Surroundings(*(np.zeros((self.n, steps)) for _ in Surroundings._fields))
        self._until_home, self._home_for = np.zeros((2, self.n, steps))

    def forecast(self, steps: int) -> Surroundings:
        """What will act on each house in the steps from now on, [n, steps]: what a perfect forecast knows.

        It ends two days after the episode; what lies beyond is as the last quarter of an hour.
        """
        index = self._now()[:, None] + np.arange(steps)
        index = np.minimum(index, self._surroundings.outdoor.shape[1] - 1)
        return Surroundings(*(np.take_along_axis(x, index, axis=1) for x in self._surroundings))

    @property
    def temperatures(self) -> Array:
        """Indoors and of the envelope, [n, 2]."""
        return self._temperatures.copy()

    def frames(self) -> Array:
        """Three columns: the temperature indoors, that outdoors, and the output in tens of percent."""
        now = self._observe()
        heights = np.stack([now[:, INDOOR], now[:, OUTDOOR], 10 * now[:, OUTPUT]], axis=1)
        segments = np.zeros((self.n, 3, 2, 2), np.float32)
        segments[..., 0] = np.arange(3)[:, None]
        segments[..., 1, 1] = heights
        return segments

    def _physics(self) -> dict[str, Array]:
        return {
            "temperatures": self._temperatures,
            "damped": self._damped,
            "output": self._output,
            "held": self._held,
            **self._surroundings._asdict(),
            "until_home": self._until_home,
            "home_for": self._home_for,
        }

    def _begin(self, slot: int, rng: np.random.Generator) -> None:
        drawn = draw_surroundings(rng, DAYS + FORECAST_DAYS)
        for array, values in zip(self._surroundings, drawn, strict=True):
            array[slot] = values
        home = drawn.occupancy == HOME
        self._until_home[slot], self._home_for[slot] = hours_until(home), hours_until(~home)
        indoor = rng.uniform(18.0, 21.0)
        outdoor = drawn.outdoor[:STEPS_A_DAY].mean()
        self._damped[slot] = indoor, outdoor
        share = INDOOR_RESISTANCE * self._parameters["transmission"][slot]
        envelope = (indoor + share * outdoor) / (1 + share)  # where it would come to rest
        self._temperatures[slot] = indoor, envelope
        self._output[slot], self._held[slot] = 0.0, MINIMUM_OFF

    def _now(self) -> Array:
        return np.minimum(self._steps, self._surroundings.outdoor.shape[1] - 1)

    def _observe(self) -> Array:
        slots, now = np.arange(self.n), self._now()
        hour = (self._steps % STEPS_A_DAY) * HOURS_A_STEP
        occupancy = self._surroundings.occupancy[slots, now]
        columns = {
            INDOOR: self._temperatures[:, 0],
            OUTDOOR: self._surroundings.outdoor[slots, now],
            INDOOR_DAMPED: self._damped[:, 0],
            OUTDOOR_DAMPED: self._damped[:, 1],
            SUN: self._surroundings.sun[slots, now],
            SINE: np.sin(2 * np.pi * hour / 24),
            COSINE: np.cos(2 * np.pi * hour / 24),
            PRICE: price(hour),
            AT_HOME: occupancy == HOME,
            SLEEPING: occupancy == ASLEEP,
            UNTIL_HOME: np.minimum(self._until_home[slots, now], SEEN_AHEAD),
            HOME_FOR: np.minimum(self._home_for[slots, now], SEEN_AHEAD),
            OUTPUT: self._output,
            HELD: np.minimum(self._held, 4) * HOURS_A_STEP,
        }
        return np.stack([columns[k] for k in range(len(columns))], axis=1).astype(np.float32)

    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        slots, now = np.arange(self.n), self._now()
        before = self._observe()
        self._output[...], self._held[...] = plant((actions[:, 0].astype(np.float64) + 1) / 2, self._output, self._held)
        outdoor, sun, gains, _ = (x[slots, now] for x in self._surroundings)
        inputs = np.stack([outdoor, sun, self._capacity * self._output + gains], axis=1)
        # Sums written out: a product of matrices may round differently with other slots beside it.
        self._temperatures[...] = (self._a * self._temperatures[:, None, :]).sum(-1) + (
            self._b * inputs[:, None, :]
        ).sum(-1)
        seen = np.stack([self._temperatures[:, 0], outdoor], axis=1)
        self._damped += (seen - self._damped) * (HOURS_A_STEP / np.array([INDOOR_HOURS, OUTDOOR_HOURS]))
        self._steps += 1  # for the observation alone; `Simulator.step` counts
        after = self._observe()
        self._steps -= 1
        infos = {
            "electricity": electricity(self._parameters, before, after),
            "discomfort": discomfort(self._parameters, before, after),
            "envelope": self._temperatures[:, 1],
        }
        never = np.zeros(self.n, bool)
        return never, never.copy(), {name: x.astype(np.float32) for name, x in infos.items()}


BOUNDS = {
    # kW/K through the envelope: .5 ... 2.5 W/K for each m² of floor, from houses of today to unrefurbished old ones
    # (TABULA, Loga et al. 2016, has the like)
    "transmission": (0.06, 0.30),
    # kW/K of exchanged air: .4 ... 1.0 changes an hour of 300 m³ (TABULA: .4 by use and .05 ... .4 by leaks)
    "ventilation": (0.04, 0.10),
    # kWh/K: 80 ... 370 kJ/(m² K), very light to very heavy in ISO 13790
    "thermal_mass": (2.7, 12.3),
    # m² of window times its solar transmittance: chosen
    "aperture": (2.0, 8.0),
    # heat pump's capacity over the design heat load: chosen
    "sizing": (1.1, 1.6),
    # °C: chosen around the 22 °C of ISO 7730 in winter, whose category A is the band of +-1 K
    "comfort_temperature": (20.0, 23.0),
}
RATIOS = ("transmission", "thermal_mass")
# Places in the sequence of houses. Those behind the test houses came later: the test houses stayed what they were.
TRAIN, VALIDATION, TEST = (*range(1, 25), *range(41, 65)), (*range(25, 31), *range(65, 105)), range(31, 41)


def _houses(indices: Iterable[int]) -> tuple[Parameters, ...]:
    """Points of the additive recurrence of the generalised golden ratio, which fills a box of six sides evenly.

    Roberts (2018), "The unreasonable effectiveness of quasirandom sequences": x_i = frac(1/2 + i g^-k), g^7 = g + 1.
    """
    ratio = 1.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (len(BOUNDS) + 1))
    powers = ratio ** -np.arange(1.0, len(BOUNDS) + 1)
    houses = [place(BOUNDS, RATIOS, ((0.5 + i * powers) % 1).tolist()) for i in indices]
    return tuple({name: round(value, 3) for name, value in house.items()} for house in houses)


THERMOSTAT = ThermostatFamily(
    name="thermostat",
    env_id="bmrl/Thermostat-v0",
    bounds=BOUNDS,
    train=_houses(TRAIN),
    validation=_houses(VALIDATION),
    test=_houses(TEST),
    horizon=DAYS * STEPS_A_DAY,
    observation_dim=14,
    action_dim=1,
    logarithmic=RATIOS,
    transitions_vary=True,
    info_names=("electricity", "discomfort", "envelope"),
)
