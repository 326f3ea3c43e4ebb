"""The toy of section 5.1 (figure 2): a point mass that is asked for one of three goals."""

from dataclasses import replace

from bmrl.batch_rl import SAC
from bmrl.batch_rl.teach import TeachConfig
from bmrl.collect import CollectConfig
from bmrl.distill.contexts import PAPER, ContextConfig
from bmrl.distill.distill import DistillConfig
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.distill.student import StudentConfig
from bmrl.experiments.experiment import Experiment, Scale


def point_goal(scale: Scale, seed: int) -> Experiment:
    """Three goals to train on and to test on, Batch SAC in phase 1, a value alone to distil."""
    size = {"smoke": 0, "laptop": 1, "paper": 2}[scale]
    student = StudentConfig(
        identity_dim=32,
        pooling="posterior",
        encoder_hidden=(128, 128),
        auxiliary_hidden=(64,),
        auxiliary_dim=32,
        prediction_hidden=(32,),
        value_hidden=(256, 256, 256),
    )
    default = DistillConfig(
        student,
        ContextConfig(size=8),
        updates=(40, 24_000, 100_000)[size],
        contexts=32,
        queries=16,
        queries_everywhere=True,
        reward_model=RewardModelConfig(hidden=(128, 128), updates=(100, 3000, 20_000)[size]),
    )
    # Appendix B: f, E and P with one hidden layer of 256, Q_S with two, an identity of 32.
    paper = replace(
        default,
        student=replace(
            student,
            pooling="mean",
            encoder_hidden=(256,),
            value_hidden=(256, 256),
            auxiliary_hidden=(256,),
            auxiliary_dim=256,
            prediction_hidden=(256,),
        ),
        context=PAPER,
        updates=(40, 20_000, 100_000)[size],
        contexts=128,
        queries=1,
        queries_everywhere=False,
        learning_rate=3e-4,
        decay=False,
    )
    sac = SAC(hidden=(128, 128), batch_size=128, learning_rate=1e-3) if scale != "paper" else SAC()
    # At the usual -1 the entropy bonus keeps the mean action from saturating, which costs about 1 of the optimal -45.
    teach = TeachConfig(replace(sac, target_entropy=-2.0), updates=(40, 16_000, 50_000)[size])
    return Experiment(
        family="point-goal",
        seed=seed,
        collect=CollectConfig(
            transitions=(200, 5000, 20_000)[size],
            warmup=(100, 2000, 8000)[size],
            warmup_hold=5,
            sac=sac,
        ),
        teach={"default": teach},
        distill={"default": default, "paper": paper},
        episodes=(2, 25, 25)[size],
        checkpoint_seconds=0.0 if scale == "smoke" else 60.0,
    )
