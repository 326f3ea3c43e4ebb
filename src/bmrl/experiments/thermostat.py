"""Houses logged by ordinary thermostats: both the rewards and the transitions vary, and nobody explored."""

from bmrl.batch_rl import SAC, SVG
from bmrl.batch_rl.teach import TeachConfig
from bmrl.collect import CollectConfig, ControllerLogs
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.distill import DistillConfig
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.distill.student import StudentConfig
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families.thermostat import HELD, INDOOR, INDOOR_DAMPED, OUTPUT


def thermostat(scale: Scale, seed: int) -> Experiment:
    """48 houses, a year of heating weeks each."""
    size = {"smoke": 0, "laptop": 1, "paper": 2}[scale]
    student = StudentConfig(
        identity_dim=32,
        pooling="precision",
        encoder_hidden=(128, 128),
        auxiliary_hidden=(128,),
        auxiliary_dim=32,
        prediction_hidden=(32,),
        value_hidden=(256, 256),
        candidate_hidden=(256, 256),
        mean_action=True,
    )
    default = DistillConfig(
        student,
        ContextConfig(size=(16, 192, 192)[size]),
        updates=(20, 20_000, 100_000)[size],
        contexts=16,
        queries=16,
        predict_next=True,
        # Nearly all contexts are another house's, relabelled: where the model is coarse, f comes to know houses by its
        # errors, which no real house makes.
        reward_model=RewardModelConfig(updates=(20, 30_000, 60_000)[size], next_observations=True),
    )
    # SVG's discount of .995 looks two days ahead. One of .99 puts off heating: a planner that discounts so loses a
    # quarter of what planning gains.
    learner = SVG(
        window=(24, 96, 96)[size],
        model_updates=(20, 3000, 6000)[size],
        policy_updates=(20, 700, 1400)[size],
        moved=(INDOOR, INDOOR_DAMPED, OUTPUT, HELD),
    )
    return Experiment(
        family="thermostat",
        seed=seed,
        # What SAC could try on a house; nothing is learned from it here.
        collect=CollectConfig(
            transitions=(300, 28_800, 100_000)[size],
            warmup=(150, 1000, 1000)[size],
            warmup_hold=4,
            sac=SAC(hidden=(128, 128), batch_size=128, learning_rate=1e-3, discount=0.995),
        ),
        controllers=ControllerLogs(weeks=(3, 52, 52)[size]),
        teach={"default": TeachConfig(learner, learner.updates)},
        distill={"default": default},
        episodes=(1, 6, 10)[size],
        checkpoint_seconds=0.0 if scale == "smoke" else 60.0,
    )
