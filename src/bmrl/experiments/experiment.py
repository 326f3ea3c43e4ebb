"""The resolved configuration of a run."""

from dataclasses import dataclass, field
from typing import Literal

from bmrl.batch_rl.teach import TeachConfig
from bmrl.collect import CollectConfig, ControllerLogs
from bmrl.distill.distill import DistillConfig
from bmrl.types import ABLATION

Scale = Literal["smoke", "laptop", "paper"]


@dataclass(frozen=True)
class Experiment:
    """Everything that a run does; the resolved config of a run directory is this, as JSON.

    Attributes:
        family: the name of the family of MDPs; empty where there are logs alone.
        seed: of all that is random.
        collect: how the batches are collected, where there are none.
        teach: phase 1, the learners by variant: "default", and "paper" where the paper has others.
        distill: phase 2, a student for each variant: "default", and "paper" as the paper has it.
        episodes: test episodes in each MDP.
        checkpoint_seconds: between two checkpoints of an unfinished stage.
        controllers: where the batches are not SAC's replay buffers but logs of ordinary controllers, whose.
        family_sha256: of the file that a family of one's own is in.
    """

    family: str
    seed: int
    collect: CollectConfig
    teach: dict[str, TeachConfig]
    distill: dict[str, DistillConfig]
    episodes: int
    checkpoint_seconds: float
    controllers: ControllerLogs | None = field(default=None, metadata=ABLATION)
    family_sha256: str | None = field(default=None, metadata=ABLATION)

    @property
    def logs_alone(self) -> bool:
        """Whether there are logs, and no environment to collect or to test in."""
        return not self.family

    def learners(self, variant: str) -> str:
        """The variant whose learners a variant's student is distilled from."""
        return variant if variant in self.teach else "default"
