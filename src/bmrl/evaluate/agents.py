"""What is tested: policies with a memory, acting in n MDPs in lockstep."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bmrl.baselines.contextual_sac import ContextualSAC, ContextualState, GaussianEncoder
from bmrl.batch_rl.bcq import clipped_latents
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import CANDIDATES, Student
from bmrl.networks.set_encoder import Evidence, SetEncoder
from bmrl.types import Transition

RANDOM_SHOOTING = 100  # uniform actions (appendix B)


class Agent(Protocol):
    """A policy for n episodes at once. ``memory`` is whatever it knows of its running episodes."""

    def start(self, n: int) -> Any:
        """The memory at the first step of n episodes."""

    def act(self, memory: Any, observations: np.ndarray, key: Array) -> np.ndarray:
        """Actions [n, d_a] for observations [n, d_s]."""

    def observe(self, memory: Any, transition: Transition) -> Any:
        """The memory after a step of each episode."""

    def identity(self, memory: Any) -> np.ndarray | None:
        """The inferred identities [n, d_m], for figures."""


Selector: TypeAlias = Callable[[Student, Evidence, Array, Array], Float[Array, "n action"]]
"""How a student chooses: actions for (student, evidence [n, ...], observations [n, d_s], key); pure and hashable."""


def select_action(student: Student, evidence: Evidence, observations: Array, key: Array) -> Float[Array, "n action"]:
    """BCQ's procedure with the super networks (section 4.1), or random shooting if there is only a value (5.1).

    Actions are proposed for the two most probable train MDPs (with trials for one, see `SetEncoder.proposers`), each by
    itself, with ten latents each if G_S has latents: at the mean of two MDPs' embeddings it would propose the mean of
    two gaits, which is none. Q_S, under the mean identity, chooses. Before any evidence all have the zero identity.
    A student with `mean_action` does propose at the mean identity (see `StudentConfig`), with the latents' mean, zero.
    """
    if student.candidate is None:
        return random_shooting(student, evidence, observations, key)
    if student.mean_action:
        z = jnp.zeros((*observations.shape[:-1], student.latent_dim))
        return student.proposals(observations, z, student.encoder.identity(evidence))
    actions = student.choices(key, observations, student.encoder.proposers(evidence))
    return _best(student, evidence, observations, actions)


def random_shooting(student: Student, evidence: Evidence, observations: Array, key: Array) -> Float[Array, "n action"]:
    """The best of many uniform actions by Q_S (section 5.1)."""
    shape = RANDOM_SHOOTING, *observations.shape[:-1], student.action_dim
    return _best(student, evidence, observations, jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))


@dataclass(frozen=True)
class FixedDraws:
    """`select_action` with the same random numbers at every step and in every episode; a `Selector` of `StudentAgent`.

    It is what an exported policy does (`bmrl.runtime`), whose action is a function of the observation and the context.
    """

    seed: int = 0

    def __call__(
        self, student: Student, evidence: Evidence, observations: Array, key: Array
    ) -> Float[Array, "n action"]:
        """The actions; ``key`` is not used."""

        def one(evidence: Evidence, s: Array) -> Array:
            evidence = jax.tree.map(lambda x: x[None], evidence)
            return select_action(student, evidence, s[None], jax.random.PRNGKey(self.seed))[0]

        return jax.vmap(one)(evidence, observations)

    def numbers(self, student: Student) -> dict[str, Array]:
        """What `select_action` draws, without an axis of episodes: ``latents`` or ``actions``, if anything."""
        key = jax.random.PRNGKey(self.seed)
        if student.candidate is None:
            shape = RANDOM_SHOOTING, 1, student.action_dim
            return {"actions": jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)[:, 0]}
        if student.mean_action or not student.latent_dim:
            return {}
        return {"latents": clipped_latents(key, (CANDIDATES, 1, 1, student.latent_dim))[:, 0, 0]}


def _best(student: Student, evidence: Evidence, observations: Array, actions: Array) -> Array:
    """The action with the highest Q_S of [choices, n, d_a]."""
    s = jnp.broadcast_to(observations, (len(actions), *observations.shape))
    best = student.values(s, actions, student.encoder.identity(evidence)).argmax(0)
    return jnp.take_along_axis(actions, best[None, :, None], axis=0)[0]


class ContextMemory(NamedTuple):
    """The evidence about each episode's MDP, and the latest pieces of it where only these count."""

    evidence: Evidence
    recent: Float[Array, "n window evidence"] | None

    @classmethod
    def blank(cls, encoder: SetEncoder | GaussianEncoder, n: int, window: int | None) -> "ContextMemory":
        """Of n episodes that begin; all their transitions are to count, or the latest ``window``."""
        size = encoder.evidence_dim
        recent = jnp.zeros((n, window, size)) if window else None
        return cls(Evidence(jnp.zeros((n, size)), jnp.zeros(n)), recent)


class StudentAgent:
    """The distilled policy, zero-shot: a blank identity at first, then the one of the running episode.

    The context at test is as in training. Where sizes were fixed (the paper's is 1) it is that many of the episode's
    latest transitions; where they varied it is all of them, which then count as the largest context of training.
    ``prior`` is the evidence of logs of the same MDPs, [n, evidence]; ``blank`` never infers anything; ``select``
    chooses the actions.
    """

    def __init__(
        self,
        student: Student,
        context: ContextConfig,
        prior: Evidence | None = None,
        blank: bool = False,
        select: Selector = select_action,
    ):
        self.student, self.prior, self.blank, self.select = student, prior, blank, select
        self.most, self.window = context.size, None if context.vary_size else context.size

    def start(self, n: int) -> ContextMemory:
        """No evidence but the logs', if there are any."""
        memory = ContextMemory.blank(self.student.encoder, n, self.window)
        return memory._replace(evidence=self.prior) if self.prior else memory

    def act(self, memory: ContextMemory, observations: np.ndarray, key: Array) -> np.ndarray:
        """The actions that ``select`` chooses under the evidence so far."""
        evidence = memory.evidence.at_most(self.most)
        return np.asarray(_student_act(self.student, evidence, observations, key, select=self.select))

    def values(self, memory: ContextMemory, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Q_S(s, a, m) [n] under the evidence so far."""
        return np.asarray(_student_values(self.student, memory.evidence.at_most(self.most), observations, actions))

    def observe(self, memory: ContextMemory, transition: Transition) -> ContextMemory:
        """Add a transition of each episode to its context."""
        return memory if self.blank else _remember(self.student.encoder, memory, transition)

    def identity(self, memory: ContextMemory) -> np.ndarray:
        """m = f(context)."""
        return np.asarray(self.student.encoder.identity(memory.evidence.at_most(self.most)))


@functools.partial(jax.jit, static_argnames="select")
def _student_act(student: Student, evidence: Evidence, observations: Array, key: Array, select: Selector) -> Array:
    return select(student, evidence, observations, key)


@jax.jit
def _student_values(student: Student, evidence: Evidence, observations: Array, actions: Array) -> Array:
    return student.values(observations, actions, student.encoder.identity(evidence))


@jax.jit
def _remember(encoder: SetEncoder | GaussianEncoder, memory: ContextMemory, transition: Transition) -> ContextMemory:
    piece = encoder.observe(transition)
    evidence, recent = memory
    if recent is None:
        return ContextMemory(Evidence(evidence.total + piece, evidence.size + 1), None)
    recent = jnp.concatenate([recent[:, 1:], piece[:, None]], axis=1)
    size = jnp.minimum(evidence.size + 1, recent.shape[1])
    return ContextMemory(Evidence(recent.sum(1), size), recent)


class ContextualAgent:
    """Contextual SAC, zero-shot: its mean action under the posterior mean of z, given the running episode.

    Before the first transition that is the mean of the prior N(0, I). As with `StudentAgent`, all transitions count,
    or the latest ones where the contexts of training were of one size.
    """

    def __init__(self, algorithm: ContextualSAC, state: ContextualState):
        context = algorithm.context
        self.algorithm, self.state, self.window = algorithm, state, None if context.vary_size else context.size

    def start(self, n: int) -> ContextMemory:
        """No evidence."""
        return ContextMemory.blank(self.state.encoder, n, self.window)

    def act(self, memory: ContextMemory, observations: np.ndarray, key: Array) -> np.ndarray:
        """The mean action."""
        return np.asarray(_contextual_act(self.algorithm)(self.state, observations, memory.evidence, key))

    def observe(self, memory: ContextMemory, transition: Transition) -> ContextMemory:
        """Add a transition of each episode to its context."""
        return _remember(self.state.encoder, memory, transition)

    def identity(self, memory: ContextMemory) -> np.ndarray:
        """The posterior mean of z."""
        return np.asarray(self.state.encoder.posterior(memory.evidence)[0])


@functools.lru_cache(maxsize=8)
def _contextual_act(algorithm: ContextualSAC) -> Any:
    return jax.jit(algorithm.act)


class TeacherAgent:
    """Phase-1 learners acting for themselves: slot i is driven by learner ``which[i]``."""

    def __init__(self, algorithm: Any, states: Any, which: np.ndarray):
        self._act = _teacher_act(algorithm)
        self.states = jax.tree.map(lambda x: jnp.asarray(x)[which], states)

    def start(self, n: int) -> None:
        """Learners remember nothing."""

    def act(self, memory: None, observations: np.ndarray, key: Array) -> np.ndarray:
        """Each learner's greedy action."""
        return np.asarray(self._act(self.states, observations, jax.random.split(key, len(observations))))

    def observe(self, memory: None, transition: Transition) -> None:
        """Nothing to learn from."""

    def identity(self, memory: None) -> None:
        """Learners infer none."""


@functools.lru_cache(maxsize=8)
def _teacher_act(algorithm: Any) -> Any:
    return jax.jit(jax.vmap(lambda state, s, key: algorithm.act(state, s[None], key)[0]))


class FixedAgent:
    """What needs no training: the zero action at every step (standing still), or uniform actions."""

    def __init__(self, action_dim: int, uniform: bool):
        self.action_dim, self.uniform = action_dim, uniform

    def start(self, n: int) -> None:
        """Remembers nothing."""

    def act(self, memory: None, observations: np.ndarray, key: Array) -> np.ndarray:
        """Zeros, or draws from [-1, 1]."""
        shape = (len(observations), self.action_dim)
        return np.asarray(jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)) if self.uniform else np.zeros(shape)

    def observe(self, memory: None, transition: Transition) -> None:
        """Nothing to learn from."""

    def identity(self, memory: None) -> None:
        """It infers none."""
