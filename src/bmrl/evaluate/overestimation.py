"""Does Q_S promise more than a policy earns? Its estimates beside Monte-Carlo returns from the very same states."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from bmrl.evaluate.agents import Agent, StudentAgent
from bmrl.evaluate.evaluate import TEST_SEED
from bmrl.families.base import Family, Parameters, Simulator
from bmrl.types import Transition


class Snapshot(NamedTuple):
    """n slots, each at a time of its own episode: all that is needed to go on from there."""

    state: dict[str, np.ndarray]  # the simulator's
    memory: Any  # the agent's
    observations: np.ndarray  # [n, d_s]
    valid: np.ndarray  # [n] bool: False where the simulation became unstable


def take_snapshot(simulator: Simulator, agent: Agent, times: np.ndarray, key: Array) -> Snapshot:
    """Let the agent begin an episode in each slot; slot i as it is before step ``times[i]``.

    An episode that ends before is taken at its last step.
    """
    now, memory = simulator.reset(), agent.start(simulator.n)
    alive = valid = np.ones(simulator.n, bool)
    found = Snapshot(simulator.state(), memory, now, valid)
    for t in range(int(times.max())):
        action = agent.act(memory, now, jax.random.fold_in(key, t))
        step = simulator.step(action)
        memory = agent.observe(memory, Transition(now, action, step.rewards, step.observations, step.terminations))
        now = step.observations
        alive = alive & ~(step.terminations | step.truncations)
        valid = valid & ~_unstable(step.infos, simulator.n)
        reached = alive & (t + 1 <= times)
        found = jax.tree.map(
            lambda new, old, here=reached: np.where(here.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            Snapshot(simulator.state(), memory, now, valid),
            found,
        )
    return found


def monte_carlo(
    simulator: Simulator, agent: Agent, start: Snapshot, actions: np.ndarray, steps: int, key: Array
) -> tuple[np.ndarray, np.ndarray]:
    """Discounted returns [n] of ``actions`` [n, d_a] and the agent's ``steps`` - 1 next ones; which are valid [n].

    A time-out is none of the MDP's: the horizon is passed.
    """
    simulator.restore(start.state)
    now, memory, discount = start.observations, start.memory, simulator.family.discount
    total, alive, valid = np.zeros(simulator.n), np.ones(simulator.n, bool), start.valid
    for t in range(steps):
        if t > 0:
            actions = agent.act(memory, now, jax.random.fold_in(key, t))
        step = simulator.step(actions)
        memory = agent.observe(memory, Transition(now, actions, step.rewards, step.observations, step.terminations))
        total += np.where(alive, discount**t * step.rewards.astype(float), 0.0)
        valid = valid & ~(_unstable(step.infos, simulator.n) & alive)
        alive &= ~step.terminations
        now = step.observations
        if not alive.any():
            break
    return total, valid


def _unstable(infos: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    return infos.get("invalid", np.zeros(n)) > 0


def overestimation(
    family: Family,
    mdps: Sequence[Parameters],
    agent: StudentAgent,
    proposers: Mapping[str, Agent],
    states: int,
    steps: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Q_S(s, a, m) beside the Monte-Carlo return of a and then the agent, for the action of each proposer.

    The states are the agent's own, ``states`` of each MDP, every one at a uniformly random time of an episode of its
    own. The proposers choose under the agent's memory there, and all are followed by the same random draws of the
    agent. Q_S stands for an infinite horizon; ``steps`` should leave little of the discount.

    Returns:
        A row an MDP and proposer, with "estimates" and "returns" in the order of the states. A state whose simulation
        became unstable after any of the actions is left out of all.
    """
    slots = [mdp for mdp in mdps for _ in range(states)]
    simulator = family.simulator(slots, TEST_SEED + seed)
    times = np.random.default_rng(seed).integers(family.horizon, size=len(slots))
    first, choice, then = jax.random.split(jax.random.PRNGKey(seed), 3)
    start = take_snapshot(simulator, agent, times, first)
    found, valid = {}, start.valid
    for name, proposer in proposers.items():
        actions = proposer.act(start.memory, start.observations, choice)
        returns, kept = monte_carlo(simulator, agent, start, actions, steps, then)
        found[name] = agent.values(start.memory, start.observations, actions), returns
        valid = valid & kept
    rows = []
    for mdp, here in zip(mdps, np.split(np.arange(len(slots)), len(mdps)), strict=True):
        kept = here[valid[here]]
        for name, (estimates, returns) in found.items():
            row = {"actions": name, "family": family.name, "mdp": dict(mdp), "seed": seed}
            rows.append({**row, "estimates": estimates[kept].tolist(), "returns": returns[kept].tolist()})
    return rows
