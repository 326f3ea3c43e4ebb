"""Random MDPs: what Q-learning on their pool converges to, and what acting by it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bmrl.experiments.experiment import Scale
from bmrl.figures.proposition1 import METHODS
from bmrl.reproduce.study import Row
from bmrl.tabular import (
    SCHEDULES,
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

STATES, ACTIONS, MDPS, DISCOUNT = 6, 3, 3, 0.9
RECORD = tuple(round(10 ** (k / 1.5)) for k in range(3, 11))  # numbers of updates after which Q-learning is looked at
EXPERTISE = (0.0, 0.3, 0.6, 0.9, 1.0)  # how often the optimal policy acts in the logs; else the uniform one
UNIFORM, NEAR_EXPERT = 0.0, 0.9  # the two that are shown in detail
DETAIL = [EXPERTISE.index(x) for x in (UNIFORM, NEAR_EXPERT)]
SHARES = (0.0, 0.2, 1 / 3, 0.5, 0.7, 0.9, 1.0)  # of the first MDP in the pool
STEPS = 100  # of a test episode: γ^100 = .00003
POSTERIOR_STEPS = (0, 1, 2, 5, 10, 20)


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
    regrets: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
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
