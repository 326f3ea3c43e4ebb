"""HalfCheetah whose body and ground differ from MDP to MDP (the paper's future work: transitions that vary).

One multiple each scales all masses, the friction with the ground and the damping of all joints. The intervals lie
within those of the benchmark of meta-RL that varies the same physics (Rakelly et al. 2019: 1.5 to the power of -3 ... 3
for masses and friction, 1.3 for damping, uniform in the exponent). What is best in one corner fails in another: a gait
that BCQ learned at 1 m/s in Gymnasium's own physics returns -45 there, -201 with twice the mass, -166 with twice the
damping and -100 with three times the friction; standing still returns -200.
"""

from collections.abc import Mapping

from bmrl.families.base import Parameters, place
from bmrl.families.velocity import HALF_CHEETAH, NOMINAL, VelocityFamily

PHYSICS = {"mass": (0.5, 2.0), "friction": (0.3, 3.0), "damping": (0.5, 2.0)}
VELOCITY = {"target_velocity": (0.5, 1.5)}
TRAIN, VALIDATION, TEST = range(1, 17), range(17, 19), range(19, 23)  # places in the sequence of MDPs


def halton(index: int, base: int) -> float:
    """The radical inverse in [0, 1): the digits of ``index`` in that base, mirrored at the point (Halton 1960)."""
    value, digit_value = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        digit_value /= base
        value += digit * digit_value
    return value


def _spread(bounds: Mapping[str, tuple[float, float]], indices: range) -> tuple[Parameters, ...]:
    """MDPs of Halton's sequence, which fills the bounds evenly however many are taken, rounded to two digits."""
    points = [[halton(i, base) for base in (2, 3, 5, 7)[: len(bounds)]] for i in indices]
    mdps = [place(bounds, tuple(NOMINAL), point) for point in points]
    return tuple({name: round(value, 2) for name, value in mdp.items()} for mdp in mdps)


def _family(name: str, env_id: str, bounds: Mapping[str, tuple[float, float]], shared: Parameters) -> VelocityFamily:
    return VelocityFamily(
        name=name,
        env_id=env_id,
        bounds=bounds,
        train=_spread(bounds, TRAIN),
        validation=_spread(bounds, VALIDATION),
        test=_spread(bounds, TEST),
        horizon=200,
        observation_dim=17,
        action_dim=6,
        body=HALF_CHEETAH,
        logarithmic=tuple(NOMINAL),
        transitions_vary=True,
        info_names=("x_velocity",),
        alive_bonus=0.0,
        alpha=1.0,
        beta=0.05,
        shared=shared,
    )


HALF_CHEETAH_DYNAMICS = _family(
    "halfcheetah-dynamics", "bmrl/HalfCheetahDynamics-v0", PHYSICS, shared={"target_velocity": 1.0}
)

HALF_CHEETAH_VELOCITY_DYNAMICS = _family(
    "halfcheetah-velocity-dynamics", "bmrl/HalfCheetahVelocityDynamics-v0", VELOCITY | PHYSICS, shared={}
)
