"""What a family is: MDPs p(T, R) that share their spaces and differ in a few real parameters."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bmrl.errors import BmrlError

if TYPE_CHECKING:
    import gymnasium

Parameters: TypeAlias = dict[str, float]
"""One MDP of a family, e.g. ``{"target_velocity": 0.475}``."""

Array: TypeAlias = NDArray[Any]

ACTION_TOLERANCE = 1e-6  # rounding of float32 policies; anything further outside [-1, 1] is a mistake
SAME_MDP = 1e-6  # two MDPs whose every parameter is this close are one MDP


@dataclass(frozen=True)
class Step:
    """One step of n MDPs.

    Attributes:
        observations: [n, d_s] float32, the true next observations, also where an episode ended.
        rewards: [n] float32.
        terminations: [n] bool, the MDP reached a terminal state.
        truncations: [n] bool, the episode was cut: the horizon, or an unstable simulation. Never set together
            with a termination.
        infos: what the reward reads beyond (s, a, s'), each [n, ...] float32.
    """

    observations: Array
    rewards: Array
    terminations: Array
    truncations: Array
    infos: dict[str, Array]


class Simulator(ABC):
    """n MDPs of one family stepped in lockstep, without automatic reset.

    A slot's trajectory depends on its MDP, its actions, the seed and its index only: not on n, on the other
    slots or on the number of threads. The start of slot i's e-th episode is drawn from
    ``np.random.default_rng([seed, i, e])``, so no generator state has to be saved.

    A finished episode may be stepped on until it is reset; past the horizon every step is truncated.

    Attributes:
        family: the family of the MDPs.
        seed: seed of the start states.
        n: number of slots, one MDP each.
        first: the index of the first slot; not 0 where the slots are some of a larger whole. Set it before any reset.
    """

    def __init__(self, family: "Family", mdps: Sequence[Parameters], seed: int):
        if not mdps:
            raise BmrlError(f"{family.name}: a simulator needs at least one MDP")
        if seed < 0:
            raise BmrlError(f"{family.name}: seed must be >= 0, got {seed}")
        mdps = [family.validate(mdp) for mdp in mdps]
        self.family = family
        self.seed = seed
        self.n = len(mdps)
        self.first = 0
        self._parameters = {name: np.array([mdp[name] for mdp in mdps]) for name in family.parameter_names}
        self._episodes = np.zeros(self.n, np.int64)  # episodes begun
        self._steps = np.zeros(self.n, np.int64)  # steps done in the current episode

    @property
    def observation_dim(self) -> int:
        """d_s."""
        return self.family.observation_dim

    @property
    def action_dim(self) -> int:
        """d_a."""
        return self.family.action_dim

    @final
    def reset(self, mask: Array | None = None) -> Array:
        """Begins a new episode in every slot where ``mask`` [n] bool is set (all if None).

        Returns the current observations of all slots, [n, d_s] float32.
        """
        slots = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        for slot in slots.tolist():
            self._begin(slot, np.random.default_rng([self.seed, self.first + slot, self._episodes[slot]]))
            self._episodes[slot] += 1
            self._steps[slot] = 0
        return self._observe()

    @final
    def step(self, actions: ArrayLike) -> Step:
        """Steps every slot once.

        Args:
            actions: [n, d_a] in [-1, 1].

        Raises:
            BmrlError: wrong shape, an action outside [-1, 1] or not finite, or a slot that was never reset.
        """
        actions = np.asarray(actions, np.float32)
        if actions.shape != (self.n, self.action_dim):
            raise BmrlError(f"{self.family.name}: actions have shape {actions.shape}, not {(self.n, self.action_dim)}")
        if not (np.abs(actions) <= 1 + ACTION_TOLERANCE).all():  # false for NaN too
            raise BmrlError(f"{self.family.name}: actions must be finite and in [-1, 1]")
        if not self._episodes.all():
            raise BmrlError(f"{self.family.name}: reset every slot before its first step")
        observations = self._observe()
        terminations, cut, infos = self._advance(actions)
        self._steps += 1
        next_observations = self._observe()
        rewards = self.family.reward(self._parameters, observations, actions, next_observations, infos)
        truncations = ((self._steps >= self.family.horizon) | cut) & ~terminations
        return Step(next_observations, rewards.astype(np.float32), terminations, truncations, infos)

    @final
    def state(self) -> dict[str, Array]:
        """Everything needed to go on bit for bit: the physics and the counters, copied."""
        return {name: array.copy() for name, array in self._arrays().items()}

    @final
    def restore(self, state: Mapping[str, Array]) -> None:
        """Puts back what `state` returned.

        Raises:
            BmrlError: an array is missing, unknown, or has another shape (a state of other MDPs).
        """
        own = self._arrays()
        if state.keys() != own.keys():
            raise BmrlError(f"{self.family.name}: state has {sorted(state)}, expected {sorted(own)}")
        for name, array in own.items():
            if state[name].shape != array.shape:
                raise BmrlError(f"{self.family.name}: state {name!r} has shape {state[name].shape}, not {array.shape}")
        for name, array in own.items():
            array[...] = state[name]

    def _arrays(self) -> dict[str, Array]:
        """The live arrays that `state` copies and `restore` overwrites."""
        return {"episodes": self._episodes, "steps": self._steps} | self._physics()

    @abstractmethod
    def frames(self) -> Array:
        """What an animation draws now: line segments [n, segments, 2 points, 2 coordinates] float32."""

    @abstractmethod
    def _physics(self) -> dict[str, Array]:
        """The live arrays that hold the physical state, each [n, ...]."""

    @abstractmethod
    def _begin(self, slot: int, rng: np.random.Generator) -> None:
        """Puts one slot into a start state."""

    @abstractmethod
    def _observe(self) -> Array:
        """Current observations [n, d_s] float32, in new memory."""

    @abstractmethod
    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        """Moves all slots: terminations [n] bool, episodes that must be cut [n] bool, infos."""


def place(
    bounds: Mapping[str, tuple[float, float]], logarithmic: Sequence[str], coordinates: Iterable[float]
) -> Parameters:
    """The MDP at a point of the unit cube, whose axes are the bounds of the parameters, or of their logarithms."""
    return {
        name: float(low * (high / low) ** u if name in logarithmic else low + (high - low) * u)
        for (name, (low, high)), u in zip(bounds.items(), coordinates, strict=True)
    }


@dataclass(frozen=True)
class Family(ABC):
    """A family of MDPs with real parameters.

    Attributes:
        name: what users write, e.g. "point-goal".
        env_id: the id registered with Gymnasium (`bmrl` registers it).
        bounds: closed interval of every parameter.
        train: MDPs the batches are collected in.
        validation: MDPs for every choice made during development.
        test: MDPs of the reported result.
        horizon: steps until an episode is truncated.
        observation_dim: d_s.
        action_dim: d_a, every action in [-1, 1].
        logarithmic: parameters that are ratios: how near two MDPs are is a matter of their logarithms.
        transitions_vary: whether MDPs differ in their transitions; those of the paper differ in their rewards alone.
        test_is_train: declares that test repeats train. Otherwise no MDP may be in two of the three.
        discount: gamma.
        info_names: the keys of a step's infos.

    Raises:
        BmrlError: at construction, if an MDP is out of bounds or in two of train, validation and test, if there is none
            to train on or to test on, or if an episode has no step.
    """

    name: str
    env_id: str
    bounds: Mapping[str, tuple[float, float]]
    train: tuple[Parameters, ...]
    validation: tuple[Parameters, ...]
    test: tuple[Parameters, ...]
    horizon: int
    observation_dim: int
    action_dim: int
    logarithmic: tuple[str, ...] = field(default=(), kw_only=True)
    transitions_vary: bool = field(default=False, kw_only=True)
    test_is_train: bool = field(default=False, kw_only=True)
    discount: float = field(default=0.99, kw_only=True)
    info_names: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_bounds()
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        for split in ("train", "test"):
            if not splits[split]:
                raise BmrlError(f"{self.name}: {split} has no MDP: name at least one")
        for mdps in splits.values():
            for mdp in mdps:
                self.validate(mdp)
        for one, other in combinations(splits, 2):
            if self.test_is_train and (one, other) == ("train", "test"):
                continue
            for a in splits[one]:
                for b in splits[other]:
                    if all(abs(a[name] - b[name]) < SAME_MDP for name in self.bounds):
                        raise BmrlError(f"{self.name}: the MDP {a} is in both {one} and {other}")

    def _check_sizes(self) -> None:
        for name in ("horizon", "observation_dim", "action_dim"):
            size = getattr(self, name)
            if not isinstance(size, Integral) or size < 1:
                raise BmrlError(f"{self.name}: {name} is {size!r}: a whole number from 1 on is needed")
        if not 0 <= self.discount < 1:
            raise BmrlError(f"{self.name}: discount is {self.discount}: a number from 0 to below 1 is needed")

    def _check_bounds(self) -> None:
        """Of what MDPs' distances are measured by."""
        for name, interval in self.bounds.items():
            if not name.isidentifier():
                raise BmrlError(f"{self.name}: a parameter is named {name!r}: letters, digits and '_' are needed")
            try:
                low, high = map(float, interval)
                ordered = -math.inf < low < high < math.inf
            except (TypeError, ValueError):
                ordered = False
            if not ordered:
                raise BmrlError(
                    f"{self.name}: the bounds of {name!r} are {interval!r}: two numbers are needed, low < high"
                )
            if name in self.logarithmic and low <= 0:
                raise BmrlError(
                    f"{self.name}: {name!r} is logarithmic and its bounds begin at {low}: above 0 is needed"
                )
        if isinstance(self.logarithmic, str) or set(self.logarithmic) - set(self.bounds):
            raise BmrlError(
                f"{self.name}: logarithmic is {self.logarithmic!r}: a tuple of the parameters' names is needed"
            )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the real parameters that tell the MDPs apart."""
        return tuple(self.bounds)

    @final
    def train_mdps(self) -> tuple[Parameters, ...]:
        """MDPs the batches are collected in."""
        return tuple(dict(mdp) for mdp in self.train)

    @final
    def validation_mdps(self) -> tuple[Parameters, ...]:
        """MDPs for every choice made during development."""
        return tuple(dict(mdp) for mdp in self.validation)

    @final
    def test_mdps(self) -> tuple[Parameters, ...]:
        """MDPs of the reported result."""
        return tuple(dict(mdp) for mdp in self.test)

    @final
    def sample(self, rng: np.random.Generator, n: int) -> tuple[Parameters, ...]:
        """n MDPs, every parameter uniform in its bounds, or its logarithm."""
        return tuple(place(self.bounds, self.logarithmic, rng.random(len(self.bounds))) for _ in range(n))

    @final
    def coordinates(self, mdps: Sequence[Parameters]) -> Array:
        """Where MDPs lie in the unit cube of the bounds, [n, parameters]: what `place` undoes."""
        columns = []
        for name, interval in self.bounds.items():
            unit = np.log if name in self.logarithmic else np.asarray
            low, high = unit(interval)
            columns.append((unit([mdp[name] for mdp in mdps]) - low) / (high - low))
        return np.stack(columns, axis=1)

    @final
    def validate(self, parameters: Mapping[str, float]) -> Parameters:
        """The parameters as floats.

        Raises:
            BmrlError: names the parameter that is unknown, missing, not a finite number or out of bounds,
                and what is allowed.
        """
        allowed = ", ".join(f"{name} in [{low:g}, {high:g}]" for name, (low, high) in self.bounds.items())
        for name in parameters:
            if name not in self.bounds:
                raise BmrlError(f"{self.name}: unknown parameter {name!r}; it has {allowed}")
        checked = {}
        for name, (low, high) in self.bounds.items():
            if name not in parameters:
                raise BmrlError(f"{self.name}: missing parameter {name!r}; it needs {allowed}")
            try:
                value = float(parameters[name])
            except (TypeError, ValueError, OverflowError):
                value = math.nan
            if not low <= value <= high:  # false for NaN too
                raise BmrlError(f"{self.name}: {name} is {parameters[name]!r}; allowed: {allowed}")
            checked[name] = value
        return checked

    @final
    def make_env(self, **parameters: float) -> "gymnasium.Env[Array, Array]":
        """The Gymnasium environment of one MDP, as `gymnasium.make` gives it.

        Raises:
            BmrlError: see `validate`.
        """
        import gymnasium  # only the one that makes an environment waits for it

        kwargs: dict[str, Any] = {**self.validate(parameters)}
        return gymnasium.make(f"bmrl:{self.env_id}", **kwargs)

    @abstractmethod
    def reward(
        self,
        parameters: Mapping[str, float | Array],
        observations: Array,
        actions: Array,
        next_observations: Array,
        infos: Mapping[str, Array],
    ) -> Array:
        """R(s, a, s') of one MDP, or of several at once with parameters of shape [...].

        Args:
            parameters: scalars, or arrays that broadcast against the leading axes.
            observations: [..., d_s].
            actions: [..., d_a] in [-1, 1].
            next_observations: [..., d_s].
            infos: what the reward reads that observations lack, each [...].

        Returns:
            rewards [...], computed in float64; rounded to float32 they equal a simulator's to the last bit.
        """

    @abstractmethod
    def simulator(self, mdps: Sequence[Parameters], seed: int, threads: int = 2) -> Simulator:
        """Steps the given MDPs in lockstep, one slot each; repeat an MDP to run many of its episodes at once.

        Raises:
            BmrlError: no MDP, a negative seed, or see `validate`.
        """

    def action_bounds(self, parameters: Mapping[str, float]) -> tuple[Array, Array] | None:
        """The actions of an MDP's environment that -1 and 1 stand for, [d_a] each; None where they are -1 and 1."""
        return None

    def figures(self, observations: Array, rewards: Array, infos: Mapping[str, Array]) -> dict[str, Array]:
        """Further numbers of n episodes for their rows of results, [n] each, under names of their own; by default none.

        Args:
            observations: [n, T + 1, d_s].
            rewards: [n, T], zero after an episode's end.
            infos: of the steps, [n, T] each, zero after an episode's end.
        """
        return {}

    @abstractmethod
    def reference_returns(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """Undiscounted returns of one episode that are known by formula, without running anything."""
