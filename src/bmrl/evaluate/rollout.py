"""Test episodes: all MDPs and episodes in lockstep, one agent, no update, no free episode (section 5.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from bmrl import parallel
from bmrl.evaluate.agents import Agent
from bmrl.families.base import Family, Parameters
from bmrl.types import Transition


@dataclass(frozen=True)
class Episodes:
    """Test episodes of n slots: the first ``lengths[i]`` of T steps count. Slots of one MDP lie next to each other.

    Attributes:
        observations: [n, T + 1, d_s].
        actions: [n, T, d_a].
        rewards: [n, T], zero after the end.
        lengths: [n].
        valid: [n] bool, False where the simulation became unstable; never averaged in.
        infos: [n, T] each, zero after the end.
        identities: [n, T, d_m], the one acted upon at each step; None if the agent has none.
        frames: [n, T, segments, 2, 2], if asked for.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    lengths: np.ndarray
    valid: np.ndarray
    infos: dict[str, np.ndarray]
    identities: np.ndarray | None
    frames: np.ndarray | None

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted returns [n]."""
        return self.rewards.sum(1)


def run_episodes(
    family: Family,
    mdps: Sequence[Parameters],
    agent: Agent,
    seed: int,
    frames: bool = False,
) -> Episodes:
    """One episode in each of the given MDPs, all in lockstep.

    Args:
        family: the family of the MDPs.
        mdps: n MDPs; repeat one for more episodes in it, every slot's start is its own.
        agent: who acts, knowing of the MDPs what it sees.
        seed: of the starts and of the agent's draws.
        frames: whether to keep what an animation draws.

    Returns:
        The episodes of the n slots.

    Raises:
        BmrlError: an MDP that the family does not have.
    """
    simulator = family.simulator(mdps, seed, parallel.cores())
    n = simulator.n
    now, memory, key = simulator.reset(), agent.start(simulator.n), jax.random.PRNGKey(seed)
    alive, valid, lengths = np.ones(n, bool), np.ones(n, bool), np.zeros(n, np.int64)
    observations, actions, rewards, identities, drawn = [now], [], [], [], []
    infos: dict[str, list[np.ndarray]] = {name: [] for name in family.info_names}
    for t in range(family.horizon):
        if (identity := agent.identity(memory)) is not None:
            identities.append(identity)
        action = agent.act(memory, now, jax.random.fold_in(key, t))
        step = simulator.step(action)
        memory = agent.observe(memory, Transition(now, action, step.rewards, step.observations, step.terminations))
        valid &= ~((step.infos.get("invalid", np.zeros(n)) > 0) & alive)
        lengths += alive
        actions.append(action)
        rewards.append(np.where(alive, step.rewards, 0.0))
        observations.append(step.observations)
        for name, values in infos.items():
            values.append(np.where(alive, step.infos[name], 0.0))
        if frames:
            drawn.append(simulator.frames())
        alive &= ~(step.terminations | step.truncations)
        now = step.observations
        if not alive.any():
            break
    return Episodes(
        np.stack(observations, 1),
        np.stack(actions, 1),
        np.stack(rewards, 1),
        lengths,
        valid,
        {name: np.stack(values, 1) for name, values in infos.items()},
        np.stack(identities, 1) if identities else None,
        np.stack(drawn, 1) if frames else None,
    )
