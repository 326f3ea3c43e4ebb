"""Proposition 1: what Q-learning on a pooled batch converges to, and what that costs. Tabular."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bmrl.experiments.experiment import Scale
from bmrl.figures import proposition1 as figures
from bmrl.figures.style import number
from bmrl.reproduce import proposition1_text as prose
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.tabular import (
    SCHEDULES,
    TOLERANCE,
    Batch,
    TabularMDP,
    act_by_inference,
    batch_mdp,
    count,
    greedy,
    optimal_q,
    outcome_log_likelihoods,
    policy_values,
    pool,
    pool_with_identity,
    q_learning,
    random_mdp,
    sample_batch,
)

STATES, ACTIONS, MDPS, DISCOUNT = 6, 3, 3, 0.9  # of the random MDPs; the examples have one state and the same γ
RECORD = tuple(round(10 ** (k / 1.5)) for k in range(3, 11))  # numbers of updates after which Q-learning is looked at
EXPERTISE = (0.0, 0.3, 0.6, 0.9, 1.0)  # how often the optimal action is logged; else a uniform one
UNIFORM, NEAR_EXPERT = 0.0, 0.9  # the two that are shown in detail
DETAIL = [EXPERTISE.index(x) for x in (UNIFORM, NEAR_EXPERT)]
SHARES = (0.0, 0.2, 1 / 3, 0.5, 0.7, 0.9, 1.0)  # of the first MDP in the pool
FAST, SLOW = "1 / (1 + t/1000)", "1 / (1 + t)"  # of the schedules that meet the conditions
STEPS = 100  # of a test episode: γ^100 = .00003
POSTERIOR_STEPS = (0, 1, 2, 5, 10, 20)

PAYS = ((1.0, 0.0, 0.6), (0.0, 1.0, 0.6))  # the worked example: actions a1, a2, c in M1 and M2
WORKED_SIZE = 6000  # transitions of its pool: every share below gives whole numbers
WORKED_EXPERTISE = (1 / 3, *(k / 20 for k in range(7, 21)))  # how often a_i is logged in M_i; 1/3 is uniform
WORKED_SHARES = tuple(k / 16 for k in range(17))  # of M1; none where two actions pay the same
EXAMPLE_RECORD = tuple(2**k for k in range(17))  # updates of the counterexample

NEAR = 0.05  # of the distance at the start: closer than that is "converged"
MARGIN = 0.05  # of return, 10 being the most there is: less is no difference


@dataclass(frozen=True)
class Settings:
    """How much is computed for each seed."""

    records: int  # Q-learning ends at RECORD[records - 1] updates
    transitions: int  # logged in each MDP
    episodes: int  # of the agent that infers, in each MDP


# The paper gives no sizes here: "paper" is only more of everything.
SETTINGS: Mapping[Scale, Settings] = {
    "smoke": Settings(records=6, transitions=1000, episodes=100),
    "laptop": Settings(records=7, transitions=3000, episodes=1000),
    "paper": Settings(records=8, transitions=10_000, episodes=10_000),
}


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """The two examples, and random MDPs for every seed."""
    settings = SETTINGS[scale]
    found = [Unit("examples", {}, examples)]
    for seed in seeds:
        found.append(Unit(f"seed-{seed}", asdict(settings), functools.partial(random_mdps, settings, seed)))
    return found


# ---------------------------------------------------------------------- one state


def examples() -> list[Row]:
    """The counterexample to the proposition as stated, and the worked example of a pool of two MDPs."""
    return [*counterexample(), *worked_example()]


def counterexample() -> list[Row]:
    """One state, two actions; the batch holds the first one alone, with reward 1."""
    batch = one_state_batch([[(1.0, 1)]])
    limits = {c: optimal_q(batch_mdp(batch, 1, 2, DISCOUNT, c))[0] for c in ("absorbing", "self-loop")}
    rows = []
    for name in (FAST, SLOW):
        q = q_learning(batch, 1, 2, DISCOUNT, SCHEDULES[name], EXAMPLE_RECORD, np.random.default_rng(0))[:, 0]
        rows.append({"part": "counterexample", "schedule": name, "q": q.T, **limits})
    return rows


def worked_example() -> list[Row]:
    """What the pool of M1 and M2 is worth to believe, over what is logged and over how much of it is M1's."""
    rows = []
    for sweep, points in (
        ("expertise", [(p, 0.5) for p in WORKED_EXPERTISE]),
        ("share", [(1 / 3, w) for w in WORKED_SHARES]),
    ):
        mdps = [batch_mdp(worked_batch(*point), 1, len(PAYS[0]), DISCOUNT, "absorbing") for point in points]
        tables = [optimal_q(mdp) for mdp in mdps]
        rows.append(
            {
                "part": "worked example",
                "sweep": sweep,
                "points": [point[sweep == "share"] for point in points],
                "rewards": np.array([mdp.rewards[0, :, 0] for mdp in mdps]).T,
                "choice": [q[0].argmax() for q in tables],
                "belief": [q.max() for q in tables],
                "earned": [[policy_values(one_state_mdp(pays), greedy(q))[0] for q in tables] for pays in PAYS],
            }
        )
    return rows


def worked_batch(expertise: float, share: float) -> Batch:
    """The pool: action a_i in ``expertise`` of M_i's transitions, the others equally often; ``share`` is M1's."""
    tables = []
    for mdp, (pays, part) in enumerate(zip(PAYS, (share, 1 - share), strict=True)):
        often = [expertise if action == mdp else (1 - expertise) / 2 for action in range(len(pays))]
        tables.append([(r, round(p * part * WORKED_SIZE)) for r, p in zip(pays, often, strict=True)])
    return one_state_batch(tables)


def one_state_mdp(pays: Sequence[float]) -> TabularMDP:
    """One state whose actions pay what they always pay."""
    return TabularMDP(np.ones((1, len(pays), 1)), np.array(pays)[None, :, None], DISCOUNT)


def one_state_batch(tables: Sequence[Sequence[tuple[float, int]]]) -> Batch:
    """The pool of one-state MDPs, each given as (reward, number of transitions) for each action."""
    found = [(action, reward, n) for table in tables for action, (reward, n) in enumerate(table)]
    actions, rewards, numbers = (np.array(x) for x in zip(*found, strict=True))
    zeros = np.zeros(numbers.sum(), int)
    return Batch(zeros, actions.repeat(numbers), rewards.repeat(numbers), zeros)


# ---------------------------------------------------------------------- random MDPs


@dataclass(frozen=True)
class Draw:
    """A seed's MDPs."""

    mdps: list[TabularMDP]
    optimal: list[np.ndarray]  # Q* [S, A] of each

    def sample(self, policies: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> list[Batch]:
        """A batch of ``n`` transitions for each MDP by its policy."""
        return [sample_batch(mdp, policy, n, rng) for mdp, policy in zip(self.mdps, policies, strict=True)]

    def regret(self, mdp: int, policy: np.ndarray) -> float:
        """What the policy's return lacks of the optimum, from a start in each state equally often."""
        return float((self.optimal[mdp].max(1) - policy_values(self.mdps[mdp], policy)).mean())


def random_mdps(settings: Settings, seed: int) -> list[Row]:
    """Every experiment of a seed, each with random numbers of its own."""
    rng = np.random.default_rng(seed)
    mdps = [random_mdp(STATES, ACTIONS, DISCOUNT, rng) for _ in range(MDPS)]
    draw = Draw(mdps, [optimal_q(mdp) for mdp in mdps])
    parts = (convergence, by_expertise, by_share, by_sign)
    return [row for k, part in enumerate(parts) for row in part(draw, settings, np.random.default_rng([seed, k]))]


def solve(batch: Batch, states: int = STATES) -> np.ndarray:
    """What Q-learning converges to [S, A]."""
    return optimal_q(batch_mdp(batch, states, ACTIONS, DISCOUNT, "absorbing"))


def partial_policy() -> np.ndarray:
    """Uniform [S, A], but in the first half of the states without the last action."""
    allowed = np.ones((STATES, ACTIONS))
    allowed[: STATES // 2, -1] = 0
    return allowed / allowed.sum(1, keepdims=True)


def convergence(draw: Draw, settings: Settings, rng: np.random.Generator) -> list[Row]:
    """Sup-norm distances of Q-learning from Q* under both conventions, on a pool that lacks some pairs."""
    batch = pool(draw.sample([partial_policy()] * MDPS, settings.transitions, rng))
    absorbing = solve(batch)
    self_loop = optimal_q(batch_mdp(batch, STATES, ACTIONS, DISCOUNT, "self-loop"))
    tried = count(batch, STATES, ACTIONS).sum(-1) > 0
    rows: list[Row] = [
        {
            "part": "conventions",
            "transitions": settings.transitions,
            "episodes": settings.episodes,
            "values": np.abs(absorbing.max(1) - self_loop.max(1)).max(),
            "visited": np.abs(absorbing - self_loop)[tried].max(),
            "unvisited": np.abs(absorbing - self_loop)[~tried].max(),
            "predicted": DISCOUNT * absorbing.max(1)[~tried.all(1)].max(),
            "start": np.abs(absorbing).max(),
        }
    ]
    order = int(rng.integers(2**31))  # every schedule reads the same transitions
    for name, schedule in SCHEDULES.items():
        record = RECORD[: settings.records]
        q = q_learning(batch, STATES, ACTIONS, DISCOUNT, schedule, record, np.random.default_rng(order))
        errors = {
            "absorbing": np.abs(q - absorbing).max((1, 2)),
            "self_loop": np.abs(q - self_loop).max((1, 2)),
        }
        rows.append({"part": "convergence", "schedule": name, **errors})
    return rows


def by_expertise(draw: Draw, settings: Settings, rng: np.random.Generator) -> list[Row]:
    """Regret and over-estimation of those who know more or less of the identity."""
    uniform = np.full((STATES, ACTIONS), 1 / ACTIONS)
    best = np.array([q.max(1).mean() for q in draw.optimal])  # return of each MDP's optimal policy
    regrets: dict[str, list[np.ndarray]] = {method: [] for method in figures.METHODS}
    overestimation: dict[str, list[float]] = {}
    posteriors = []
    for expertise in EXPERTISE:
        policies = [(1 - expertise) * uniform + expertise * greedy(q) for q in draw.optimal]
        batches = draw.sample(policies, settings.transitions, rng)
        tables = {
            "pooled": np.stack([solve(pool(batches))] * MDPS),
            "own": np.stack([solve(batch) for batch in batches]),
            "told": solve(pool_with_identity(batches, STATES), MDPS * STATES).reshape(MDPS, STATES, ACTIONS),
        }
        for method, q in tables.items():
            regrets[method].append(np.array([draw.regret(mdp, greedy(q[mdp])) for mdp in range(MDPS)]))
            believed, earned = q.max(2).mean(1), best - regrets[method][-1]
            overestimation.setdefault(method, []).append((believed - earned).mean())
        likelihoods = outcome_log_likelihoods(batches, STATES, ACTIONS)
        found = [act_by_inference(mdp, tables["told"], likelihoods, settings.episodes, STEPS, rng) for mdp in draw.mdps]
        regrets["inferred"].append(best - [result.returns.mean() for result in found])
        right = np.mean([result.posteriors[:, :, mdp].mean(1) for mdp, result in enumerate(found)], 0)
        posteriors.append(right[list(POSTERIOR_STEPS)])
    rows: list[Row] = []
    for method, table in regrets.items():
        detail = [table[level] for level in DETAIL]
        means = np.mean(table, 1)
        row = {"part": "regret", "method": method, "regret": detail, "mean_regret": means}
        rows.append(row | ({"overestimation": overestimation[method]} if method in overestimation else {}))
    rows.append({"part": "posterior", "right": [posteriors[level] for level in DETAIL]})
    rows.append({"part": "uniform actions", "regret": np.mean([draw.regret(mdp, uniform) for mdp in range(MDPS)])})
    return rows


def by_share(draw: Draw, settings: Settings, rng: np.random.Generator) -> list[Row]:
    """The pooled agent's regret in the first MDP and, on average, in the others, over the first one's share."""
    uniform = np.full((STATES, ACTIONS), 1 / ACTIONS)
    batches = draw.sample([uniform] * MDPS, settings.transitions, rng)
    row: Row = {"part": "share", "first": [], "others": []}
    for share in SHARES:
        parts = [share, *[(1 - share) / (MDPS - 1)] * (MDPS - 1)]
        heads = [batch.head(round(part * settings.transitions)) for batch, part in zip(batches, parts, strict=True)]
        policy = greedy(solve(pool(heads)))
        first, *others = (draw.regret(mdp, policy) for mdp in range(MDPS))
        row["first"].append(first)
        row["others"].append(np.mean(others))
    return [row]


def by_sign(draw: Draw, settings: Settings, rng: np.random.Generator) -> list[Row]:
    """Each MDP's own Q from batches that lack some pairs, with rewards 0 and 1, and with 1 subtracted from all.

    A constant changes every return alike, so the regret of a policy is the same before and after.
    """
    policy = partial_policy()
    lacking = policy[:, -1] == 0
    row: Row = {"part": "sign", "untried": [], "regret": []}
    batches = draw.sample([policy] * MDPS, settings.transitions, rng)
    for constant in (0, 1):
        chosen = [greedy(solve(batch._replace(rewards=batch.rewards - constant))) for batch in batches]
        row["untried"].append(np.mean([found[lacking, -1].mean() for found in chosen]))
        row["regret"].append(np.mean([draw.regret(mdp, found) for mdp, found in enumerate(chosen)]))
    return [row]


# ---------------------------------------------------------------------- the page


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
    return _table("| claim of the paper | what we see | verdict |", found) if found else "*Not computed yet.*"


def _limit_verdict(rows: list[Row]) -> str:
    runs, limits = figures.part(rows, "convergence", schedule=FAST), figures.part(rows, "conventions")
    if not runs:
        return ""
    start = np.array([row["start"] for row in limits])
    gaps = np.array([row["predicted"] for row in limits])
    ends = {key: np.array([row[key][-1] for row in runs]) for key in ("absorbing", "self_loop")}
    corrected, stated = ((ends[key] < NEAR * start).all() for key in ("absorbing", "self_loop"))
    verdict = "holds" if stated else "does not hold"
    if corrected and not stated:
        verdict = "holds with a change: pairs that were never tried must end the episode"
    return (
        "| Q-learning on the pool converges to the optimal Q of (T^, R^) (Proposition 1) "
        f"| After {_updates(runs)} updates (α = {FAST}) the distance from Q* as stated is {_span(ends['self_loop'])}, "
        f"the predicted γ max V* being {_span(gaps)}; the distance from Q* as corrected is {_span(ends['absorbing'])}, "
        f"{_span(100 * ends['absorbing'] / start)} % of that at the start | {verdict} |"
    )


def _random_verdicts(rows: list[Row]) -> list[str]:
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
        "| The pool's value function is that of the wrong MDP and gives no good policy (section 3) "
        f"| Regret of pooled Q: {both(pooled)}; of the same Q-learning with the identity as part of the state: "
        f"{both(told)}, which is each own batch's Q (largest difference {same}) "
        f"| {_agreed(pooled > told + MARGIN)} |",
        "| Policies have to infer the identity (section 3) "
        f"| Regret where Bayes' rule infers it from the running episode: {both(inferred)} "
        f"| {_agreed(pooled > inferred + MARGIN)} |",
        "| Values learned from the pool are far above what is earned (figure 2) "
        f"| Believed minus earned: {both(over)} | {_agreed(over > MARGIN)} |",
    ]


def _agreed(agrees: np.ndarray) -> str:
    """The verdict of [seeds, 2], for uniform and near-expert data."""
    if agrees.all():
        return "holds"
    for column, data in enumerate(("uniform", "near-expert")):
        if agrees[:, column].all():
            return f"holds with a change: on every seed for {data} data only"
    return f"does not hold: on {agrees.all(1).sum()} of {len(agrees)} seeds"


def convergence_table(rows: list[Row]) -> str:
    """Every schedule: which conditions it meets, and how far it ends from both limits."""
    lines = []
    for name, schedule in SCHEDULES.items():
        if runs := figures.part(rows, "convergence", schedule=name):
            ends = [_span([row[key][-1] for row in runs]) for key in ("absorbing", "self_loop")]
            sums = ["∞" if schedule.sum_is_infinite else "finite", "finite" if schedule.squares_are_finite else "∞"]
            meets = "yes" if schedule.meets_conditions else "no"
            lines.append(f"| {' | '.join([name, *sums, meets, *ends])} |")
    head = "| α_t | Σ α_t | Σ α_t² | meets the conditions | from Q* as corrected | from Q* as stated |"
    return _table(head, lines)


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
            lines.append(f"| {' | '.join([name, *texts[:3], taken, *texts[3:]])} |")
    best = max(max(pays) for pays in PAYS) / (1 - DISCOUNT)
    head = "| data | R^(a1) | R^(a2) | R^(c) | takes | believes | earns in M1 | earns in M2 |"
    return f"{_table(head, lines)}\n\nThe optimum is {best:.0f} in both." if lines else ""


def regret_table(rows: list[Row]) -> str:
    """Every method: regret in the mean of the MDPs, over expertise."""
    lines = []
    for method, (_, label) in figures.METHODS.items():
        if found := figures.part(rows, "regret", method=method):
            means = np.array([row["mean_regret"] for row in found])
            lines.append(f"| {' | '.join([label, *[_span(column) for column in means.T]])} |")
    levels = [f"{100 * x:.0f} % optimal actions" if x else "uniform" for x in EXPERTISE]
    return _table(f"| regret, mean of the MDPs | {' | '.join(levels)} |", lines)


def _table(head: str, lines: Sequence[str]) -> str:
    """Markdown, or nothing where there are no lines."""
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *lines]) if lines else ""


def _span(values: Sequence[float] | np.ndarray) -> str:
    """The mean over seeds, and the range."""
    array = np.round(np.asarray(values, float), 2) + 0.0  # no minus before a zero
    low, high = f"{array.min():.2f}", f"{array.max():.2f}"
    mean = f"{np.mean(values) + 0.0:.2f}".replace("-0.00", "0.00")
    text = mean if low == high else f"{mean} ({low} to {high})"
    return text.replace("-", "−")


def _updates(runs: Sequence[Row]) -> str:
    return f"{RECORD[len(runs[0]['absorbing']) - 1]:,}"


STUDY = Study(units, page)
