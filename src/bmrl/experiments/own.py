"""A family of one's own: sizes for a problem that nobody knows yet."""

from dataclasses import replace

from bmrl.experiments.experiment import Experiment, Scale
from bmrl.experiments.velocity import halfcheetah_velocity


def own_family(scale: Scale, seed: int) -> Experiment:
    """The robots' learner and student, which assume least: TD3+BC, contexts whose rewards and next observations vary.

    The family is named by ``--family``; without one there are logs alone. Few transitions at first: 20,000 an MDP at
    laptop scale.
    """
    robots = halfcheetah_velocity(scale, seed)
    transitions, warmup = {"smoke": (400, 200), "laptop": (20_000, 2000), "paper": (60_000, 5000)}[scale]
    default = replace(
        robots.distill["default"],
        updates={"smoke": 20, "laptop": 30_000, "paper": 500_000}[scale],
        predict_next=True,
        reward_model=replace(robots.distill["default"].reward_model, next_observations=True),
    )
    return replace(
        robots,
        family="",
        collect=replace(robots.collect, transitions=transitions, warmup=warmup),
        # Shared logs would need MDPs with the same transitions.
        teach={"default": replace(robots.teach["default"], logs="own")},
        distill={"default": default},
    )
