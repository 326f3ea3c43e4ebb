"""Batch meta-RL: from batches of many MDPs to one policy that acts zero-shot in unseen ones."""

import gymnasium

__version__ = "0.1.0"

# Here, so that gymnasium.make("bmrl:bmrl/...") finds them. By name only: importing bmrl imports no family.
for _env_id, _family, _horizon in (
    ("bmrl/PointGoal-v0", "point-goal", 20),
    ("bmrl/HalfCheetahVelocity-v0", "halfcheetah-velocity", 200),
    ("bmrl/HopperVelocity-v0", "hopper-velocity", 1000),
    ("bmrl/HalfCheetahDynamics-v0", "halfcheetah-dynamics", 200),
    ("bmrl/HalfCheetahVelocityDynamics-v0", "halfcheetah-velocity-dynamics", 200),
    ("bmrl/Thermostat-v0", "thermostat", 672),
):
    gymnasium.register(
        id=_env_id,
        entry_point="bmrl.families.env:FamilyEnv",
        max_episode_steps=_horizon,
        kwargs={"family": _family},
    )
