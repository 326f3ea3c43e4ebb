"""Where collection and phase 1 run: in this process (`LOCAL`), or as tasks on a Ray cluster."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Engine:
    """Where collection and phase 1 run, and how many MDPs at a time."""

    engine: Literal["local", "ray"] = "local"
    """where collection and phase 1 run: in this process, or on a Ray cluster, whose nodes see OUT at the same path"""
    group: int = 0
    """MDPs to collect and to teach at a time, to bound memory, and in a task of --engine ray; 0: all, or as begun"""
    worker_cpus: int = 1
    """cores of each task of --engine ray"""
    worker_gpus: int = 0
    """GPUs of each task of --engine ray"""


LOCAL = Engine()
