"""The Gymnasium environment of one MDP: a simulator of one slot, so that both agree to the last bit."""

from typing import Any, final

import gymnasium
import numpy as np

from bmrl.errors import BmrlError
from bmrl.families import get_family
from bmrl.families.base import Array, Simulator


@final
class FamilyEnv(gymnasium.Env[Array, Array]):
    """One MDP of a family; `bmrl` registers it under the family's `env_id`.

    Observations [d_s] and actions [d_a] in [-1, 1] are float32. The infos of `step` are the simulator's.

    Args:
        family: its name; of a user's own FILE.py:NAME.
        sha256: of the file that a user's own family must be of. It is part of the environment's specification, so that
            a Minari dataset recovers its MDP and no other file's.
        render_mode: nothing is drawn.
        parameters: the MDP's.

    Raises:
        BmrlError: unknown family, one of another file, or parameters that `Family.validate` refuses.
    """

    def __init__(self, family: str, sha256: str | None = None, render_mode: None = None, **parameters: float):
        self.render_mode = render_mode
        self._family = get_family(family, sha256)
        self._mdp = self._family.validate(parameters)
        shape = (self._family.observation_dim,)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self._family.action_dim,), np.float32)
        self._simulator: Simulator | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts an episode; a seed begins the sequence of start states anew. There are no options."""
        super().reset(seed=seed)
        if self._simulator is None or seed is not None:
            start_seed = int(self.np_random.integers(2**31))
            self._simulator = self._family.simulator([self._mdp], start_seed, threads=1)
        return self._simulator.reset()[0], {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One step of the simulator.

        Raises:
            BmrlError: an action of a wrong shape, not finite or outside [-1, 1], or `reset` was not called.
        """
        if self._simulator is None:
            raise BmrlError(f"{self._family.name}: reset the environment before its first step")
        step = self._simulator.step(np.asarray(action)[None])
        infos = {name: float(values[0]) for name, values in step.infos.items()}
        return (
            step.observations[0],
            float(step.rewards[0]),
            bool(step.terminations[0]),
            bool(step.truncations[0]),
            infos,
        )
