"""Finite MDPs: what Q-learning makes of a batch, by theory and step by step (section 3 and appendix A.1 of the paper).

S states, A actions, K MDPs that share both. NumPy alone.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

TOLERANCE = 1e-10  # sup-norm distance of `optimal_q` from the optimum

Convention: TypeAlias = Literal["absorbing", "self-loop"]  # what follows a pair (s, a) that no transition tells of


class TabularMDP(NamedTuple):
    """A finite MDP. Where the probabilities of a pair (s, a) are all 0, the episode ends: value 0 from there on."""

    transitions: np.ndarray  # [S, A, S] probabilities of s'
    rewards: np.ndarray  # [S, A, S] mean reward
    discount: float


class Batch(NamedTuple):
    """Transitions (s, a, r, s'), [n] each."""

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_states: np.ndarray

    def head(self, n: int) -> "Batch":
        """The first ``n`` transitions."""
        return Batch(*(x[:n] for x in self))


# ---------------------------------------------------------------------- planning


def backup(mdp: TabularMDP, values: np.ndarray) -> np.ndarray:
    """Q(s, a) = sum over s' of T(s, a, s') (R(s, a, s') + γ V(s')), [S, A], of the values V [S]."""
    return (mdp.transitions * (mdp.rewards + mdp.discount * values)).sum(-1)


def optimal_q(mdp: TabularMDP) -> np.ndarray:
    """Q* [S, A] by value iteration, within ``TOLERANCE``."""
    q = np.zeros(mdp.transitions.shape[:2])
    while True:
        q, last = backup(mdp, q.max(1)), q
        if mdp.discount * np.abs(q - last).max() <= (1 - mdp.discount) * TOLERANCE:
            return q


def greedy(q: np.ndarray) -> np.ndarray:
    """The policy [S, A] that takes the action of the highest value, the first of equals."""
    return np.eye(q.shape[1])[q.argmax(1)]


def policy_values(mdp: TabularMDP, policy: np.ndarray) -> np.ndarray:
    """V [S] of a policy [S, A] of probabilities, by a linear solve."""
    step = np.einsum("sa,sat->st", policy, mdp.transitions)
    rewards = np.einsum("sa,sat,sat->s", policy, mdp.transitions, mdp.rewards)
    return np.linalg.solve(np.eye(len(step)) - mdp.discount * step, rewards)


# ---------------------------------------------------------------------- batches


def random_mdp(states: int, actions: int, discount: float, rng: np.random.Generator) -> TabularMDP:
    """Each T(s, a, .) from a symmetric Dirichlet distribution, each R(s, a) uniform in [0, 1]."""
    transitions = rng.dirichlet(np.full(states, 0.5), (states, actions))
    return TabularMDP(transitions, np.broadcast_to(rng.random((states, actions, 1)), transitions.shape), discount)


def step(
    mdp: TabularMDP, states: np.ndarray, actions: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and next states, [n] each, of n pairs (s, a). A reward is 1 with probability R(s, a, s'), or else 0."""
    next_states = _draw(mdp.transitions[states, actions], rng)
    rewards = rng.random(len(states)) < mdp.rewards[states, actions, next_states]
    return rewards.astype(float), next_states


def sample_batch(mdp: TabularMDP, policy: np.ndarray, n: int, rng: np.random.Generator) -> Batch:
    """``n`` transitions from states drawn uniformly, by a policy [S, A] of probabilities."""
    states = rng.integers(len(policy), size=n)
    actions = _draw(policy[states], rng)
    return Batch(states, actions, *step(mdp, states, actions, rng))


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An index [n] from each row [n, m]."""
    uniform = rng.random((len(probabilities), 1))
    # Without the last sum, which rounding may leave below 1.
    return (uniform >= probabilities.cumsum(-1)[:, :-1]).sum(-1)


def pool(batches: Sequence[Batch]) -> Batch:
    """All transitions in one batch, which does not tell whose they are."""
    return Batch(*(np.concatenate(x) for x in zip(*batches, strict=True)))


def pool_with_identity(batches: Sequence[Batch], states: int) -> Batch:
    """All transitions in one batch over the states (i, s), numbered i S + s: the state tells the MDP i."""
    shifted = enumerate(batches)
    return pool([b._replace(states=b.states + i * states, next_states=b.next_states + i * states) for i, b in shifted])


def count(batch: Batch, states: int, actions: int) -> np.ndarray:
    """N(s, a, s') [S, A, S]."""
    counts = np.zeros((states, actions, states), int)
    np.add.at(counts, (batch.states, batch.actions, batch.next_states), 1)
    return counts


def batch_mdp(batch: Batch, states: int, actions: int, discount: float, unvisited: Convention) -> TabularMDP:
    """Proposition 1's MDP (T^, R^): relative frequencies and mean rewards of a batch.

    Pairs (s, a) that the batch lacks lead to an absorbing state that pays nothing, or, as the paper has it, back to s
    with reward 0.
    """
    counts = count(batch, states, actions)
    sums = np.zeros(counts.shape)
    np.add.at(sums, (batch.states, batch.actions, batch.next_states), batch.rewards)
    visits = counts.sum(-1, keepdims=True)
    transitions = counts / np.maximum(visits, 1)
    if unvisited == "self-loop":
        transitions += (visits == 0) * np.eye(states)[:, None]
    return TabularMDP(transitions, sums / np.maximum(counts, 1), discount)


# ---------------------------------------------------------------------- Q-learning


class Schedule(NamedTuple):
    """Step sizes α_t of t = 0, 1, ..., counted over all updates as in Proposition 1, not for every pair."""

    step_sizes: Callable[[np.ndarray], np.ndarray]  # of t [n]
    sum_is_infinite: bool  # of α_t
    squares_are_finite: bool  # sum of α_t²

    @property
    def meets_conditions(self) -> bool:
        """Those of Robbins and Monro, which Proposition 1 asks for."""
        return self.sum_is_infinite and self.squares_are_finite


SCHEDULES: dict[str, Schedule] = {
    "1 / (1 + t)": Schedule(lambda t: 1 / (1 + t), True, True),
    "1 / (1 + t/1000)": Schedule(lambda t: 1 / (1 + t / 1000), True, True),
    "1 / (1 + t/1000)^0.7": Schedule(lambda t: (1 + t / 1000) ** -0.7, True, True),
    "0.1": Schedule(lambda t: np.full(len(t), 0.1), True, False),
    "1 / (1 + t/100)^2": Schedule(lambda t: (1 + t / 100) ** -2.0, False, True),
}


def q_learning(
    batch: Batch,
    states: int,
    actions: int,
    discount: float,
    schedule: Schedule,
    record: Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Q-learning from Q = 0 on transitions drawn uniformly from a batch (the paper's equation 1).

    Args:
        batch: of n transitions.
        states: S.
        actions: A.
        discount: γ.
        schedule: of the step sizes.
        record: numbers of updates, ascending, after which Q is kept; the last one ends it.
        rng: draws the transitions.

    Returns:
        Q [len(record), S, A].
    """
    # Python's lists: arrays of one number are several times slower.
    transitions = list(zip(*(x.tolist() for x in batch), strict=True))
    q = [[0.0] * actions for _ in range(states)]
    kept, done = [], 0
    for end in record:
        order = rng.integers(len(transitions), size=end - done).tolist()
        sizes = schedule.step_sizes(np.arange(done, end)).tolist()
        for index, size in zip(order, sizes, strict=True):
            s, a, r, s_next = transitions[index]
            q[s][a] += size * (r + discount * max(q[s_next]) - q[s][a])
        done = end
        kept.append(np.array(q))
    return np.stack(kept)


# ---------------------------------------------------------------------- inferring the MDP


def outcome_log_likelihoods(batches: Sequence[Batch], states: int, actions: int) -> np.ndarray:
    """log p_j(r, s' | s, a) [K, S, A, S, 2] for r in {0, 1}, from K batches: frequencies, with half a count added."""
    counts = np.full((len(batches), states, actions, states, 2), 0.5)
    for found, b in zip(counts, batches, strict=True):
        np.add.at(found, (b.states, b.actions, b.next_states, b.rewards.astype(int)), 1)
    return np.log(counts / counts.sum((-2, -1), keepdims=True))


class Inference(NamedTuple):
    """Episodes of an agent that infers which MDP it is in."""

    returns: np.ndarray  # [n] discounted
    posteriors: np.ndarray  # [steps, n, K] before each step


def act_by_inference(
    mdp: TabularMDP, q: np.ndarray, log_likelihoods: np.ndarray, episodes: int, steps: int, rng: np.random.Generator
) -> Inference:
    """Take the best action under the posterior mean of K value functions; Bayes' rule after each transition.

    Args:
        mdp: to act in; its states are the starts in turn.
        q: [K, S, A], of K MDPs, which are equally probable at the start of an episode.
        log_likelihoods: [K, S, A, S, 2] by `outcome_log_likelihoods`.
        episodes: n.
        steps: of each episode.
        rng: draws the transitions.

    Returns:
        The posteriors, and returns with the mean of each reward in place of its draw: the same on average, less noisy.
    """
    states = np.arange(episodes) % q.shape[1]
    returns, evidence, posteriors = np.zeros(episodes), np.zeros((episodes, len(q))), []
    for t in range(steps):
        weights = np.exp(evidence - evidence.max(1, keepdims=True))
        posteriors.append(weights / weights.sum(1, keepdims=True))
        actions = np.einsum("nk,kna->na", posteriors[-1], q[:, states]).argmax(1)
        rewards, next_states = step(mdp, states, actions, rng)
        returns += mdp.discount**t * mdp.rewards[states, actions, next_states]
        evidence += log_likelihoods[:, states, actions, next_states, rewards.astype(int)].T
        states = next_states
    return Inference(returns, np.stack(posteriors))
