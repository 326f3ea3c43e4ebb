"""The page: physics with its sources, a week of one house, the houses one by one, and the verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmrl.controllers import KINDS
from bmrl.families.base import Parameters
from bmrl.families.thermostat import THERMOSTAT, capacity
from bmrl.figures.style import mdp_name, number
from bmrl.figures.weeks import Week, plot_weeks
from bmrl.reproduce.markdown import table
from bmrl.reproduce.study import Row
from bmrl.statistics import FEW

LETTERS = "ABCDEFGHIJ"
TARGET = 0.9  # of the oracle's gain over the best logged thermostat
ONLINE = "SAC from scratch"
METHODS = (  # in the order of the tables
    *(("logged", kind) for kind in KINDS),
    ("tuned PI", ""),
    ("nearest teacher", "SVG"),
    ("pooled", "SVG"),
    ("tiMe", "default"),
    (ONLINE, ""),
    ("MPC", "no forecast"),
    ("MPC", "perfect forecast"),
)


class Scores(NamedTuple):
    """Returns of one seed in each test house, [houses]."""

    logged: np.ndarray  # of the best kind of thermostat in the house
    student: np.ndarray
    oracle: np.ndarray  # the better of SAC trained in the house and MPC with a perfect forecast

    @property
    def shares(self) -> np.ndarray:
        """Of the oracle's gain over the best logged thermostat, how much the student has."""
        return (self.student - self.logged) / (self.oracle - self.logged)


def page(rows: list[Row], out: Path) -> str:
    """Markdown, with its picture drawn into ``out``."""
    weeks = {row["of"]: row for row in sorted(rows, key=lambda r: -r["seed"]) if row["method"] == "week"}
    sections = [INTRODUCTION, verdict(rows), summary(rows), by_house(rows)]
    if weeks:
        mdp = next(iter(weeks.values()))["mdp"]
        plot_weeks({name: read_week(row["week"]) for name, row in weeks.items()}, mdp_name(mdp), out / "week.png")
        sections += [WEEK, "![a week of house A](week.png)"]
    return "\n\n".join([*sections, houses(), PHYSICS, LIMITS])


def read_week(values: dict[str, list[float | None]]) -> Week:
    """A week as it was kept, where null is NaN."""
    return Week(**{name: np.array(x, float) for name, x in values.items()})


def value_of(row: Row) -> float:
    """A row's mean return; a curve's last one."""
    mean = row["return_mean"]
    return float(mean[-1] if isinstance(mean, list) else mean)


def returns(rows: Sequence[Row], method: str, variant: str, seed: int) -> np.ndarray:
    """The mean return in each test house, [houses]; NaN where there is none."""
    found = {
        mdp_name(row["mdp"]): value_of(row)
        for row in rows
        if (row["method"], row.get("variant", ""), row["seed"]) == (method, variant, seed)
    }
    return np.array([found.get(mdp_name(mdp), np.nan) for mdp in THERMOSTAT.test_mdps()])


def scores(rows: Sequence[Row]) -> dict[int, Scores]:
    """What the verdict is about, for each seed of which all is there."""
    found = {}
    for seed in sorted({row["seed"] for row in rows}):
        logged = np.max([returns(rows, "logged", kind, seed) for kind in KINDS], axis=0)
        online, mpc = returns(rows, ONLINE, "", seed), returns(rows, "MPC", "perfect forecast", seed)
        one = Scores(logged, returns(rows, "tiMe", "default", seed), np.maximum(online, mpc))
        if not np.isnan(one.shares).any():
            found[seed] = one
    return found


def verdict(rows: Sequence[Row]) -> str:
    """Markdown: the two claims, judged by the median over the seeds in each house."""
    found = scores(rows)
    if not found:
        return "Not all units of a seed are done: there is no verdict yet."
    better = np.median([s.student - s.logged for s in found.values()], axis=0)
    shares = np.median([s.shares for s in found.values()], axis=0)
    first, second = (
        "too few seeds" if len(found) < FEW else "holds" if held.all() else "does not hold"
        for held in (better > 0, shares >= TARGET)
    )
    seeds = f"{len(found)} seed{'s' if len(found) > 1 else ''}"
    return (
        f"- **Better than the best logged thermostat in each house: {first}** ({(better > 0).sum()} of {len(better)} "
        f"houses, median of {seeds}; {number(better.mean())} EUR a week more on average).\n"
        f"- **At least {TARGET:.0%} of the oracle's gain over it in each house: {second}** "
        f"({(shares >= TARGET).sum()} of {len(shares)}; the median house has {_percent(np.median(shares))}, the worst "
        f"{_percent(shares.min())}, the best {_percent(shares.max())})."
    )


def summary(rows: Sequence[Row]) -> str:
    """Markdown: what each method used, cost and failed to keep, a week and house on average over houses and seeds."""
    lines = []
    for method, variant in METHODS:
        own = [row for row in rows if (row["method"], row.get("variant", "")) == (method, variant)]
        if own:
            columns = [
                number(float(np.mean([np.mean(row[name]) for row in own])), 3)
                if all(name in row for row in own)
                else "–"
                for name in ("discomfort", "electricity", "cost")
            ]
            mean = number(float(np.mean([value_of(row) for row in own])), 3)
            lines.append([_name(method, variant), *columns, mean])
    head = ("method", "discomfort (K h)", "electricity (kWh)", "cost (EUR)", "reward (EUR)")
    return f"A week, on average over the ten houses and the seeds:\n\n{table(head, lines, right=True)}"


def by_house(rows: Sequence[Row]) -> str:
    """Markdown: the reward of each method in each test house, the median over the seeds."""
    seeds = sorted({row["seed"] for row in rows})
    lines = []
    for method, variant in METHODS:
        found = np.array([returns(rows, method, variant, seed) for seed in seeds]).reshape(-1, len(LETTERS))
        found = found[~np.isnan(found).all(1)]
        if len(found):
            lines.append([_name(method, variant), *map(number, np.median(found, axis=0))])
    if complete := scores(rows):
        shares = np.median([s.shares for s in complete.values()], axis=0)
        lines.append(["share of the oracle's gain", *map(_percent, shares)])
    return table(("reward (EUR a week)", *LETTERS), lines, right=True)


def houses() -> str:
    """Markdown: the test houses."""
    head = ("house", "through the envelope", "by air", "thermal mass", "aperture", "heat pump", "comfort")
    lines = [(letter, *_house(mdp)) for letter, mdp in zip(LETTERS, THERMOSTAT.test_mdps(), strict=True)]
    return f"## The test houses\n\n{table(head, lines)}"


def _house(mdp: Parameters) -> tuple[str, ...]:
    heat = f"{float(capacity(mdp)):.1f} kW (design load {float(capacity(mdp)) / mdp['sizing']:.1f})"
    return (
        f"{1000 * mdp['transmission']:.0f} W/K",
        f"{1000 * mdp['ventilation']:.0f} W/K",
        f"{mdp['thermal_mass']:.1f} kWh/K",
        f"{mdp['aperture']:.1f} m²",
        heat,
        f"{mdp['comfort_temperature']:.1f} °C",
    )


def _name(method: str, variant: str) -> str:
    return method if variant in ("", "default") else f"{method} ({variant})"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("-", "−")


INTRODUCTION = """# Thermostats

Houses that differ in their physics and in what their occupants want, logged by ordinary thermostats for a year of
heating weeks. From these logs alone tiMe learns one policy, which then runs ten houses that it has never seen, in
weather that nobody has seen, from the first quarter of an hour on. It is told neither the house nor the wanted
temperature.

Beside it: **logged**, each kind of thermostat as the occupants of that very house set it; a **tuned PI** with
optimal start, its setpoint, setback, gain and start tuned on that house over four other weeks; the **nearest
teacher**, what was learned from the logs of the train house with the nearest parameters; the **pooled** learner of
all logs as if they were one house's; **SAC from scratch**, which tries on that very house (300 days at laptop
scale); and **MPC**, which knows the house exactly, the temperature of its envelope and the wanted temperature, with
a perfect forecast or with none. The **oracle** of the verdict is the better of SAC and MPC with a perfect forecast."""

WEEK = """## A week of house A

Indoor temperature bold, the envelope's, which no controller sees, dashed; grey is the band that the occupants want."""

PARAMETERS = table(
    ("parameter", "range", "source"),
    (
        (
            "transmission through the envelope",
            "60 ... 300 W/K (.5 ... 2.5 W/(m² K) of floor)",
            "chosen: new to unrefurbished houses, as TABULA's typologies (Loga et al. 2016) have",
        ),
        (
            "exchanged air",
            "40 ... 100 W/K (.4 ... 1.0 changes an hour)",
            "TABULA: .4 by use and .05 ... .4 by leaks; .34 Wh/(m³ K)",
        ),
        ("thermal mass", "2.7 ... 12.3 kWh/K", "ISO 13790, very light to very heavy: 80 ... 370 kJ/(m² K)"),
        ("solar aperture", "2 ... 8 m²", "chosen"),
        ("heat pump over the design load at -12 °C", "1.1 ... 1.6", "chosen"),
        ("comfort temperature", "20 ... 23 °C, ±1 K", "chosen around ISO 7730's 22 °C in winter, category A"),
    ),
)

PHYSICS = f"""## The physics

A house of 120 m² is a 2R2C network of indoor air and envelope, as identified from measurements by Bacher and Madsen
(2011, *Energy and Buildings* 43, 1511-1522: their model "TiTe"), with a path for exchanged air; steps of 15 minutes
are exact (matrix exponential with inputs held). The indoor capacity (.8 kWh/K) and the resistance to the envelope
(.9 K/kW, about the 1/h_is A_tot + 1/h_ms A_m of ISO 13790's 5R1C for a house of this size) are the same in all
houses. What differs:

{PARAMETERS}

The **heat pump** has the COP of Staffell et al. (2012, *Energy & Environmental Science* 5, 9291-9306) for air-source
heat pumps at a flow of 45 °C: 6.81 - .121 d + .00063 d², d the lift in K. It modulates from 30 to 100 %, rises and
falls by at most 35 % a step, and once switched stays on or off for at least 30 minutes (chosen); what it really does
is observed. **Weather** is drawn: season, day, fronts (4 K, 60 hours), cloud cover; the sun is Haurwitz's (1945)
clear sky at 52° north under clouds by Kasten and Czeplak (1980). **Occupants** leave and return at other times every
day, which the thermostat's schedule knows for 12 hours ahead; they sleep 4 K cooler. The **tariff** is .20 EUR/kWh
until 6, .42 from 17 to 21, else .28.

The **reward**, fixed beforehand: EUR saved against the house's standard demand (heat loss times degree hours below
17 °C, at the tariff) less .20 EUR for each K h out of the band. The standard demand depends on the weather alone, so
that differences between methods are those of cost and discomfort. Logs hold no exploration noise: setpoints,
setbacks, deadbands, times and gains differ between households and from week to week, and occupants turn the dial now
and then."""

LIMITS = """## Limits

The houses are simulated, of one zone, without measurement errors, and their heat pumps keep their flow temperature.
MPC's plans leave out the minimum output, ramps and minimum times, which the plant then imposes, so that another
controller can come out slightly above it. SAC's rows have no discomfort and energy of their own: they are the last
points of its curve."""
