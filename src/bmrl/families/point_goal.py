"""Point-goal: a point mass must reach a goal it cannot observe (paper, section 5.1)."""

import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from bmrl.families.base import Array, Family, Parameters, Simulator

RADIUS = 10.0  # of the semicircle the goals lie on; its centre, the origin, is where every episode starts
CROSS = 0.4  # half the size of the goal's cross in an animation


def goals(angles: float | Array) -> Array:
    """Positions [..., 2] of the goals at the angles [...] in radians."""
    return RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


@final
class PointGoalFamily(Family):
    """Observation (x, y), action (dx, dy) added to it, reward minus the distance to the goal.

    The distance is taken *after* the move: before it, the first transition would say nothing about the MDP,
    since every goal is 10 away from the start.
    """

    def reward(
        self,
        parameters: Mapping[str, float | Array],
        observations: Array,
        actions: Array,
        next_observations: Array,
        infos: Mapping[str, Array],
    ) -> Array:
        """Minus the distance between the next position and the goal; ``infos`` may be empty."""
        distance: Array = np.linalg.norm(next_observations - goals(parameters["goal_angle"]), axis=-1)
        return -distance

    def simulator(self, mdps: Sequence[Parameters], seed: int, threads: int = 2) -> Simulator:
        """See `Family.simulator`; the dynamics are one addition, so `threads` is not used."""
        return PointGoalSimulator(self, mdps, seed)

    def figures(self, observations: Array, rewards: Array, infos: Mapping[str, Array]) -> dict[str, Array]:
        """How far from the goal each episode ended."""
        return {"final_distance": -rewards[:, -1].astype(np.float64)}

    def reference_returns(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """Of the "optimal" controller (-45 on an axis) and of "standing" still.

        Optimal is each coordinate going to the goal's at full speed: after the same number of moves, no
        controller is closer in either coordinate.
        """
        goal = np.abs(goals(self.validate(parameters)["goal_angle"]))
        left = np.maximum(goal - np.arange(1, self.horizon + 1)[:, None], 0.0)
        return {"optimal": -float(np.linalg.norm(left, axis=-1).sum()), "standing": -RADIUS * self.horizon}


@final
class PointGoalSimulator(Simulator):
    """Point masses on the plane, all starting at the origin: there is no randomness."""

    def __init__(self, family: PointGoalFamily, mdps: Sequence[Parameters], seed: int):
        super().__init__(family, mdps, seed)
        self._positions = np.zeros((self.n, 2), np.float32)
        self._previous = np.zeros((self.n, 2), np.float32)  # only drawn

    def frames(self) -> Array:
        """The last move, then the two strokes of the goal's cross: 3 segments in (x, y)."""
        move = np.stack([self._previous, self._positions], axis=1)
        goal = goals(self._parameters["goal_angle"])[:, None, None, :]
        strokes = CROSS * np.array([[[-1, -1], [1, 1]], [[-1, 1], [1, -1]]])
        return np.concatenate([move[:, None], goal + strokes], axis=1).astype(np.float32)

    def _physics(self) -> dict[str, Array]:
        return {"positions": self._positions, "previous": self._previous}

    def _begin(self, slot: int, rng: np.random.Generator) -> None:
        self._positions[slot] = self._previous[slot] = 0.0

    def _observe(self) -> Array:
        return self._positions.copy()

    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        self._previous[...] = self._positions
        self._positions += actions
        never = np.zeros(self.n, bool)
        return never, never, {}


_GOALS: tuple[Parameters, ...] = tuple({"goal_angle": angle} for angle in (0.0, math.pi / 2, math.pi))

POINT_GOAL = PointGoalFamily(
    name="point-goal",
    env_id="bmrl/PointGoal-v0",
    bounds={"goal_angle": (0.0, math.pi)},
    train=_GOALS,
    validation=({"goal_angle": math.pi / 4}, {"goal_angle": 3 * math.pi / 4}),
    test=_GOALS,
    test_is_train=True,  # the paper's toy asks to infer the identity, not to generalise over goals
    horizon=20,
    observation_dim=2,
    action_dim=2,
)
