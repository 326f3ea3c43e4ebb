"""The locomotion families of section 5.2 (figure 3): a robot that is asked for one of many speeds."""

from dataclasses import replace

from bmrl.batch_rl import BCQ, SAC, TD3BC
from bmrl.batch_rl.teach import Logs, TeachConfig
from bmrl.collect import CollectConfig
from bmrl.distill.contexts import PAPER, ContextConfig
from bmrl.distill.distill import DistillConfig
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.distill.student import StudentConfig
from bmrl.experiments.experiment import Experiment, Scale

# A laptop's sizes: the teachers are a fifth of the paper's, the student's networks shallower.
LAPTOP_SAC = SAC(hidden=(128, 128), batch_size=64)
LAPTOP_TD3BC = TD3BC(hidden=(128, 128), batch_size=64, learning_rate=1e-3)
LAPTOP_BCQ = BCQ(critic_hidden=(128, 128), generator_hidden=(128, 128), batch_size=64, learning_rate=1e-3)
LAPTOP_STUDENT = StudentConfig(
    identity_dim=32,
    pooling="posterior",
    encoder_hidden=(256, 256),
    auxiliary_hidden=(256,),
    auxiliary_dim=64,
    prediction_hidden=(32,),
    value_hidden=(256, 256, 256),
    candidate_hidden=(384, 384, 384),
    correction_hidden=(128, 128),
)


def halfcheetah_velocity(scale: Scale, seed: int) -> Experiment:
    """29 velocities in [0, 1.5], 60,000 transitions each."""
    # Appendix B
    paper_student = StudentConfig(
        identity_dim=64,
        pooling="posterior",
        encoder_hidden=(512,) * 7,
        auxiliary_hidden=(512,) * 7,
        auxiliary_dim=64,
        prediction_hidden=(64,),
        value_hidden=(512,) * 8,
        candidate_hidden=(750,) * 7,
        correction_hidden=(400,) * 7,
    )
    transitions, updates = {"smoke": (400, 20), "laptop": (60_000, 20_000), "paper": (60_000, 1_000_000)}[scale]
    return _velocity(
        "halfcheetah-velocity",
        scale,
        seed,
        transitions,
        updates,
        paper_student,
        paper_batch=64,
        logs="both",  # a gait that few episodes of a log show is shown in its neighbours' logs
    )


def hopper_velocity(scale: Scale, seed: int) -> Experiment:
    """16 velocities in [0, 2.35], 1,000,000 transitions each at the paper's scale."""
    # Appendix B, which does not give the sizes of G_S and xi_S: they are Q_S's here
    paper_student = StudentConfig(
        identity_dim=8,
        pooling="posterior",
        encoder_hidden=(256,) * 3,
        auxiliary_hidden=(16,) * 4,
        auxiliary_dim=8,
        prediction_hidden=(4, 4),
        value_hidden=(128,) * 8,
        candidate_hidden=(128,) * 8,
        correction_hidden=(128,) * 8,
    )
    transitions, updates = {"smoke": (400, 20), "laptop": (300_000, 40_000), "paper": (1_000_000, 1_000_000)}[scale]
    return _velocity(
        "hopper-velocity",
        scale,
        seed,
        transitions,
        updates,
        paper_student,
        paper_batch=32,
        best=0.3,  # most of what SAC logs are falls,
        logs="shared",  # and in some MDPs it logs nothing else
    )


def _velocity(
    family: str,
    scale: Scale,
    seed: int,
    transitions: int,
    updates: int,
    paper_student: StudentConfig,
    *,
    paper_batch: int,
    logs: Logs,
    best: float = 1.0,
) -> Experiment:
    laptop = scale != "paper"
    teach = {
        "default": TeachConfig(LAPTOP_TD3BC if laptop else TD3BC(), 2 * updates, best, logs),
        "paper": TeachConfig(LAPTOP_BCQ if laptop else BCQ(), updates),
    }
    steps = {"smoke": 20, "laptop": 60_000, "paper": 500_000}[scale]
    default = DistillConfig(
        LAPTOP_STUDENT if laptop else paper_student,
        ContextConfig(size=16),
        updates=steps,
        contexts=16,
        queries=16,
        learning_rate=1e-3 if laptop else 3e-4,
        reward_model=RewardModelConfig(updates=min(steps, 5000)),
    )
    paper = replace(
        default,
        student=replace(default.student, pooling="mean"),
        context=PAPER,
        contexts=paper_batch,
        queries=1,
        learning_rate=3e-4,
        decay=False,
    )
    return Experiment(
        family=family,
        seed=seed,
        collect=CollectConfig(
            transitions=transitions, warmup=min(1000, transitions // 2), sac=LAPTOP_SAC if laptop else SAC()
        ),
        teach=teach,
        distill={"default": default, "paper": paper},
        episodes=2 if scale == "smoke" else 25,
        checkpoint_seconds=0.0 if scale == "smoke" else 60.0,
    )
