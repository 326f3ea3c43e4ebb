"""Batch meta-RL: from batches of many MDPs to one policy that acts zero-shot in unseen ones."""

from typing import TYPE_CHECKING

from bmrl.registration import announce

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Batch",
    "BmrlError",
    "Engine",
    "Experiment",
    "Family",
    "GymnasiumFamily",
    "Spec",
    "Targets",
    "Transition",
    "export_policy",
    "get_experiment",
    "get_family",
    "load_agent",
    "read_batches",
    "run",
    "run_episodes",
    "write_batch",
]

if TYPE_CHECKING:
    from bmrl.batch_rl import Algorithm, Targets
    from bmrl.data import Batch, read_batches, write_batch
    from bmrl.engine import Engine
    from bmrl.errors import BmrlError
    from bmrl.evaluate.rollout import run_episodes
    from bmrl.experiments import Experiment, get_experiment
    from bmrl.families import Family, GymnasiumFamily, get_family
    from bmrl.policy import export_policy
    from bmrl.types import Spec, Transition
    from bmrl.workflow import load_agent, run
else:

    def __getattr__(name):
        """A public name, imported when it is first asked for: `import bmrl` waits for no JAX."""
        match name:
            case "BmrlError":
                from bmrl import errors as module
            case "Engine":
                from bmrl import engine as module
            case "Spec" | "Transition":
                from bmrl import types as module
            case "Batch" | "read_batches" | "write_batch":
                from bmrl import data as module
            case "Family" | "GymnasiumFamily" | "get_family":
                from bmrl import families as module
            case "Experiment" | "get_experiment":
                from bmrl import experiments as module
            case "Algorithm" | "Targets":
                from bmrl import batch_rl as module
            case "export_policy":
                from bmrl import policy as module
            case "run" | "load_agent":
                from bmrl import workflow as module
            case "run_episodes":
                from bmrl.evaluate import rollout as module
            case _:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(module, name)

    def __dir__():
        return sorted({*globals(), *__all__})


announce()
