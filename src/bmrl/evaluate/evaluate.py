"""The zero-shot test of a run: its students and its baselines on the same MDPs, as rows of results."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bmrl.batch_rl.replay import Log, stack
from bmrl.batch_rl.sac import SAC, SACState, sample_action
from bmrl.data import Batch, read_batch, read_batches
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import Student
from bmrl.errors import BmrlError
from bmrl.evaluate.agents import Agent, StudentAgent, TeacherAgent
from bmrl.evaluate.rollout import Episodes, run_episodes
from bmrl.families.base import Family, Parameters
from bmrl.networks.set_encoder import Evidence
from bmrl.runs.storage import MANIFEST

LOGGED = 64  # transitions of a log that are a context
TRACE = 1e-6  # of an oracle's posterior: enough to put the train MDPs without weight in an order, too little to mix in
TEST_SEED = 1_000_003  # test episodes start elsewhere than those of collection, which are seeded with the run's seed


def student_agent(student: Student, config: ContextConfig, context: str, mdps: Sequence[Parameters]) -> StudentAgent:
    """The student with a context from its running episode ("episode"), none ("none"), or logs of its MDPs (a path).

    The logs are a directory of batches, of which each MDP has the one with its parameters, or a single batch.
    """
    if context in ("episode", "none"):
        return StudentAgent(student, config, blank=context == "none")
    return StudentAgent(student, config, prior=_evidence_of_logs(student, Path(context), mdps), blank=True)


def context_batches(path: Path) -> list[Batch]:
    """The logs that contexts come from: a directory of batches, or a single batch. Raises BmrlError for neither."""
    if not path.is_dir():
        raise BmrlError(f"--context {path}: no such directory; give 'episode', 'none' or a directory of batches")
    return [read_batch(path)] if (path / MANIFEST).exists() else read_batches(path)


def evidence_of_log(student: Student, log: Log) -> Evidence:
    """Evidence of `LOGGED` transitions, or as many as there are, evenly spread over a log."""
    index = np.linspace(0, log.size - 1, min(LOGGED, log.size)).astype(int)
    return Evidence(student.encoder.observe(log.take(index)).sum(0), jnp.float32(len(index)))


def _evidence_of_logs(student: Student, path: Path, mdps: Sequence[Parameters]) -> Evidence:
    """The evidence of each MDP's logs."""
    batches = context_batches(path)
    for batch in batches:
        check_dimensions(student, batch, path)
    known: dict[tuple[tuple[str, float], ...], Evidence] = {}
    for mdp in mdps:
        key = tuple(sorted(mdp.items()))
        if key not in known:
            fitting = [b for b in batches if b.manifest["mdp"] == mdp]
            fitting = fitting or [b for b in batches if len(batches) == 1 and b.manifest["mdp"] is None]
            if not fitting:
                raise BmrlError(f"--context {path}: no batch of the MDP {mdp}")
            known[key] = evidence_of_log(student, stack(fitting[:1]).logs[0])
    found = [known[tuple(sorted(mdp.items()))] for mdp in mdps]
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def check_dimensions(student: Student, batch: Batch, where: Path) -> None:
    """Raises BmrlError, naming ``where``, for a batch whose observations or actions are others than the student's."""
    found = batch.observation_dim, batch.action_dim
    if found != student.spec:
        raise BmrlError(
            f"{where}: {batch.name} has {found[0]} observations and {found[1]} actions, the student "
            f"{student.spec.observation_dim} and {student.spec.action_dim}: choose logs of its family"
        )


def oracle_agent(
    student: Student, config: ContextConfig, family: Family, train: Sequence[Parameters], mdps: Sequence[Parameters]
) -> StudentAgent:
    """The student told its MDP: the posterior is on the train MDPs around it (see `mixture`).

    Where that is one alone, as beyond the train MDPs, the next to propose is the one nearest to the MDP.

    Raises BmrlError for an f without a posterior.
    """
    if student.encoder.embeddings is None:
        raise BmrlError("an oracle's identity lies between f's embeddings: distil a student with pooling='posterior'")
    posterior = mixture(family, mdps, train) + TRACE * np.exp(-_distances(mdps, train, family))
    told = student.encoder.told(jnp.asarray(posterior, jnp.float32))
    return StudentAgent(student, config, prior=told, blank=True)


def mixture(family: Family, mdps: Sequence[Parameters], train: Sequence[Parameters]) -> np.ndarray:
    """How the train MDPs mix into each MDP, [n, K]: weights of 0 ... 1 that sum to 1.

    Linear interpolation between the corners of the smallest simplex of train MDPs around the MDP (Delaunay's); with
    one parameter, between its two neighbours. For an MDP beyond the train MDPs negative weights are cut off, of the
    simplex in which that misses it least. Every simplex of train MDPs is tried, (K over parameters + 1) of them.
    """
    points, count = family.coordinates(train), min(len(family.parameter_names) + 1, len(train))
    corners = np.array(list(combinations(range(len(train)), count)))
    at = points[corners]  # [simplices, corners, parameters]
    inverse = np.linalg.pinv(np.concatenate([at, np.ones((*corners.shape, 1))], axis=-1).swapaxes(1, 2))
    mixtures = []
    for x in family.coordinates(mdps):
        weights = np.clip(inverse @ np.append(x, 1.0), 0.0, None)  # negative where x lies outside
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)
        miss = np.linalg.norm(np.einsum("sc,scp->sp", weights, at) - x, axis=-1)
        spread = (weights * np.square(at - x).sum(-1)).sum(1)
        best = (miss + 1e-6 * spread).argmin()  # of the simplices around x, the smallest
        mixtures.append(weights[best] @ np.eye(len(train))[corners[best]])
    return np.array(mixtures)


def nearest(mdps: Sequence[Parameters], train: Sequence[Parameters], family: Family) -> np.ndarray:
    """For each MDP the index of the nearest train MDP: the sum over parameters of distances in their bounds."""
    return _distances(mdps, train, family).argmin(1)


def _distances(mdps: Sequence[Parameters], train: Sequence[Parameters], family: Family) -> np.ndarray:
    """Between MDPs and train MDPs, [n, K], as `nearest` measures them."""
    return np.abs(family.coordinates(mdps)[:, None] - family.coordinates(train)[None]).sum(-1)


def evaluate(family: Family, mdps: Sequence[Parameters], agent: Agent, episodes: int, seed: int) -> Episodes:
    """``episodes`` episodes in each MDP, all in lockstep; slots of one MDP lie next to each other."""
    return run_episodes(family, [mdp for mdp in mdps for _ in range(episodes)], agent, TEST_SEED + seed)


def rows_of(
    family: Family,
    mdps: Sequence[Parameters],
    results: Episodes,
    *,
    method: str,
    variant: str,
    split: str,
    seed: int,
    context: str,
) -> list[dict[str, Any]]:
    """A row of results for each MDP. Invalid episodes are counted, and left out of every average."""
    rows = []
    for mdp, slots in zip(mdps, np.split(np.arange(len(results.lengths)), len(mdps)), strict=True):
        kept = slots[results.valid[slots]]
        returns = results.returns[kept].astype(float)
        row = {
            "method": method,
            "variant": variant,
            "family": family.name,
            "mdp": dict(mdp),
            "split": split,
            "seed": seed,
            "context": context,
            "episodes": len(kept),
            "invalid_episodes": len(slots) - len(kept),
            "returns": returns.tolist(),
            "return_mean": float(returns.mean()) if len(kept) else None,
            "return_std": float(returns.std()) if len(kept) else None,
            "length_mean": float(results.lengths[kept].mean()) if len(kept) else None,
        }
        infos = {name: x[kept] for name, x in results.infos.items()}
        further = family.figures(results.observations[kept], results.rewards[kept], infos)
        rows.append(row | {name: x.tolist() for name, x in further.items()})
    return rows


def soft_values(
    family: Family,
    mdps: Sequence[Parameters],
    algorithm: SAC,
    state: SACState,
    episodes: int,
    seed: int,
) -> list[dict[str, float]]:
    """A SAC learner's value estimates at initial state-actions, beside what the same policy earns.

    For each MDP: the mean over initial states and stochastic actions of min_k Q_k(s_0, a_0), and the mean discounted
    Monte-Carlo return r_0 + sum_{t >= 1} gamma^t (r_t - alpha log pi(a_t | s_t)) of the stochastic policy over
    1,000 steps. Q has entropy bonuses from the second action on, and so has the return.
    """
    slots = [mdp for mdp in mdps for _ in range(episodes)]
    simulator = family.simulator(slots, TEST_SEED + seed)
    now, key, total = simulator.reset(), jax.random.PRNGKey(seed), np.zeros(len(slots))
    alive, estimate = np.ones(len(slots), bool), np.zeros(len(slots))
    state, alpha = jax.tree.map(jnp.asarray, state), float(np.exp(state.log_alpha))  # on the device before the loop
    for t in range(1000):
        actions, log_probs, values = _act_and_value(state, now, key, t)
        step = simulator.step(np.asarray(actions))
        bonus = 0.0 if t == 0 else -alpha * np.asarray(log_probs)
        total += np.where(alive, algorithm.discount**t * (step.rewards + bonus), 0.0)
        if t == 0:
            estimate = np.asarray(values)
        alive &= ~step.terminations
        now = step.observations
    return [
        {"value_estimate": float(v), "discounted_soft_return": float(g)}
        for v, g in zip(estimate.reshape(len(mdps), -1).mean(1), total.reshape(len(mdps), -1).mean(1), strict=True)
    ]


@jax.jit
def _act_and_value(state: SACState, observations: Array, key: Array, step: Array) -> tuple[Array, Array, Array]:
    """Actions of the stochastic policy, their log densities, and their values by the smaller critic."""
    s = state.normaliser(observations)
    actions, log_probs = sample_action(state.actor, s, jax.random.fold_in(key, step))
    return actions, log_probs, state.critics(s, actions).min(0)


def learner_agent(algorithm: Any, states: Any, which: np.ndarray, episodes: int) -> TeacherAgent:
    """Learner ``which[i]`` for each of the ``episodes`` slots of MDP i."""
    return TeacherAgent(algorithm, states, np.repeat(which, episodes))
