"""The examples of one state: the counterexample to the proposition as stated, and a pool of two MDPs."""

from collections.abc import Sequence

import numpy as np

from bmrl.reproduce.study import Row
from bmrl.tabular import SCHEDULES, Batch, TabularMDP, batch_mdp, greedy, optimal_q, policy_values, q_learning

DISCOUNT = 0.9
FAST, SLOW = "1 / (1 + t/1000)", "1 / (1 + t)"  # of the schedules that meet the conditions
EXAMPLE_RECORD = tuple(2**k for k in range(17))  # updates of the counterexample
PAYS = ((1.0, 0.0, 0.6), (0.0, 1.0, 0.6))  # the worked example: actions a1, a2, c in M1 and M2
WORKED_SIZE = 6000  # transitions of its pool: every share below gives whole numbers
WORKED_EXPERTISE = (1 / 3, *(k / 20 for k in range(7, 21)))  # how often a_i is logged in M_i; 1/3 is uniform
WORKED_SHARES = tuple(k / 16 for k in range(17))  # of M1; none where two actions pay the same


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
