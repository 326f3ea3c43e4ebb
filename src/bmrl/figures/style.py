"""What the figures share: looks, colours, names, which episodes count, and saving."""

import io
import math
import textwrap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib import colormaps, rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from bmrl.families import Parameters
from bmrl.runs.storage import write_file

DPI = 150
COLUMNS = 3  # of panels, before they go on in the next row
TITLE_LETTERS = 34  # in a line of a panel's title

# On top of matplotlib's defaults.
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.labelsize": 11,
    "axes.edgecolor": "0.35",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "0.92",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.color": "0.35",
    "ytick.color": "0.35",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "lines.solid_capstyle": "round",
}

# Okabe and Ito's colours, which colour-blind readers can tell apart, without the yellow.
BLUE, SKY, GREEN, ORANGE, RED, PINK = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
BLACK, GREY = "#000000", "#777777"

COLOURS: dict[str, str] = {
    "tiMe": BLUE,
    "tiMe (paper)": SKY,
    "tiMe (reward-only)": "#5AB4AC",
    "tiMe (no context)": "#7A8FBF",
    "nearest": ORANGE,
    "teacher": GREEN,
    "pooled": RED,
    "pooled (BCQ)": PINK,
    "contextual": "#A6761D",
    "on own data": "#5D6D3A",
    "behaviour cloning": "#AA4499",
    "standing still": "#999933",
    "uniform actions": "#332288",
    "contextual SAC (tiMe": "#C9A15A",
    "oracle": BLACK,
    "SAC": GREY,
}
FALLBACK = ("#882255", "#44AA99", "#332288", "#999933")  # from Paul Tol's muted scheme


@contextmanager
def styled() -> Iterator[None]:
    """Decorates what draws: our looks whatever the user's matplotlibrc says, and all as it was afterwards."""
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        yield


class Quantity(NamedTuple):
    """How a parameter of MDPs is shown: ``factor`` times its value, in ``unit``."""

    name: str
    unit: str
    factor: float = 1.0


QUANTITIES: dict[str, Quantity] = {
    "target_velocity": Quantity("target velocity", " m/s"),
    "goal_angle": Quantity("goal angle", "°", 180 / math.pi),
    "mass": Quantity("mass", "×"),
    "friction": Quantity("friction", "×"),
    "damping": Quantity("damping", "×"),
    "transmission": Quantity("transmission", " W/K", 1000),
    "ventilation": Quantity("ventilation", " W/K", 1000),
    "thermal_mass": Quantity("thermal mass", " kWh/K"),
    "aperture": Quantity("aperture", " m²"),
    "sizing": Quantity("sizing", "×"),
    "comfort_temperature": Quantity("comfort", " °C"),
}


class Rollouts(Protocol):
    """What figures read of `bmrl.evaluate.rollout.Episodes`: the first ``lengths[i]`` of T steps count."""

    @property
    def observations(self) -> np.ndarray:
        """[n, T + 1, d_s]."""

    @property
    def rewards(self) -> np.ndarray:
        """[n, T], zero after the end."""

    @property
    def lengths(self) -> np.ndarray:
        """[n] steps."""

    @property
    def valid(self) -> np.ndarray:
        """[n] bool, False where the simulation became unstable."""

    @property
    def infos(self) -> dict[str, np.ndarray]:
        """[n, T] each."""

    @property
    def identities(self) -> np.ndarray | None:
        """[n, T, d_m]."""


def valid_by_mdp(episodes: Rollouts, mdps: Sequence[Parameters]) -> list[tuple[Parameters, np.ndarray]]:
    """Every MDP, in the order of ``mdps`` [n], with the indices of its valid episodes."""
    if len(mdps) != len(episodes.valid):
        raise ValueError(f"{len(mdps)} MDPs for {len(episodes.valid)} episodes")
    groups: dict[str, tuple[Parameters, list[int]]] = {}
    for episode, mdp in enumerate(mdps):
        indices = groups.setdefault(mdp_name(mdp), (mdp, []))[1]
        if episodes.valid[episode]:
            indices.append(episode)
    return [(mdp, np.array(indices, int)) for mdp, indices in groups.values()]


# ---------------------------------------------------------------------- names


def quantity(parameter: str) -> Quantity:
    """How a parameter is shown; an unknown one by its own name, without a unit."""
    return QUANTITIES.get(parameter, Quantity(parameter.replace("_", " "), ""))


def mdp_name(mdp: Parameters) -> str:
    """An MDP for a reader, e.g. "target velocity 0.475 m/s": the same in whatever order a file has its parameters."""
    names = [*(name for name in QUANTITIES if name in mdp), *sorted(mdp.keys() - QUANTITIES.keys())]
    shown = [(quantity(name), mdp[name]) for name in names]
    return ", ".join(f"{q.name} {number(q.factor * value, 6)}{q.unit}" for q, value in shown) or "MDP"


def mdp_title(mdp: Parameters) -> str:
    """The MDP's name in lines that fit over a panel, broken between parameters."""
    parts = mdp_name(mdp).replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return textwrap.fill(parts, TITLE_LETTERS).replace("\N{NO-BREAK SPACE}", " ")


def number(value: float, digits: int = 3) -> str:
    """Up to ``digits`` significant digits, never fewer than the integer part has, and a true minus sign."""
    text = f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return text.replace("-", "−")


def method_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The method of every row of results, with what tells its rows apart, e.g. "tiMe (paper, no context)".

    The context is told only where one method and variant was tested with several.
    """
    contexts: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        contexts.setdefault((row["method"], row["variant"]), set()).add(row.get("context", "episode"))
    names = []
    for row in rows:
        details = [row["variant"]] if row["variant"] not in ("", "default") else []
        context = row.get("context", "episode")
        if len(contexts[row["method"], row["variant"]]) > 1 and context != "episode":
            details.append("no context" if context == "none" else f"context: {Path(context).name}")
        names.append(f"{row['method']} ({', '.join(details)})" if details else str(row["method"]))
    return names


# ---------------------------------------------------------------------- colours


def method_colour(name: str) -> str:
    """The colour of a method: the entry of ``COLOURS`` with the longest key in its name, the first of equals."""
    keys = [key for key in COLOURS if key.lower().rstrip(")") in name.lower()]
    if keys:
        return COLOURS[max(keys, key=len)]
    return FALLBACK[zlib.crc32(name.encode()) % len(FALLBACK)]  # hash() differs from process to process


def parameter_colours(mdps: Sequence[Parameters]) -> tuple[Normalize, ListedColormap, np.ndarray]:
    """A scale over the MDPs' first parameter, as shown: norm, colormap, and the value of every MDP [n]."""
    values = np.array([quantity(name).factor * value for mdp in mdps for name, value in list(mdp.items())[:1]])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    # without plasma's yellow, too light for lines on white
    colours = ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.82, 256)))
    return Normalize(low, high if high > low else low + 1.0), colours, values


# ---------------------------------------------------------------------- figures


def panels(count: int, size: tuple[float, float], columns: int = COLUMNS, **subplots: Any) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels (at least one) of ``size`` (width, height) in inches, row by row."""
    count = max(count, 1)
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure((columns * size[0], rows * size[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, **subplots).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def label_edges(grid: Sequence[Axes], xlabel: str, ylabel: str) -> None:
    """Labels and numbers on the outer edges only, of panels in ``COLUMNS`` that share their axes."""
    for k, axes in enumerate(grid):
        lowest, leftmost = k + COLUMNS >= len(grid), k % COLUMNS == 0
        axes.tick_params(labelbottom=lowest, labelleft=leftmost)
        axes.set(xlabel=xlabel if lowest else "", ylabel=ylabel if leftmost else "")


def note(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float] = (0, 0),
    where: Any = "data",
    **looks: Any,
) -> None:
    """Small text at a point of the coordinates ``where``, moved by ``offset`` points; legible over lines."""
    looks = {"fontsize": 9, "ha": "center", "path_effects": [withStroke(linewidth=3, foreground="white")], **looks}
    axes.annotate(text, at, offset, where, "offset points", annotation_clip=False, **looks)


def headline(axes: Axes, title: str, detail: str) -> None:
    """A title with a line of detail below it."""
    axes.set_title(title, pad=20)
    note(axes, detail, (0.5, 1), (0, 6), "axes fraction", color="0.35")


def say(axes: Axes, text: str) -> None:
    """Write ``text`` in the middle of a panel that has nothing to draw."""
    axes.set_axis_off()
    note(axes, text, (0.5, 0.5), where="axes fraction", va="center", fontsize=11, color=GREY)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_file(path, buffer.getvalue())
