"""The study's page: the proposition, its slip and correction, pictures, tables and verdicts."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bmrl.figures import proposition1 as figures
from bmrl.figures.style import number
from bmrl.reproduce.markdown import table
from bmrl.reproduce.proposition1 import text as prose
from bmrl.reproduce.proposition1.examples import EXAMPLE_RECORD, FAST, PAYS, SLOW
from bmrl.reproduce.proposition1.random_mdps import (
    ACTIONS,
    DETAIL,
    DISCOUNT,
    EXPERTISE,
    MDPS,
    NEAR_EXPERT,
    POSTERIOR_STEPS,
    RECORD,
    SHARES,
    STATES,
    STEPS,
)
from bmrl.reproduce.study import Row
from bmrl.statistics import FEW
from bmrl.tabular import SCHEDULES, TOLERANCE

NEAR = 0.05  # of the distance at the start: closer than that is "converged"
MARGIN = 0.05  # of return, 10 being the most there is: less is no difference


def page(rows: list[Row], out: Path) -> str:
    """Draw the pictures whose rows are there; the proposition, its slip and correction, and the verdicts."""
    shown = {name: _shown(rows, out, name) for name in PICTURES}
    parts = [
        prose.INTRODUCTION.format(drawn=_drawn(rows)),
        verdicts(rows),
        prose.STATEMENT,
        shown["counterexample"],
        prose.CORRECTION,
        prose.CONVERGENCE,
        shown["convergence"],
        convergence_table(rows),
        rates(rows),
        prose.WORKED_EXAMPLE,
        shown["worked-example"],
        worked_table(rows),
        prose.REGRET.format(mdps=MDPS, states=STATES, actions=ACTIONS, most=1 / (1 - DISCOUNT)),
        shown["regret"],
        regret_table(rows),
        prose.PROPORTIONS,
        shown["proportions"],
        prose.SIGN,
        shown["sign"],
        set_up(rows),
    ]
    return "\n\n".join(part for part in parts if part)


# Name of a picture: the part of the rows that it needs, what draws it, and what it shows.
PICTURES: dict[str, tuple[str, Callable[[list[Row], Path], None], str]] = {
    "counterexample": (
        "counterexample",
        functools.partial(figures.plot_counterexample, updates=EXAMPLE_RECORD),
        "Q-learning's value of the untried action stays 0, where the statement has 9",
    ),
    "convergence": (
        "convergence",
        functools.partial(figures.plot_convergence, updates=RECORD),
        "Sup-norm error of Q-learning over its updates, a panel a schedule; thin: a seed, bold: their mean; "
        "where both errors are the same, blue covers red",
    ),
    "worked-example": (
        "worked example",
        figures.plot_worked_example,
        "Mean rewards in the pool, and what its agent takes, believes and earns, over both proportions",
    ),
    "regret": (
        "regret",
        functools.partial(
            figures.plot_regret,
            titles=("uniform data", "near-expert data (90 %)"),
            steps=POSTERIOR_STEPS,
        ),
        "Regret in each MDP; dot: an MDP of a seed, bar and figure: mean. Right: thin: a seed, bold: their mean",
    ),
    "proportions": (
        "share",
        functools.partial(figures.plot_proportions, expertise=EXPERTISE, shares=SHARES),
        "Regret and over-estimation over what is in the pool; thin: a seed, bold: their mean",
    ),
    "sign": (
        "sign",
        figures.plot_sign,
        "The same batches before and after 1 is subtracted from every reward; dot and line: a seed, bar: mean",
    ),
}


def _shown(rows: list[Row], out: Path, name: str) -> str:
    """The Markdown of a picture, which is drawn, or a line that says that its rows are still to be made."""
    needs, plot, caption = PICTURES[name]
    if not figures.part(rows, needs):
        return "*Not computed yet.*"
    plot(rows, out / f"{name}.png")
    return f"![{caption}]({name}.png)\n\n*{caption}.*"


def _drawn(rows: list[Row]) -> str:
    """How many seeds there are, in words."""
    seeds = len(figures.part(rows, "conventions"))
    return f"random MDPs of {seeds} seed{'s' if seeds > 1 else ''}" if seeds else "two examples, random MDPs not yet"


def verdicts(rows: list[Row]) -> str:
    """The paper's claims beside the rows."""
    found = [line for line in (_limit_verdict(rows), *_random_verdicts(rows)) if line]
    return table(("claim of the paper", "what we see", "verdict"), found) if found else "*Not computed yet.*"


def _limit_verdict(rows: list[Row]) -> tuple[str, ...]:
    runs, limits = figures.part(rows, "convergence", schedule=FAST), figures.part(rows, "conventions")
    if not runs:
        return ()
    start = np.array([row["start"] for row in limits])
    gaps = np.array([row["predicted"] for row in limits])
    ends = {key: np.array([row[key][-1] for row in runs]) for key in ("absorbing", "self_loop")}
    corrected, stated = ((ends[key] < NEAR * start).all() for key in ("absorbing", "self_loop"))
    if len(runs) < FEW:
        verdict = "too few seeds"
    elif stated:
        verdict = "holds"
    elif corrected:
        verdict = "holds with a change: pairs that were never tried must end the episode"
    else:
        verdict = "does not hold"
    return (
        "Q-learning on the pool converges to the optimal Q of (T^, R^) (Proposition 1)",
        f"After {_updates(runs)} updates (α = {FAST}) the distance from Q* as stated is {_span(ends['self_loop'])}, "
        f"the predicted γ max V* being {_span(gaps)}; the distance from Q* as corrected is {_span(ends['absorbing'])}, "
        f"{_span(100 * ends['absorbing'] / start)} % of that at the start",
        verdict,
    )


def _random_verdicts(rows: list[Row]) -> list[tuple[str, ...]]:
    """Mis-identification, inference and over-estimation, for seeds' means over MDPs."""
    runs = {method: figures.part(rows, "regret", method=method) for method in figures.METHODS}
    if not runs["pooled"]:
        return []
    regrets = {method: np.array([row["regret"] for row in found]) for method, found in runs.items()}
    pooled, told, inferred = (regrets[method].mean(-1) for method in ("pooled", "told", "inferred"))
    over = np.array([row["overestimation"] for row in runs["pooled"]])[:, DETAIL]
    same = number(np.abs(regrets["own"] - regrets["told"]).max())

    def both(values: np.ndarray) -> str:
        return f"uniform data {_span(values[:, 0])}, near-expert data {_span(values[:, 1])}"

    return [
        (
            "The pool's value function is that of the wrong MDP and gives no good policy (section 3)",
            f"Regret of pooled Q: {both(pooled)}; of the same Q-learning with the identity as part of the state: "
            f"{both(told)}, which is each own batch's Q (largest difference {same})",
            _agreed(pooled > told + MARGIN),
        ),
        (
            "Policies have to infer the identity (section 3)",
            f"Regret where Bayes' rule infers it from the running episode: {both(inferred)}",
            _agreed(pooled > inferred + MARGIN),
        ),
        (
            "Values learned from the pool are far above what is earned (figure 2)",
            f"Believed minus earned: {both(over)}",
            _agreed(over > MARGIN),
        ),
    ]


def _agreed(agrees: np.ndarray) -> str:
    """The verdict of [seeds, 2], for uniform and near-expert data."""
    if len(agrees) < FEW:
        return "too few seeds"
    if agrees.all():
        return "holds"
    for column, data in enumerate(("uniform", "near-expert")):
        if agrees[:, column].all():
            return f"holds in part: on every seed for {data} data alone"
    return f"does not hold: on {agrees.all(1).sum()} of {len(agrees)} seeds"


def convergence_table(rows: list[Row]) -> str:
    """Every schedule: which conditions it meets, and how far it ends from both limits."""
    lines = []
    for name, schedule in SCHEDULES.items():
        if runs := figures.part(rows, "convergence", schedule=name):
            ends = [_span([row[key][-1] for row in runs]) for key in ("absorbing", "self_loop")]
            sums = ["∞" if schedule.sum_is_infinite else "finite", "finite" if schedule.squares_are_finite else "∞"]
            meets = "yes" if schedule.meets_conditions else "no"
            lines.append([name, *sums, meets, *ends])
    head = ("α_t", "Σ α_t", "Σ α_t²", "meets the conditions", "from Q* as corrected", "from Q* as stated")
    return table(head, lines) if lines else ""


def rates(rows: list[Row]) -> str:
    """What the conditions on the step size do not promise."""
    start = np.array([row["start"] for row in figures.part(rows, "conventions")])
    slow, fast = (
        np.array([row["absorbing"][-1] for row in figures.part(rows, "convergence", schedule=name)])
        for name in (SLOW, FAST)
    )
    if not len(start):
        return ""
    return prose.RATES.format(slow=_span(100 * slow / start), fast=_span(100 * fast / start))


def set_up(rows: list[Row]) -> str:
    """The random MDPs and how much was computed."""
    sizes = figures.part(rows, "conventions")[:1] or [dict.fromkeys(("transitions", "episodes"), "no")]
    numbers = {"mdps": MDPS, "states": STATES, "actions": ACTIONS, "discount": DISCOUNT, "steps": STEPS}
    return prose.SET_UP.format(
        **numbers, tolerance=TOLERANCE, transitions=sizes[0]["transitions"], episodes=sizes[0]["episodes"]
    )


def worked_table(rows: list[Row]) -> str:
    """The worked example's two data sets."""
    lines = []
    for name, expertise in (("uniform", 1 / 3), ("near-expert: a_i in 90 % of M_i's", NEAR_EXPERT)):
        for row in figures.part(rows, "worked example", sweep="expertise"):
            k = int(np.abs(np.array(row["points"]) - expertise).argmin())
            numbers = [*(x[k] for x in row["rewards"]), row["belief"][k], *(x[k] for x in row["earned"])]
            taken = figures.ACTION_LABELS[row["choice"][k]]
            texts = [f"{x:.2f}" for x in numbers]
            lines.append([name, *texts[:3], taken, *texts[3:]])
    best = max(max(pays) for pays in PAYS) / (1 - DISCOUNT)
    head = ("data", "R^(a1)", "R^(a2)", "R^(c)", "takes", "believes", "earns in M1", "earns in M2")
    return f"{table(head, lines)}\n\nThe optimum is {best:.0f} in both." if lines else ""


def regret_table(rows: list[Row]) -> str:
    """Every method: regret in the mean of the MDPs, over expertise."""
    lines = []
    for method, (_, label) in figures.METHODS.items():
        if found := figures.part(rows, "regret", method=method):
            means = np.array([row["mean_regret"] for row in found])
            lines.append([label, *[_span(column) for column in means.T]])
    levels = [f"{100 * x:.0f} % optimal policy" if x else "uniform" for x in EXPERTISE]
    return table(("regret, mean of the MDPs", *levels), lines) if lines else ""


def _span(values: Sequence[float] | np.ndarray) -> str:
    """The mean over seeds, and the range."""
    array = np.round(np.asarray(values, float), 2) + 0.0  # no minus before a zero
    low, high = f"{array.min():.2f}", f"{array.max():.2f}"
    mean = f"{np.mean(values) + 0.0:.2f}".replace("-0.00", "0.00")
    text = mean if low == high else f"{mean} ({low} to {high})"
    return text.replace("-", "−")


def _updates(runs: Sequence[Row]) -> str:
    return f"{RECORD[len(runs[0]['absorbing']) - 1]:,}"
