"""Configurations in which the baselines of figures 2 and 3 are tried."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from bmrl.baselines.contextual_sac import ContextualSAC
from bmrl.batch_rl import SAC, Cloning
from bmrl.batch_rl.teach import TeachConfig
from bmrl.distill.distill import DistillConfig
from bmrl.experiments.experiment import Experiment, Scale

Configuration: TypeAlias = TeachConfig | DistillConfig | ContextualSAC

Choices: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Of each field that is tried, the values; ``updates`` are in multiples of the preset's."""

PAPER = "tiMe (paper)"
# Contextual SAC's contexts, by the variant of tiMe that draws its own so.
SAMPLING = {"paper": "paper contexts", "default": "tiMe contexts"}
CONTEXTUAL_SAC = {variant: f"contextual SAC ({name})" for variant, name in SAMPLING.items()}
PEARL_LATENTS = 5  # of PEARL's z in all of its experiments

NETWORKS = ((128, 128), (256, 256))
RATES = (1e-4, 3e-4, 1e-3)

SAC_OF_ALL: Choices = {
    "updates": (0.5, 1, 2),
    "batch_size": (64, 128, 256),
    "hidden": NETWORKS,
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "target_entropy": (-1.0, -2.0, -4.0),
}
# its minibatches are of each MDP
CONTEXTUAL: Choices = {
    **SAC_OF_ALL,
    "batch_size": (32, 64, 128),
    "latent_dim": (2, 5, 32),
    "queries": (1, 16),
    "encoder_hidden": NETWORKS,
}
POOLED: Choices = {"updates": (1, 2, 4), "best": (0.3, 1.0), "batch_size": (64, 256), "learning_rate": RATES}
ROBOTS: dict[str, Choices] = {
    "pooled (TD3BC)": {**POOLED, "hidden": NETWORKS, "greed": (1.0, 2.5, 10.0)},
    "pooled (BCQ)": {**POOLED, "critic_hidden": NETWORKS, "generator_hidden": NETWORKS, "candidates": (1, 10, 100)},
    "behaviour cloning": {**POOLED, "hidden": (*NETWORKS, (512, 512))},
    PAPER: {
        "updates": (1, 2),
        "learning_rate": RATES,
        "decay": (False, True),
        "contexts": (16, 32, 64),
        "queries": (1, 4),
    },
}
BASELINES: dict[str, dict[str, Choices]] = {
    "point-goal": {"pooled": SAC_OF_ALL, **dict.fromkeys(CONTEXTUAL_SAC.values(), CONTEXTUAL)},
    "halfcheetah-velocity": ROBOTS,
    "hopper-velocity": ROBOTS,
}

# The field of a configuration that is its algorithm's.
ALGORITHM: Mapping[type, str] = {TeachConfig: "algorithm", ContextualSAC: "sac"}

# The best of docs/results/baselines, by family and method.
CHOSEN: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("point-goal", CONTEXTUAL_SAC["paper"]): {
        "updates": 2,
        "batch_size": 64,
        "hidden": (128, 128),
        "learning_rate": 3e-4,
        "target_entropy": -4.0,
        "latent_dim": 32,
        "queries": 16,
        "encoder_hidden": (256, 256),
    },
    ("point-goal", CONTEXTUAL_SAC["default"]): {
        "updates": 1,
        "batch_size": 128,
        "hidden": (128, 128),
        "learning_rate": 3e-3,
        "target_entropy": -4.0,
        "latent_dim": 2,
        "queries": 1,
        "encoder_hidden": (256, 256),
    },
    ("halfcheetah-velocity", "pooled (TD3BC)"): {
        "updates": 1,
        "best": 1.0,
        "batch_size": 256,
        "learning_rate": 1e-4,
        "hidden": (256, 256),
        "greed": 10.0,
    },
    ("halfcheetah-velocity", "pooled (BCQ)"): {
        "updates": 4,
        "best": 1.0,
        "batch_size": 64,
        "learning_rate": 3e-4,
        "critic_hidden": (256, 256),
        "generator_hidden": (256, 256),
        "candidates": 10,
    },
    ("halfcheetah-velocity", "behaviour cloning"): {
        "updates": 2,
        "best": 0.3,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "hidden": (256, 256),
    },
    ("halfcheetah-velocity", PAPER): {
        "updates": 1,
        "learning_rate": 3e-4,
        "decay": True,
        "contexts": 64,
        "queries": 4,
    },
    ("hopper-velocity", "pooled (TD3BC)"): {
        "updates": 4,
        "best": 1.0,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "hidden": (128, 128),
        "greed": 1.0,
    },
    ("hopper-velocity", "pooled (BCQ)"): {
        "updates": 4,
        "best": 0.3,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "critic_hidden": (128, 128),
        "generator_hidden": (256, 256),
        "candidates": 100,
    },
    ("hopper-velocity", "behaviour cloning"): {
        "updates": 4,
        "best": 0.3,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "hidden": (256, 256),
    },
    ("hopper-velocity", PAPER): {
        "updates": 2,
        "learning_rate": 1e-3,
        "decay": False,
        "contexts": 64,
        "queries": 1,
    },
}


def tries(experiment: Experiment, method: str, count: int) -> list[Configuration]:
    """A baseline's preset and configurations at random, all different, the same for every seed.

    The values of a field come in random order, each once before any comes again, so that few configurations have all
    of them. Fewer configurations are the first of more.
    """
    base = preset(experiment, method)
    fields = {
        name: _in_turn(values, f"{experiment.family} {method} {name}")
        for name, values in BASELINES[experiment.family][method].items()
    }
    found = [base]
    while len(found) < count:
        config = configured(base, {name: next(values) for name, values in fields.items()})
        if config not in found:
            found.append(config)
    return found


def _in_turn(values: Sequence[Any], name: str) -> Iterator[Any]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    while True:
        yield from (values[k] for k in rng.permutation(len(values)))


def preset(experiment: Experiment, method: str) -> Configuration:
    """A baseline untried: of phase 1's sizes, or of the paper's variant. Of logs it sees what phase 1 would by itself.

    Raises KeyError for a method that the experiment's family has not.
    """
    default = replace(experiment.teach["default"], logs="own")
    if experiment.family == "point-goal":
        variants = {name: variant for variant, name in CONTEXTUAL_SAC.items()}
        return default if method == "pooled" else _contextual_sac(experiment, variants[method])
    robots: dict[str, Configuration] = {
        "pooled (TD3BC)": default,
        "pooled (BCQ)": replace(experiment.teach["paper"], logs="own"),
        "behaviour cloning": replace(default, algorithm=Cloning()),
        PAPER: experiment.distill["paper"],
    }
    return robots[method]


def _contextual_sac(experiment: Experiment, variant: str) -> ContextualSAC:
    """Contextual SAC with contexts drawn as for a variant of tiMe: the pooled SAC's networks, and tiMe's f."""
    pooled, distill = experiment.teach["default"].algorithm, experiment.distill[variant]
    assert isinstance(pooled, SAC)
    student = experiment.distill["default"].student
    return ContextualSAC(
        # Half a minibatch of each of the three MDPs: half again as much as the pooled agent reads at an update.
        sac=replace(pooled, batch_size=pooled.batch_size // 2),
        context=distill.context,
        queries=distill.queries,
        encoder_hidden=student.encoder_hidden,
        latent_dim=PEARL_LATENTS,
        reward_model=distill.reward_model,
        updates=experiment.teach["default"].updates,
    )


def chosen(experiment: Experiment, method: str, scale: Scale) -> Configuration:
    """A baseline as the figures have it: the best of its configurations at laptop scale, where they were tried."""
    base = preset(experiment, method)
    return configured(base, CHOSEN[experiment.family, method]) if scale == "laptop" else base


def configured(base: Configuration, values: Mapping[str, Any]) -> Configuration:
    """The configuration with these values; its algorithm has those of which it has no field itself."""
    own: dict[str, Any] = {name: value for name, value in values.items() if hasattr(base, name)}
    own["updates"] = round(own["updates"] * base.updates)
    if of_algorithm := {name: value for name, value in values.items() if name not in own}:
        field = ALGORITHM[type(base)]
        own[field] = replace(getattr(base, field), **of_algorithm)
    return replace(base, **own)


def value(config: Configuration, name: str) -> Any:
    """What `configured` sets."""
    return getattr(config if hasattr(config, name) else getattr(config, ALGORITHM[type(config)]), name)
