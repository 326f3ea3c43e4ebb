"""The policy that left its run: it acts, infers in which MDP it is, and falls back where its inputs are no good."""

import hashlib
import logging
import os
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from bmrl.errors import BmrlError, CorruptError
from bmrl.runs.storage import locate, require_format, verify_directory
from bmrl.runtime.actor import Actor
from bmrl.runtime.description import ARRAYS, FORMAT, VERSION, Description, parse
from bmrl.runtime.inputs import Array, array_of, numbers, outside, rows, spread
from bmrl.runtime.networks import Student
from bmrl.runtime.state import PolicyState, blank, restored, where
from bmrl.runtime.tensors import read_tensors

SLOTS = 256  # MDPs decided for at once, so that memory is bounded whatever their number
LOG_TRANSITIONS = 64  # of logs, evenly spread over them: as many as `bmrl evaluate --context LOGS` takes
MISFIT_WINDOW = 16  # transitions that the running mean of the misfit looks back
ACTION_TOLERANCE = 1e-6  # of an action's range and size: rounding of float32

_log = logging.getLogger(__name__)


class Policy:
    """One context-conditioned policy for n MDPs at once, none of which it needs to have seen.

    Observations, actions and rewards have the units of the logs that it was trained from.

    Attributes:
        family: name of the family of the MDPs, None if they have none.
        observation_low, observation_high: [d_s], beyond which no observation is used.
        reward_low, reward_high: beyond which no reward is used.
        action_low, action_high: [d_a] float32; every action lies within.
        fallback: [d_a] float32, the action where an observation cannot be used.
        student: the networks.
    """

    def __init__(self, description: Description, arrays: Mapping[str, Array], seed: int | None = None):
        """See `load`; raises CorruptError where the arrays do not fit the description or each other."""
        d = description
        self.family = d.family
        self.observation_low, self.observation_high = np.array(d.observation_low), np.array(d.observation_high)
        self.reward_low, self.reward_high = d.reward_low, d.reward_high
        self.action_low, self.action_high = np.array(d.action_low, np.float32), np.array(d.action_high, np.float32)
        self.fallback = np.array(d.fallback, np.float32)
        left = dict(arrays)
        self._number = number_of(description, arrays)
        self.student = Student(
            left,
            len(d.observation_low),
            len(d.action_low),
            pooling=d.pooling,
            labels=d.labels,
            trials=d.trials,
            max_correction=d.max_correction,
            correction_identity=d.correction_identity,
            mean_action=d.mean_action,
        )
        self._actor = Actor(self.student, left, d.latent_clip, seed)
        if left:
            raise CorruptError(f"array {min(left)!r} belongs to no part of a policy; export the policy again")
        if len(d.residuals) != self.student.prediction.outputs:
            raise CorruptError("its manifest has another number of residuals than P has outputs; export it again")
        self._most, self._window = d.context_size, d.context_size if d.window else 0
        self._limits, self._residuals = np.array(d.misfit_limits), np.array(d.residuals)

    @classmethod
    def load(cls, path: str | os.PathLike[str], seed: int | None = None) -> "Policy":
        """The policy that `bmrl policy export` wrote to the directory ``path``, after checking every file's SHA-256.

        ``seed`` is that of ``predict(deterministic=False)``.

        Raises BmrlError where there is none, or for a wrong seed, and CorruptError where it was altered or is of
        another version.
        """
        if seed is not None and (not isinstance(seed, Integral) or seed < 0):
            raise BmrlError(f"seed is {seed!r}, a whole number from 0 on is needed")
        path = Path(path)
        manifest = verify_directory(path)
        require_format(path, manifest, FORMAT, VERSION)
        if manifest["files"].keys() != {ARRAYS}:
            raise CorruptError(f"{path} needs {ARRAYS} beside its manifest and nothing else; export the policy again")
        arrays = read_tensors(locate(path) / ARRAYS)
        try:
            return cls(parse(manifest), arrays, seed)
        except CorruptError as error:
            raise CorruptError(f"{path}: {error}") from error

    @property
    def observation_dim(self) -> int:
        """d_s."""
        return len(self.observation_low)

    @property
    def action_dim(self) -> int:
        """d_a."""
        return len(self.action_low)

    # ------------------------------------------------------------------ what it knows

    def start(self, n: int = 1) -> PolicyState:
        """The state of n MDPs of which nothing is known."""
        if not isinstance(n, Integral) or n < 1:
            raise BmrlError(f"n is {n!r}, a number of MDPs is needed")
        return blank(int(n), self.student.encoder.outputs, self._window, self._number)

    def restore(self, text: str) -> PolicyState:
        """The state that `PolicyState.to_json` wrote. Raises BmrlError where it is damaged or of another policy."""
        return restored(text, self.student.encoder.outputs, self._window, self._number)

    def observe(
        self,
        state: PolicyState,
        observation: ArrayLike,
        action: ArrayLike,
        reward: ArrayLike,
        next_observation: ArrayLike,
    ) -> PolicyState:
        """The state after a transition of each MDP; ``action`` is the one that was applied.

        Where a value is NaN, infinite or out of bounds, that MDP's transition is left out, and ``reasons`` say why.

        Args:
            state: of n MDPs.
            observation: [n, d_s], or [d_s] if n is 1.
            action: [n, d_a] or [d_a].
            reward: [n], or a number.
            next_observation: as ``observation``; after an episode's last step its last one, not the next one's first.

        Raises:
            BmrlError: a wrong shape, or something that is no number.
        """
        self._check_state(state)
        transitions, reasons = self._transitions(observation, action, reward, next_observation)
        if len(reasons) != len(state.steps):
            raise BmrlError(f"transitions of {len(reasons)} MDPs, the state has {len(state.steps)}")
        with np.errstate(all="ignore"):
            pieces = self.student.evidence(*transitions).astype(np.float64)
            total, size = self._evidence(state)
            misfits = self._misfits(*transitions, self.student.identity(total, size))
            _note(reasons, ~(np.isfinite(pieces).all(axis=1) & np.isfinite(misfits)), "f or P has no finite output")
            recent = np.concatenate([state.recent, pieces[:, None]], axis=1)[:, 1:] if self._window else state.recent
            foretold = size > 0  # a forecast that knows nothing of the MDP says nothing of it
            new = state._replace(
                episode=recent.sum(axis=1) if self._window else state.episode + pieces,
                steps=state.steps + 1,
                recent=recent,
                misfit=np.where(foretold, running_mean(state.misfit, misfits, state.foretold), state.misfit),
                foretold=state.foretold + foretold,
            )
        if any(reasons):
            new = where(np.array([not reason for reason in reasons]), new, state)
        if (strange := self.familiar(state) & ~self.familiar(new)).any():
            found = ", ".join(map(str, np.flatnonzero(strange)[:10]))
            _log.warning("MDP %s: unlike all that this policy was trained on", found)
        return new._replace(reasons=tuple(reasons))

    def warm_start(self, *logs: Mapping[str, ArrayLike]) -> PolicyState:
        """The state of as many MDPs as there are logs: each inferred from its own, and kept when episodes start.

        Of each, up to 64 transitions count, evenly spread. Those that `observe` would leave out are left out, and
        ``reasons`` say how many.

        Args:
            logs: ``observations`` [N, d_s], ``actions`` [N, d_a], ``rewards`` [N] and ``next_observations`` [N, d_s]
                each; or, as a batch has them, ``observations`` [N + E, d_s] of E episodes, with ``terminations`` and
                ``truncations`` [N].

        Raises:
            BmrlError: an array is missing or has a wrong shape, or no transition can be used.
        """
        if not logs:
            raise BmrlError("warm_start needs the logs of at least one MDP")
        states = [self._of_log(f"log {number}", log) for number, log in enumerate(logs)]
        joined = [np.concatenate(arrays) for arrays in zip(*(state[:-1] for state in states), strict=True)]
        return PolicyState._make([*joined, tuple(state.reasons[0] for state in states)])

    def _of_log(self, name: str, log: Mapping[str, ArrayLike]) -> PolicyState:
        """The state of one MDP after its log."""
        transitions, reasons = self._transitions(*spread(name, log, LOG_TRANSITIONS))
        with np.errstate(all="ignore"):
            pieces = self.student.evidence(*transitions).astype(np.float64)
        _note(reasons, ~np.isfinite(pieces).all(axis=1), "f has no finite output")
        good = np.array([not reason for reason in reasons])
        if not good.any():
            raise BmrlError(f"{name}: no transition can be used ({reasons[0]})")
        pieces, count = pieces[good], int(good.sum())
        # What f inferred before each of the transitions; of the first it knew nothing.
        before = self.student.identity(
            *self._bounded(np.cumsum(pieces, axis=0) - pieces, np.arange(count, dtype=float))
        )
        s, a, r, next_s = (x[good] for x in transitions)
        state, misfit = self.start(), np.zeros(1)
        for size, found in enumerate(self._misfits(s, a, r, next_s, before)[1:]):
            misfit = running_mean(misfit, found, np.array([size]))
        left_out = f"{len(good) - count} of {len(good)} transitions left out: {next(filter(None, reasons), '')}"
        return state._replace(
            logs=pieces.sum(axis=0, keepdims=True),
            logs_size=state.logs_size + count,
            misfit=misfit,
            foretold=state.foretold + count - 1,
            reasons=("" if good.all() else left_out,),
        )

    def identity(self, state: PolicyState) -> Array:
        """What f infers from the transitions so far: identities [n, d_m]; zero where there are none."""
        self._check_state(state)
        return self.student.identity(*self._evidence(state))

    def familiar(self, state: PolicyState) -> Array:
        """Whether each MDP gives what one of the train MDPs, or a mixture of them, would give: [n] bool.

        The misfit is the squared error of P's forecast of the reward (and of the next observation where P was trained
        to foretell it) under what f had inferred before, in units of its mean on the train MDPs' logs, as a running
        mean over 16 transitions. It is beyond its limit in one of 1000 contexts of these logs. True where nothing was
        foretold yet.

        Raises BmrlError where the state is another policy's.
        """
        self._check_state(state)
        limits = self._limits[np.minimum(state.foretold, len(self._limits)) - 1]
        return (state.foretold == 0) | (state.misfit <= limits)

    # ------------------------------------------------------------------ what it does

    def predict(
        self,
        observation: ArrayLike,
        state: PolicyState | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, PolicyState]:
        """Actions, and the state with the reasons of those that are the fallback; the call of Stable-Baselines3.

        An observation with a value that is NaN, infinite or out of bounds has the fallback action, and ``reasons`` of
        the returned state say why. The state learns nothing here: that is `observe`'s.

        Args:
            observation: [n, d_s], or [d_s] for one MDP.
            state: of n MDPs; None where nothing is known of them.
            episode_start: [n] or a single bool: where an episode starts, the context is that of `warm_start` again.
            deterministic: by the random numbers stored with the policy; else by fresh ones.

        Returns:
            Actions [n, d_a], or [d_a] for an observation [d_s], float32, within ``action_low`` and ``action_high``.

        Raises:
            BmrlError: a wrong shape, or something that is no number.
        """
        s = rows("observation", observation, self.observation_dim)
        state = self.start(len(s)) if state is None else state
        self._check_state(state)
        if len(s) != len(state.steps):
            raise BmrlError(f"observations of {len(s)} MDPs, the state has {len(state.steps)}")
        if episode_start is not None:
            state = self._restarted(state, episode_start)
        reasons = outside("observation", s, self.observation_low, self.observation_high)
        with np.errstate(all="ignore"):
            s, (total, size) = s.astype(np.float32), self._evidence(state)
            chunks = (slice(start, start + SLOTS) for start in range(0, len(s), SLOTS))
            actions = np.concatenate([self._actor.act(s[x], total[x], size[x], deterministic) for x in chunks])
        _note(reasons, ~np.isfinite(actions).all(axis=1), "Q_S has no finite value")
        actions = self.unscaled(np.nan_to_num(actions))
        if any(reasons):
            actions[[bool(reason) for reason in reasons]] = self.fallback
        return actions if np.ndim(observation) == 2 else actions[0], state._replace(reasons=tuple(reasons))

    def unscaled(self, actions: Array) -> Array:
        """Actions [..., d_a] in [-1, 1], as batches have them, in the user's units."""
        low, high = self.action_low.astype(float), self.action_high.astype(float)
        found = low + (actions.astype(float) + 1.0) / 2.0 * (high - low)
        return np.clip(found.astype(np.float32), self.action_low, self.action_high)

    # ------------------------------------------------------------------ parts

    def _check_state(self, state: PolicyState) -> None:
        """Raises BmrlError unless the state is one of this policy's."""
        if not isinstance(state, PolicyState):
            raise BmrlError(f"the state is a {type(state).__name__}; a PolicyState of start, predict, ... is needed")
        shape = len(state.steps), self._window, self.student.encoder.outputs
        if state.recent.shape != shape or state.episode.shape != shape[::2] or (state.policy != self._number).any():
            raise BmrlError("the state is another policy's; begin with Policy.start or warm_start")

    def _restarted(self, state: PolicyState, episode_start: ArrayLike) -> PolicyState:
        """The state with the contexts of episodes that start emptied."""
        starts, shape = array_of("episode_start", episode_start), state.steps.shape
        if starts.shape not in ((), shape) or not np.isin(starts, (0, 1)).all():
            raise BmrlError(f"episode_start has shape {list(starts.shape)}, a bool for each of {shape[0]} is needed")
        fresh = blank(len(state.steps), self.student.encoder.outputs, self._window, self._number)
        fresh = fresh._replace(logs=state.logs, logs_size=state.logs_size)
        return where(np.broadcast_to(starts > 0, state.steps.shape), fresh, state)

    def _transitions(
        self, observation: ArrayLike, action: ArrayLike, reward: ArrayLike, next_observation: ArrayLike
    ) -> tuple[tuple[Array, Array, Array, Array], list[str]]:
        """Transitions (s, a, r, s') of n rows as the networks take them, and why each cannot be used, or ""."""
        s = rows("observation", observation, self.observation_dim)
        a = rows("action", action, self.action_dim)
        next_s = rows("next_observation", next_observation, self.observation_dim)
        r = numbers("reward", reward).reshape(-1, 1)
        if not len(s) == len(a) == len(r) == len(next_s) or np.ndim(reward) > 1:
            lengths = f"{len(s)} observations, {len(a)} actions, {len(r)} rewards, {len(next_s)} next observations"
            raise BmrlError(f"{lengths}: as many of each are needed, rewards as [n]")
        low, high = self.action_low.astype(float), self.action_high.astype(float)
        slack = ACTION_TOLERANCE * (high - low + np.maximum(np.abs(low), np.abs(high)))
        found = (
            outside("observation", s, self.observation_low, self.observation_high),
            outside("action", a, low - slack, high + slack),
            outside("reward", r, np.array([self.reward_low]), np.array([self.reward_high])),
            outside("next_observation", next_s, self.observation_low, self.observation_high),
        )
        with np.errstate(all="ignore"):
            a = np.clip((a - low) / np.where(high > low, high - low, 1.0) * 2.0 - 1.0, -1.0, 1.0)
            s, a, r, next_s = (x.astype(np.float32) for x in (s, a, r[:, 0], next_s))
        return (s, a, r, next_s), [next(filter(None, reasons), "") for reasons in zip(*found, strict=True)]

    def _evidence(self, state: PolicyState) -> tuple[Array, Array]:
        """The evidence to act upon, and of how many transitions: float32 [n, E] and [n]."""
        if self._window:  # the latest transitions, and logs until there is one
            began, latest = state.steps > 0, np.minimum(state.steps, self._window)
            total = np.where(began[:, None], state.episode, state.logs)
            return self._bounded(total, np.where(began, latest, state.logs_size))
        return self._bounded(state.logs + state.episode, state.logs_size + state.steps)

    def _bounded(self, total: Array, size: Array) -> tuple[Array, Array]:
        """Evidence of the same mean that counts as no more transitions than the largest context of training."""
        kept = np.minimum(size, self._most)
        return (total * (kept / np.maximum(size, 1.0))[:, None]).astype(np.float32), kept.astype(np.float32)

    def _misfits(self, s: Array, a: Array, r: Array, next_s: Array, m: Array) -> Array:
        """The mean over P's outputs of its squared errors, each in units of its mean on the logs: [n] float64."""
        return np.square(self.student.errors(s, a, r, next_s, m) / self._residuals).mean(axis=-1, dtype=np.float64)


def number_of(description: Description, arrays: Mapping[str, Array]) -> int:
    """A number that hardly two policies share."""
    digest = hashlib.sha256(repr(description).encode())
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return int.from_bytes(digest.digest()[:6], "big")


def running_mean(mean: Array, value: Array, count: Array) -> Array:
    """The mean of ``count`` values and one more, where no more than the latest few count."""
    return mean + (value - mean) / np.minimum(count + 1, MISFIT_WINDOW)


def _note(reasons: list[str], which: ArrayLike, reason: str) -> None:
    """Give a reason to those that have none yet."""
    for i in np.flatnonzero(which):
        reasons[i] = reasons[i] or reason
