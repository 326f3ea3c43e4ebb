"""A family made of Gymnasium environments: n copies stepped one after the other, as one simulator."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np

from bmrl.errors import BmrlError, told
from bmrl.families.base import Array, Family, Parameters, Simulator

if TYPE_CHECKING:
    import gymnasium

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class GymnasiumFamily(Family):
    """MDPs that a function makes as Gymnasium environments; training never calls it, collection and tests do.

    Observations must be a `Box` [d_s], actions a bounded `Box` [d_a], which is scaled to [-1, 1]. An episode must be
    determined by the seed of its reset and its actions: then collection can be resumed.

    Attributes:
        make: the environment of one MDP, called with the MDP's parameters as keywords.
        env_id: under which `make_env` finds the family once it was given by ``--family``; made of the name by default.
        transitions_vary: always; which of the two varies, a made environment does not tell.

    See `Family` for the others.
    """

    make: Callable[..., "gymnasium.Env[Any, Any]"]
    env_id: str = field(default="", kw_only=True)
    transitions_vary: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        """Gives the family an id of its own, where it has none."""
        super().__post_init__()
        if self.info_names:
            raise BmrlError(f"{self.name}: info_names: what step returns as infos is not kept: leave it out")
        if self.env_id and not re.fullmatch(r"([\w:-]+/)?[\w:.-]+-v\d+", self.env_id):
            raise BmrlError(f'{self.name}: env_id is {self.env_id!r}: a name as "mine/Tank-v0" is needed, or none')
        if not self.env_id:
            object.__setattr__(self, "env_id", f"bmrl/{re.sub(r'[^A-Za-z0-9_.-]', '-', self.name)}-v0")

    def environment(self, parameters: Mapping[str, float]) -> "gymnasium.Env[Any, Any]":
        """Of an MDP. Raises BmrlError for parameters that are not the family's, or if making it fails."""
        validated = self.validate(parameters)
        try:
            env = self.make(**validated)
        except Exception as error:
            raise BmrlError(f"{self.name}: making the environment of {validated} fails: {told(error)}") from error
        lacking = [name for name in ("observation_space", "action_space", "reset", "step") if not hasattr(env, name)]
        if lacking:
            raise BmrlError(
                f"{self.name}: make returned {type(env).__name__}, which has no {lacking[0]}: a gymnasium.Env is needed"
            )
        return env

    def reward(
        self,
        parameters: Mapping[str, float | Array],
        observations: Array,
        actions: Array,
        next_observations: Array,
        infos: Mapping[str, Array],
    ) -> Array:
        """What the environment paid: ``infos["reward"]`` [...]; another MDP's reward is not known."""
        return np.asarray(infos["reward"], np.float64)

    def simulator(self, mdps: Sequence[Parameters], seed: int, threads: int = 2) -> Simulator:
        """See `Family.simulator`; the environments are stepped in this thread, so `threads` is not used."""
        return GymnasiumSimulator(self, mdps, seed)

    def action_bounds(self, parameters: Mapping[str, float]) -> tuple[Array, Array]:
        """See `Family.action_bounds`; makes the environment. Raises BmrlError for spaces that are not the family's."""
        env = self.environment(parameters)
        try:
            return _bounds(self, env)
        finally:
            env.close()

    def reference_returns(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """None is known."""
        self.validate(parameters)
        return {}


def _bounds(family: GymnasiumFamily, env: "gymnasium.Env[Any, Any]") -> tuple[Array, Array]:
    """The lowest and highest actions. Raises BmrlError for spaces that are not the family's."""
    from gymnasium.spaces import Box

    seen, done = env.observation_space, env.action_space
    if not isinstance(seen, Box) or seen.shape != (family.observation_dim,):
        raise BmrlError(
            f"{family.name}: its environment observes {seen}; a Box of shape ({family.observation_dim},) is needed "
            "(gymnasium.wrappers.FlattenObservation makes one)"
        )
    if not isinstance(done, Box) or done.shape != (family.action_dim,) or not done.is_bounded():
        raise BmrlError(
            f"{family.name}: its environment takes {done}; a bounded Box of shape ({family.action_dim},) is needed"
        )
    if not np.issubdtype(done.dtype, np.floating):
        raise BmrlError(
            f"{family.name}: its environment takes {done}, whole numbers; a Box of np.float32 is needed, whose actions "
            "the environment may round"
        )
    return done.low.astype(np.float64), done.high.astype(np.float64)


@final
class GymnasiumSimulator(Simulator):
    """n environments, each with the seed and the actions of its running episode, from which it can be brought back.

    An episode that is over stands still: the same observation, no reward. One whose environment raises an error, or
    gives a number that is not finite, is cut, with ``infos["invalid"]`` set: it is no sample of the MDP.
    """

    def __init__(self, family: GymnasiumFamily, mdps: Sequence[Parameters], seed: int):
        super().__init__(family, mdps, seed)
        self._mdps = list(mdps)
        self._envs = [family.environment(mdp) for mdp in mdps]
        bounds = [_bounds(family, env) for env in self._envs]
        self._low, self._high = np.stack([low for low, _ in bounds]), np.stack([high for _, high in bounds])
        self._seeds = np.zeros(self.n, np.int64)
        self._actions = np.zeros((self.n, family.horizon, family.action_dim), np.float32)
        self._now = np.zeros((self.n, family.observation_dim), np.float32)
        self._over = np.zeros((self.n, 2), bool)  # terminated, cut
        self._lived: list[tuple[int, bytes] | None] = [None] * self.n  # each environment's episode: seed and actions

    def frames(self) -> Array:
        """Nothing is drawn: [n, 0, 2, 2]."""
        return np.zeros((self.n, 0, 2, 2), np.float32)

    def _physics(self) -> dict[str, Array]:
        return {"seeds": self._seeds, "actions": self._actions, "now": self._now, "over": self._over}

    def _begin(self, slot: int, rng: np.random.Generator) -> None:
        self._seeds[slot], self._over[slot] = rng.integers(2**31), (False, False)
        self._now[slot] = self._restart(slot)

    def _restart(self, slot: int) -> Array:
        seed = int(self._seeds[slot])
        try:
            observation, _ = self._envs[slot].reset(seed=seed)
            observation = self._observation(observation, "reset")
        except BmrlError:
            raise
        except Exception as error:
            raise BmrlError(
                f"{self.family.name}: reset(seed={seed}) of the environment of {self._mdps[slot]} fails: "
                f"{told(error)}; it is to return an observation and a dict"
            ) from error
        if not np.isfinite(observation).all():
            raise BmrlError(
                f"{self.family.name}: reset(seed={seed}) of the environment of {self._mdps[slot]} gives {observation}: "
                "finite numbers are needed"
            )
        self._lived[slot] = seed, b""
        return observation

    def _observation(self, found: Any, of: str) -> Array:
        """What `reset` or `step` returned, [d_s]. Raises BmrlError for another shape, which NumPy might stretch."""
        observation, wanted = np.asarray(found, np.float32), (self.family.observation_dim,)
        if observation.shape != wanted:
            raise BmrlError(
                f"{self.family.name}: {of} of its environment returned an observation of shape {observation.shape}, "
                f"not {wanted} as its observation_space says: mend {of}"
            )
        return observation

    def _observe(self) -> Array:
        return self._now.copy()

    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        rewards, invalid = np.zeros((2, self.n), np.float32)
        terminations, cut = np.zeros((2, self.n), bool)
        for slot in range(self.n):
            if self._over[slot].any() or self._steps[slot] >= self.family.horizon:
                terminations[slot], cut[slot] = self._over[slot]
                continue
            try:
                found = self._step(slot, actions[slot])
            except BmrlError:  # the family is at fault, not this episode
                raise
            except Exception as error:
                _log.warning("%s: an environment failed: %r; its episode is cut", self.family.name, error)
                found = None
            if found is None:
                invalid[slot], cut[slot] = 1.0, True
            else:
                self._now[slot], rewards[slot], terminations[slot], cut[slot] = found
            self._over[slot] = terminations[slot], cut[slot]
        return terminations, cut, {"reward": rewards, "invalid": invalid}

    def _step(self, slot: int, action: Array) -> tuple[Array, float, bool, bool] | None:
        """One environment's next observation, reward, termination and truncation; None if a number is not finite."""
        step = int(self._steps[slot])
        lived = int(self._seeds[slot]), self._actions[slot, :step].tobytes()
        if self._lived[slot] != lived:  # a state was put back
            self._restart(slot)
            for past in self._actions[slot, :step]:
                self._envs[slot].step(self._scaled(slot, past))
        self._actions[slot, step] = action
        self._lived[slot] = lived[0], lived[1] + self._actions[slot, step].tobytes()
        observation, reward, terminated, truncated, _ = self._envs[slot].step(self._scaled(slot, action))
        observation = self._observation(observation, "step")
        paid = float(reward)
        if not (np.isfinite(observation).all() and abs(paid) <= np.finfo(np.float32).max):
            _log.warning("%s: an environment gave a number that is not finite; its episode is cut", self.family.name)
            return None
        return observation, paid, bool(terminated), bool(truncated)

    def _scaled(self, slot: int, action: Array) -> Array:
        """An action in [-1, 1] as the environment takes it."""
        low, high = self._low[slot], self._high[slot]
        share = (np.clip(action, -1.0, 1.0).astype(np.float64) + 1) / 2
        scaled: Array = (low + share * (high - low)).astype(self._envs[slot].action_space.dtype)
        return scaled
