"""HalfCheetahs whose physics differ, alone or with the velocity asked for: transitions vary, and so the rewards."""

from dataclasses import replace

from bmrl.experiments.experiment import Experiment, Scale
from bmrl.experiments.velocity import halfcheetah_velocity


def halfcheetah_dynamics(scale: Scale, seed: int) -> Experiment:
    """16 bodies and grounds, one target velocity."""
    return _dynamics("halfcheetah-dynamics", scale, seed)


def halfcheetah_velocity_dynamics(scale: Scale, seed: int) -> Experiment:
    """16 bodies, grounds and target velocities."""
    return _dynamics("halfcheetah-velocity-dynamics", scale, seed)


def _dynamics(family: str, scale: Scale, seed: int) -> Experiment:
    """HalfCheetah's sizes. The students differ in what P predicts: r and s' (Algorithm 1), or r alone.

    The contexts of both are other MDPs' transitions with the r and the s' that this MDP would have given. Shown its own
    batch, f learns the gait that the batch was logged with, which at test is not its own, instead of the physics.
    """
    experiment = halfcheetah_velocity(scale, seed)
    like = experiment.distill["default"]
    default = replace(
        like,
        updates={"smoke": 20, "laptop": 40_000, "paper": 500_000}[scale],
        predict_next=True,
        student=replace(like.student, trials=True),
        # Contexts tell the MDPs apart, and trials the learners, as well as the model does
        reward_model=replace(like.reward_model, updates={"smoke": 20}.get(scale, 40_000), next_observations=True),
    )
    students = {"default": default, "reward-only": replace(default, predict_next=False)}
    # Shared logs would need MDPs with the same transitions.
    teach = {"default": replace(experiment.teach["default"], logs="own")}
    return replace(experiment, family=family, teach=teach, distill=students)
