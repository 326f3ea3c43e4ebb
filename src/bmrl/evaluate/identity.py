"""Does the identity follow the reward? One MDP's transitions, paid as another MDP would have paid them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bmrl.distill.student import Student
from bmrl.evaluate.agents import TeacherAgent, select_action
from bmrl.families.base import Family, Parameters
from bmrl.networks.set_encoder import Evidence
from bmrl.types import Transition


class HeldOut(NamedTuple):
    """Fresh transitions of K MDPs, [K, n, ...] each."""

    transitions: Transition
    infos: dict[str, np.ndarray]
    valid: np.ndarray  # [K, n] bool: False where the simulation became unstable


def held_out_transitions(
    family: Family, mdps: Sequence[Parameters], algorithm: Any, states: Any, episodes: int, seed: int
) -> HeldOut:
    """Transitions that no training saw: ``episodes`` episodes in each MDP, by its own teacher and by uniform actions.

    Odd episodes are the teacher's, even ones uniform. The states are where the MDP's own data lie, so that an identity
    read off them instead of the rewards would be the wrong one after relabelling.
    """
    which = np.repeat(np.arange(len(mdps)), episodes)
    teacher = TeacherAgent(algorithm, states, which)
    by_teacher = np.tile(np.arange(episodes) % 2 == 1, len(mdps))
    simulator = family.simulator([mdps[int(k)] for k in which], seed)
    rng, key, now = np.random.default_rng(seed), jax.random.PRNGKey(seed), simulator.reset()
    steps, infos, valid = [], [], []
    for t in range(family.horizon):
        noise = rng.uniform(-1, 1, (len(which), family.action_dim)).astype(np.float32)
        actions = np.where(by_teacher[:, None], teacher.act(None, now, jax.random.fold_in(key, t)), noise)
        step = simulator.step(actions)
        steps.append(Transition(now, actions, step.rewards, step.observations, step.terminations))
        infos.append({name: step.infos[name] for name in family.info_names})
        valid.append(step.infos.get("invalid", np.zeros(len(which))) == 0)
        ended = step.terminations | step.truncations
        now = simulator.reset(ended) if ended.any() else step.observations

    def by_mdp(*arrays: np.ndarray) -> np.ndarray:
        x = np.stack(arrays, 1)  # [K * episodes, T, ...]
        return x.reshape(len(mdps), -1, *x.shape[2:])

    return HeldOut(jax.tree.map(by_mdp, *steps), jax.tree.map(by_mdp, *infos), by_mdp(*valid))


def relabelling_test(
    student: Student,
    family: Family,
    mdps: Sequence[Parameters],
    held_out: HeldOut,
    *,
    size: int,
    most: int,
    contexts: int,
    seed: int,
) -> dict[str, Any]:
    """For every ordered pair i != j: i's transitions with j's reward, in contexts of ``size``, which count as at most
    ``most`` transitions, as they do when the student acts.

    ``identity[i][j]``: the fraction of contexts whose identity is nearest to j's centroid (the mean identity of j's own
    contexts). ``action[i][j]``: the fraction for which the action chosen at the start of an episode is nearer to
    the one that the mean evidence of j's own contexts chooses than to the one that i's chooses.
    """
    rng = np.random.default_rng(seed)

    @jax.jit
    def observe(c: Transition) -> Evidence:
        return student.encoder.evidence(c, jnp.ones(c.rewards.shape, bool)).at_most(most)

    key, count = jax.random.PRNGKey(seed), len(mdps)
    start = jnp.asarray(family.simulator([mdps[0]], seed).reset())

    def relabelled(i: int) -> Evidence:
        """Evidence [K, contexts, ...] of the same contexts of MDP i, paid as each of the K MDPs pays."""
        index = rng.choice(np.flatnonzero(held_out.valid[i]), (contexts, size))
        c = jax.tree.map(lambda x: np.broadcast_to(x[i][index], (count, *x[i][index].shape)), held_out.transitions)
        infos = {name: x[i][index] for name, x in held_out.infos.items()}
        rewards = [family.reward(m, c.observations[0], c.actions[0], c.next_observations[0], infos) for m in mdps]
        return observe(c._replace(rewards=np.stack(rewards).astype(np.float32)))

    @jax.jit
    @jax.vmap  # one by one, so that all see the same random candidates
    def act(evidence: Evidence) -> jax.Array:
        return select_action(student, jax.tree.map(lambda x: x[None], evidence), start, key)[0]

    evidence = jax.tree.map(lambda *x: np.stack(x), *(relabelled(i) for i in range(count)))  # [i, j, contexts, ...]
    identities = np.asarray(student.encoder.identity(evidence))
    centroids = np.stack([identities[j, j].mean(0) for j in range(count)])
    own_actions = np.asarray(act(jax.tree.map(lambda x: np.stack([x[j, j].mean(0) for j in range(count)]), evidence)))
    identity, action = np.full((2, count, count), np.nan)
    for i in range(count):
        one = jax.tree.map(lambda x, i=i: x[i].reshape(-1, *x.shape[3:]), evidence)
        actions = np.asarray(act(one)).reshape(count, contexts, -1)
        for j in set(range(count)) - {i}:
            distances = np.square(identities[i, j][:, None] - centroids).sum(-1)
            identity[i, j] = (distances.argmin(1) == j).mean()
            to_i, to_j = (np.abs(actions[j] - own_actions[k]).sum(-1) for k in (i, j))
            action[i, j] = (to_j < to_i).mean()
    off = ~np.eye(count, dtype=bool)
    return {
        "context_size": size,
        "contexts": contexts,
        "identity_worst": float(identity[off].min()),
        "identity_mean": float(identity[off].mean()),
        "action_worst": float(action[off].min()),
        "action_mean": float(action[off].mean()),
        "identity": [[None if np.isnan(x) else float(x) for x in row] for row in identity],
        "action": [[None if np.isnan(x) else float(x) for x in row] for row in action],
    }
