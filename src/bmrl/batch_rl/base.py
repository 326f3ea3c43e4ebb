"""Phase 1's contract: what a batch-RL algorithm offers to training, to testing and to phase 2."""

import functools
from abc import abstractmethod
from dataclasses import is_dataclass
from numbers import Integral
from typing import Any, NamedTuple, Protocol, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bmrl.errors import BmrlError, told
from bmrl.networks import MLP, Normaliser
from bmrl.types import Spec, Transition

State = TypeVar("State")
Tree = TypeVar("Tree")
Metrics = dict[str, Float[Array, ""]]


class Targets(NamedTuple):
    """What phase 2 distils, one row a transition. An algorithm without a generator offers values alone.

    For a latent z drawn once per transition, a candidate is G*(s, z) and a correction xi*(s, G*(s, z)): at the
    paper's ground-truth candidate (Algorithm 1, line 10).
    """

    values: Float[Any, "*n"]  # Q*(s, a) at the logged action
    latents: Any = None  # [*n, latent]
    candidates: Any = None  # [*n, action]
    corrections: Any = None  # [*n, action]


class NothingToDistil(BmrlError):
    """Of an algorithm that is no teacher, but a baseline."""


class Learner(Protocol[State]):
    """What `teach` trains: pure functions over an explicit state, written for one MDP and mapped over K.

    Implementations are frozen dataclasses of hyperparameters, whose fields are numbers, strings, booleans and tuples
    of these. One that learns from transitions in a row has ``window``, their number: its minibatches are
    [n, window, ...], and a window may run into the next episode.
    """

    @abstractmethod
    def __hash__(self) -> int:
        """Of the hyperparameters: equal ones share their compiled programs."""

    @property
    def batch_size(self) -> int:
        """Transitions in a minibatch."""

    @abstractmethod
    def init(self, key: Array, spec: Spec, normaliser: Normaliser) -> State:
        """A fresh learner. ``normaliser`` holds the observation statistics of its batch."""

    @abstractmethod
    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a minibatch of shape [n, ...]."""


class Algorithm(Learner[State], Protocol[State]):
    """A batch-RL algorithm: a learner of a policy.

    Where `targets` has corrections, ``max_perturbation`` is their largest component.
    """

    @abstractmethod
    def act(self, state: State, observations: Float[Array, "n observation"], key: Array) -> Float[Array, "n action"]:
        """The policy that is evaluated: greedy, without exploration noise."""

    @abstractmethod
    def targets(self, state: State, observations: Array, actions: Array, key: Array) -> Targets:
        """What phase 2 distils, for transitions of shape [n, ...]."""


def window_of(algorithm: Learner[Any]) -> int:
    """How many transitions in a row an element of its minibatches has: 1 unless it says so."""
    window: int = getattr(algorithm, "window", 1)
    return window


def check_algorithm(algorithm: Any) -> None:
    """Raises BmrlError for what is no algorithm, saying what it lacks."""
    kind = type(algorithm)
    if not (is_dataclass(kind) and kind.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise BmrlError(f"the algorithm {kind.__name__} is no frozen dataclass: write @dataclass(frozen=True) above it")
    lacking = [name for name in ("batch_size", "init", "update", "act", "targets") if not hasattr(algorithm, name)]
    if lacking:
        raise BmrlError(f"the algorithm {kind.__name__} has no {', '.join(lacking)}: see bmrl.Algorithm")
    for name, size in (("batch_size", algorithm.batch_size), ("window", window_of(algorithm))):
        if not isinstance(size, Integral) or size < 1:
            raise BmrlError(f"the algorithm {kind.__name__} has {name} {size!r}: a whole number from 1 on is needed")
    try:
        hash(algorithm)
    except TypeError as error:
        raise BmrlError(f"the algorithm {kind.__name__} has a field that may change ({error}): use tuples") from error


def check_shapes(algorithm: Any, spec: Spec) -> None:
    """Raises BmrlError where an `Algorithm` gives something else than is asked of it; nothing is computed."""
    kind, rows = type(algorithm).__name__, 7

    def result(name: str, *args: Any, **more: Any) -> Any:
        try:
            return jax.eval_shape(functools.partial(getattr(algorithm, name), **more), *args)
        except BmrlError:
            raise
        except Exception as error:  # whatever a user's function raises
            raise BmrlError(f"{kind}.{name} fails: {told(error)[:300]}; see bmrl.Algorithm") from error

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise BmrlError(f"{kind}.{what} is needed: see bmrl.Algorithm")

    window = window_of(algorithm)
    lead = (algorithm.batch_size, window) if window > 1 else (algorithm.batch_size,)
    key = jax.ShapeDtypeStruct((2,), jnp.uint32)
    state = result("init", key, spec=spec, normaliser=Normaliser.identity(spec.observation_dim))
    updated = result("update", state, _transitions(lead, spec), key)
    pair = isinstance(updated, tuple) and len(updated) == 2 and isinstance(updated[1], dict)
    need(pair, "update gives no pair of the next state and a dict of losses, which")
    need(_arrays(updated[0]) == _arrays(state), "update: a state of the same arrays, shapes and types as that of init")
    need(all(loss.shape == () for loss in updated[1].values()), "update: one number for each loss")
    asked = _transitions((rows,), spec)
    acted = result("act", state, asked.observations, key)
    need(getattr(acted, "shape", None) == (rows, spec.action_dim), f"act: an array of actions [n, {spec.action_dim}]")
    try:
        targets = result("targets", state, asked.observations, asked.actions, key)
    except NothingToDistil:
        return  # phase 2 says so
    need(isinstance(targets, Targets), "targets: an instance of bmrl.Targets")
    need(targets.values.shape == (rows,), "targets: values of shape [n]")
    candidates = [x for x in (targets.candidates, targets.corrections) if x is not None]
    need(all(x.shape == (rows, spec.action_dim) for x in candidates), "targets: candidates and corrections as actions")


def _transitions(lead: tuple[int, ...], spec: Spec) -> Transition:
    """The shapes of a minibatch."""
    s, a = (jax.ShapeDtypeStruct((*lead, size), jnp.float32) for size in spec)
    return Transition(s, a, jax.ShapeDtypeStruct(lead, jnp.float32), s, jax.ShapeDtypeStruct(lead, jnp.bool_))


def _arrays(state: Any) -> Any:
    leaves, structure = jax.tree.flatten(state)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


class Critics(eqx.Module):
    """An ensemble of Q-functions evaluated as one batched product: (s, a) -> [ensemble, ...]."""

    members: MLP

    def __init__(self, key: Array, spec: Spec, hidden: tuple[int, ...], size: int = 2):
        keys = jax.random.split(key, size)
        inputs = spec.observation_dim + spec.action_dim
        self.members = eqx.filter_vmap(lambda k: MLP(k, inputs, hidden, 1))(keys)

    def __call__(self, observations: Array, actions: Array) -> Array:
        """Every member's value of (s, a): [members, ...]."""
        inputs = jnp.concatenate([observations, actions], axis=-1)
        return jax.vmap(lambda member: member(inputs)[..., 0])(self.members)

    def first(self, observations: Array, actions: Array) -> Array:
        """The first member's value of (s, a), [...], without computing the others'."""
        member = jax.tree.map(lambda x: x[0], self.members)
        return member(jnp.concatenate([observations, actions], axis=-1))[..., 0]


def critics_loss_fn(critics: Critics, s: Array, actions: Array, y: Array) -> tuple[Array, Array]:
    """Sum over the critics of the mean squared error to the targets y, [...] (Haarnoja et al. 2018b, Eq. 5)."""
    q = critics(s, actions)
    return ((q - jax.lax.stop_gradient(y)) ** 2).mean(tuple(range(1, q.ndim))).sum(), q


def polyak(target: Tree, online: Tree, rate: float) -> Tree:
    """Move the target network a step of ``rate`` towards the online network."""
    return jax.tree.map(lambda t, o: (1 - rate) * t + rate * o, target, online)


def gradient_step(
    optimiser: optax.GradientTransformation, gradient: Tree, state: optax.OptState, params: Tree
) -> tuple[Tree, optax.OptState]:
    """One step of the optimiser: (new parameters, new optimiser state)."""
    updates, state = optimiser.update(gradient, state)
    return optax.apply_updates(params, updates), state


def unless_diverged(new: Tree, old: Tree, losses: Metrics) -> tuple[Tree, Metrics]:
    """The new state and the losses on the way to it; the old one, and NaN, if any number of these is not finite."""
    finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves((new, losses))]).all()
    kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    return kept, {name: jnp.where(finite, x, jnp.nan) for name, x in losses.items()}
