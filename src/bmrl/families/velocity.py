"""HalfCheetah and Hopper that must run at some velocity, which may be unknown (paper, section 5.2).

The bodies are Gymnasium's: its XML models, start states, observations and termination, and its physics unless a
family varies them. The reward is the paper's.
"""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from bmrl.families.base import Array, Family, Parameters, Simulator

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True)
class Body:
    """A robot with a root (x, z, angle) free in the x-z plane, as Gymnasium's v5 environments define it.

    Attributes:
        xml: file in Gymnasium's assets.
        frame_skip: simulation steps in one control step.
        position_noise: (rng, size) -> noise added to the positions at the start of an episode.
        velocity_noise: (rng, size) -> velocities at the start of an episode.
        velocity_clip: observed velocities are clipped to +- this.
        fallen: (qpos [n, nq], qvel [n, nv]) -> terminations [n] bool.
    """

    xml: str
    frame_skip: int
    position_noise: Callable[[np.random.Generator, int], Array]
    velocity_noise: Callable[[np.random.Generator, int], Array]
    velocity_clip: float
    fallen: Callable[[Array, Array], Array]


def never_falls(qpos: Array, qvel: Array) -> Array:
    """HalfCheetah has no terminal state."""
    return np.zeros(len(qpos), bool)


def hopper_fell(qpos: Array, qvel: Array) -> Array:
    """Torso too low or tilted (height in m, angle in rad), or any state but x and z beyond +-100."""
    healthy = (qpos[:, 1] > 0.7) & (np.abs(qpos[:, 2]) < 0.2)
    healthy &= (np.abs(qpos[:, 2:]) < 100).all(axis=1) & (np.abs(qvel) < 100).all(axis=1)
    return ~healthy


HALF_CHEETAH = Body(
    xml="half_cheetah.xml",
    frame_skip=5,
    position_noise=lambda rng, size: rng.uniform(-0.1, 0.1, size),
    velocity_noise=lambda rng, size: 0.1 * rng.standard_normal(size),
    velocity_clip=np.inf,
    fallen=never_falls,
)

HOPPER = Body(
    xml="hopper.xml",
    frame_skip=4,
    position_noise=lambda rng, size: rng.uniform(-5e-3, 5e-3, size),
    velocity_noise=lambda rng, size: rng.uniform(-5e-3, 5e-3, size),
    velocity_clip=10.0,
    fallen=hopper_fell,
)


NOMINAL: Parameters = {"mass": 1.0, "friction": 1.0, "damping": 1.0}  # Gymnasium's physics


def load_model(body: Body, mass: float = 1.0, friction: float = 1.0, damping: float = 1.0) -> "mujoco.MjModel":
    """Gymnasium's model of the body, with multiples of its physics.

    ``mass`` scales the masses and the inertias of all bodies, ``friction`` the sliding friction of all contacts,
    ``damping`` that of all joints.

    The file is found without importing `gymnasium.envs.mujoco`, which would ask for rendering packages.
    """
    import mujoco  # a fifth of a second, which listing the families should not cost

    gymnasium = find_spec("gymnasium")
    if gymnasium is None or gymnasium.origin is None:
        raise ModuleNotFoundError("gymnasium is not installed")
    assets = Path(gymnasium.origin).parent / "envs" / "mujoco" / "assets"
    spec = mujoco.MjSpec.from_file(str(assets / body.xml))
    # HalfCheetah's `settotalmass` is deprecated. `MjModel.from_xml_path` would say so in a MUJOCO_LOG.TXT in
    # the working directory; this way, which gives the same model, it is a Python warning.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*settotalmass", category=UserWarning)
        model = spec.compile()
    model.body_mass *= mass
    model.body_inertia *= mass
    model.geom_friction[:, 0] *= friction
    model.dof_damping *= damping
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what MuJoCo derives from masses, e.g. the weights of constraints
    return model


@final
@dataclass(frozen=True)
class VelocityFamily(Family):
    """R = alive_bonus - alpha |v - v*| - beta ||a||^2 (paper, section 5.2), v* = `target_velocity` in m/s.

    The parameters are `target_velocity` and those of `NOMINAL`, multiples of Gymnasium's physics.

    v is the displacement of the torso over the control step divided by its duration: ``infos["x_velocity"]``.
    The alive bonus is paid at every step, also at the one that falls (Gymnasium's own Hopper leaves it out
    there).

    Attributes:
        body: the robot.
        alive_bonus: paid at every step.
        alpha: weight of the velocity's error.
        beta: weight of the squared norm of the action.
        shared: the parameters that are the same in all MDPs, and so not in `bounds`.
    """

    body: Body
    alive_bonus: float
    alpha: float
    beta: float
    shared: Mapping[str, float]

    def target_velocity(self, parameters: Mapping[str, float | Array]) -> float | Array:
        """v* of one MDP, or of several at once, in m/s."""
        return {**self.shared, **parameters}["target_velocity"]

    def reward(
        self,
        parameters: Mapping[str, float | Array],
        observations: Array,
        actions: Array,
        next_observations: Array,
        infos: Mapping[str, Array],
    ) -> Array:
        """See the class; reads ``infos["x_velocity"]`` [...] in m/s."""
        error = np.abs(infos["x_velocity"] - np.asarray(self.target_velocity(parameters), np.float64))
        effort = np.square(actions).sum(axis=-1)
        rewards: Array = self.alive_bonus - self.alpha * error - self.beta * effort
        return rewards

    def simulator(self, mdps: Sequence[Parameters], seed: int, threads: int = 2) -> Simulator:
        """See `Family.simulator`; `threads` of them, at most one a slot."""
        return MujocoSimulator(self, mdps, seed, threads)

    def reference_returns(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """Of v = v* ("ideal", an upper bound) and v = 0 ("standing"), without effort and without falling."""
        cost = self.alpha * float(self.target_velocity(self.validate(parameters)))
        return {
            "ideal": self.horizon * self.alive_bonus,
            "standing": self.horizon * (self.alive_bonus - cost),
        }


@final
class MujocoSimulator(Simulator):
    """n robots; a control step is one `mujoco.rollout` of `frame_skip` simulation steps over a thread pool.

    The solver's warm start is zero at the first simulation step of a control step, and carried over only
    within it. `mujoco.rollout` does not give it back, so it could not be saved; with it zeroed, a control
    step is a function of (time, qpos, qvel, action) alone, hence equal to the last bit after a resume and
    whichever thread runs it. Gymnasium carries it over: there the solver starts elsewhere and ends at the
    same forces within its tolerance.

    Where the simulation becomes unstable (MuJoCo then resets it, and says so in a MUJOCO_LOG.TXT), the slot
    keeps the state from before the step and its episode is truncated; ``infos["invalid"]`` is 1 there and 0
    elsewhere. Such a transition is no sample of the MDP and belongs in no batch.
    """

    def __init__(self, family: VelocityFamily, mdps: Sequence[Parameters], seed: int, threads: int):
        import mujoco.rollout

        super().__init__(family, mdps, seed)
        self._body = family.body
        load = functools.cache(lambda *physics: load_model(self._body, *physics))  # slots may repeat an MDP
        physics = [{**family.shared, **family.validate(mdp)} for mdp in mdps]
        self._models = [load(*(mdp[name] for name in NOMINAL)) for mdp in physics]
        self._model = self._models[0]  # for what physics does not change
        threads = max(1, min(threads, self.n))
        # a pool of one thread is slower than none: 0 runs in the calling thread
        self._pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._data = [mujoco.MjData(self._model) for _ in range(threads)]
        # 4 chunks a thread: 10 to 20 % faster for 29 robots than MuJoCo's 10 chunks, and still balanced
        self._chunk = -(-self.n // (4 * threads))
        self._nq, self._nv = self._model.nq, self._model.nv
        size = mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        if size != 1 + self._nq + self._nv:
            raise NotImplementedError(f"{self._body.xml}: a state beyond (time, qpos, qvel)")
        self._states = np.zeros((self.n, size))  # (time, qpos, qvel) in float64
        self._rollout = np.zeros((self.n, self._body.frame_skip, size))
        self._control = np.zeros((self.n, self._body.frame_skip, self._model.nu))
        self._sensors = np.zeros((self.n, self._body.frame_skip, self._model.nsensordata))
        self._dt = self._model.opt.timestep * self._body.frame_skip

    def frames(self) -> Array:
        """The axis of every capsule of the body in (x, z); the ground is z = 0."""
        import mujoco

        capsules = np.flatnonzero(self._model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)
        half_lengths = self._model.geom_size[capsules, 1, None]
        data = self._data[0]
        segments = np.zeros((self.n, len(capsules), 2, 2), np.float32)
        for slot in range(self.n):
            data.qpos[:] = self._qpos[slot]
            mujoco.mj_kinematics(self._model, data)
            centres = data.geom_xpos[capsules]
            axes = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, :, 2]  # a capsule lies along its own z
            offsets = half_lengths * axes
            segments[slot] = np.stack([centres - offsets, centres + offsets], axis=1)[:, :, [0, 2]]
        return segments

    @property
    def _qpos(self) -> Array:
        return self._states[:, 1 : 1 + self._nq]

    @property
    def _qvel(self) -> Array:
        return self._states[:, 1 + self._nq :]

    def _physics(self) -> dict[str, Array]:
        return {"physics": self._states}

    def _begin(self, slot: int, rng: np.random.Generator) -> None:
        self._states[slot, 0] = 0.0
        self._qpos[slot] = self._model.qpos0 + self._body.position_noise(rng, self._nq)
        self._qvel[slot] = self._body.velocity_noise(rng, self._nv)

    def _observe(self) -> Array:
        clip = self._body.velocity_clip
        # without x: the MDP looks the same everywhere along the track
        return np.concatenate([self._qpos[:, 1:], self._qvel.clip(-clip, clip)], axis=1, dtype=np.float32)

    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        self._control[...] = actions[:, None, :]
        self._pool.rollout(
            self._models,
            self._data,
            self._states,
            self._control,
            skip_checks=True,
            nstep=self._body.frame_skip,
            state=self._rollout,
            sensordata=self._sensors,
            chunk_size=self._chunk,
        )
        after = self._rollout[:, -1]
        # an unstable simulation is reset by MuJoCo, and its clock with it
        invalid = np.abs(after[:, 0] - self._states[:, 0] - self._dt) > 0.5 * self._model.opt.timestep
        after = np.where(invalid[:, None], self._states, after)
        x_velocity = (after[:, 1] - self._states[:, 1]) / self._dt
        self._states[...] = after
        infos = {"x_velocity": x_velocity.astype(np.float32), "invalid": invalid.astype(np.float32)}
        return self._body.fallen(self._qpos, self._qvel) & ~invalid, invalid, infos


def _targets(*velocities: float) -> tuple[Parameters, ...]:
    return tuple({"target_velocity": velocity} for velocity in velocities)


HALF_CHEETAH_VELOCITY = VelocityFamily(
    name="halfcheetah-velocity",
    env_id="bmrl/HalfCheetahVelocity-v0",
    bounds={"target_velocity": (0.0, 1.5)},
    # 29 interior points of 30 equal segments: .05 ... 1.45; the test velocity 1.475 lies outside their hull
    train=_targets(*(round(0.05 * k, 2) for k in range(1, 30))),
    validation=_targets(0.225, 0.775, 1.225),
    test=_targets(0.475, 1.075, 1.475),
    horizon=200,
    observation_dim=17,
    action_dim=6,
    body=HALF_CHEETAH,
    info_names=("x_velocity",),
    alive_bonus=0.0,
    alpha=1.0,
    beta=0.05,
    shared=NOMINAL,
)

HOPPER_VELOCITY = VelocityFamily(
    name="hopper-velocity",
    env_id="bmrl/HopperVelocity-v0",
    bounds={"target_velocity": (0.0, 2.35)},
    train=_targets(*(round(0.15 * k, 2) for k in range(16))),  # 0 ... 2.25: the last segment is shorter
    validation=_targets(0.375, 0.975, 1.725),
    test=_targets(0.2, 1.1, 2.0),
    horizon=1000,
    observation_dim=11,
    action_dim=3,
    body=HOPPER,
    info_names=("x_velocity",),
    alive_bonus=1.0,
    alpha=1.0,
    beta=0.001,
    shared=NOMINAL,
)
