"""What judges a policy by logs alone: its actions there, what the log itself earned, and how far apart the two are.

The policy that is judged infers the MDP from its log, as `bmrl.runtime.Policy.warm_start` does, and keeps that
identity: its actions are a function of the observation, by the stored random numbers of `FixedDraws`.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from bmrl.batch_rl.replay import Episodes, gone_through
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import Student
from bmrl.evaluate.agents import FixedDraws, StudentAgent
from bmrl.networks.set_encoder import Evidence
from bmrl.runs.storage import ScratchArray

ROWS = 4096  # observations for which actions are chosen at once
QUERIES, REFERENCES = 1000, 20_000  # logged states that `far_share` looks at, and among which it looks for others
NEIGHBOURS = 32
FAR = 0.95  # of the log's own actions are not far


def judged_agent(student: Student, context: ContextConfig, evidence: Evidence) -> StudentAgent:
    """The policy in n MDPs of which the evidence [n, ...] is known, and no more is learned."""
    return StudentAgent(student, context, prior=evidence, blank=True, select=FixedDraws())


def actions_at(
    student: Student, context: ContextConfig, evidence: Evidence, log: Episodes, directory: Path
) -> Float[np.ndarray, "rows action"]:
    """The policy's actions at all observations of a log, in a file without a name in ``directory``.

    ``evidence`` is of the log's MDP alone. Raises BmrlError where the disk is full.
    """
    agent = judged_agent(student, context, jax.tree.map(lambda x: np.broadcast_to(x, (ROWS, *x.shape)), evidence))
    memory, key, last = agent.start(ROWS), jax.random.PRNGKey(0), len(log.observations) - 1
    file = ScratchArray(directory, (last + 1, log.dims[1]), np.float32)
    for start in range(0, last + 1, ROWS):
        rows = np.minimum(start + np.arange(ROWS), last)
        file.write((start,), agent.act(memory, log.observations[rows], key)[: last + 1 - start])
    return file.read()


class Logged(NamedTuple):
    """What each of E episodes of a log earned."""

    returns: Float[np.ndarray, " E"]  # discounted, as far as the log goes
    weights: Float[np.ndarray, " E"]  # the sum of the discounts that these have; of all, after a termination

    def value(self, episodes: Int[np.ndarray, " n"], discount: float) -> float:
        """The discounted return of some of the episodes, if rewards went on beyond cuts as they are before."""
        return float(self.returns[episodes].sum() / self.weights[episodes].sum() / (1 - discount))


def logged_returns(log: Episodes, discount: float) -> Logged:
    """The episodes of a log."""
    rewards = np.concatenate([t.rewards for t in gone_through(log)]).astype(np.float64)
    starts, lengths = np.concatenate([[0], log.ends[:-1]]), np.diff(log.ends, prepend=0)
    time = np.arange(len(rewards)) - np.repeat(starts, lengths)
    returns = np.add.reduceat(rewards * discount**time, starts)
    seen = np.where(log.terminations[log.ends - 1], 1.0, 1.0 - discount ** lengths.astype(float))
    return Logged(returns, seen / (1 - discount))


def far_share(log: Episodes, chosen: np.ndarray, seed: int) -> float:
    """The share of logged states at which the policy's action is far from all that the log holds for states like it.

    Far is farther from the nearest action of the 32 nearest states of other episodes than 95 % of the log's own
    actions are. NaN for a log of one episode, or of one that is nearly all of it.
    """
    if len(log.ends) < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    near = rng.permutation(log.size)[:REFERENCES]
    asked = rng.permutation(log.size)[:QUERIES]
    states, known = log.take(asked).observations, log.take(near)
    scale = np.where(known.observations.std(0) > 1e-6, known.observations.std(0), 1.0)
    squares = _squares(states / scale, known.observations / scale)
    squares[log.starts(asked)[:, None] == log.starts(near)[None]] = np.inf
    nearest = np.argsort(squares, axis=1)[:, :NEIGHBOURS]
    actions, there = known.actions[nearest], np.isfinite(np.take_along_axis(squares, nearest, axis=1))

    def distance(own: np.ndarray) -> np.ndarray:
        found = np.linalg.norm(actions - own[:, None], axis=-1)
        return np.where(there, found, np.inf).min(1)

    rows = log.rows(asked)
    usual, policys = distance(log.take(asked).actions), distance(chosen[rows])
    compared = np.isfinite(usual)
    if not compared.any():
        return float("nan")
    return float((policys[compared] > np.quantile(usual[compared], FAR) + 1e-6).mean())


def _squares(x: Array, y: Array) -> np.ndarray:
    """Squared distances [n, m] of rows."""
    return np.square(x).sum(1)[:, None] - 2.0 * x @ y.T + np.square(y).sum(1)[None]
