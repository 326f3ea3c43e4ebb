"""Exported policies with random weights, of every kind that there is, made without any training."""

import itertools
from pathlib import Path

import numpy as np

from bmrl.runs.checkpoint import save_arrays
from bmrl.runs.storage import commit_directory
from bmrl.runtime.description import FORMAT, VERSION, Description
from bmrl.runtime.networks import Array

OBSERVATIONS, ACTIONS, MDPS, IDENTITY, LATENTS = 3, 2, 4, 5, 2
KINDS = ("value", "candidates", "trials", "mean", "latents", "window")


def random_policy(kind: str, seed: int = 0) -> tuple[Description, dict[str, Array]]:
    """A small policy, whose actions lie in [0, 40] and [-2, 3].

    ``value``: random shooting; ``candidates``: a deterministic learner's, proposed for train MDPs; ``trials``: the
    same, for the one train MDP that trials choose; ``mean``: the same, at the mean identity; ``latents``: with latents
    and corrections, and P foretells the next observation; ``window``: the latest two transitions count, and there is
    no posterior.
    """
    rng = np.random.default_rng(seed)
    s, a, m = OBSERVATIONS, ACTIONS, IDENTITY if kind != "window" else MDPS
    arrays: dict[str, Array] = {}

    def layers(name: str, *sizes: int) -> None:
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            arrays[f"{name}.{layer}.weight"] = rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in)
            arrays[f"{name}.{layer}.bias"] = rng.normal(size=fan_out) / 10

    for name, size in (("observations", s), ("context", 2 * s + a + 1), ("rewards", 1), ("values", 1)):
        arrays[f"statistics.{name}.mean"] = rng.normal(size=size)
        arrays[f"statistics.{name}.scale"] = rng.uniform(0.5, 2.0, size)
    pooling = {"window": "mean", "mean": "precision"}.get(kind, "posterior")
    layers("encoder", 2 * s + a + 1, 8, 2 * m if pooling == "precision" else MDPS)
    layers("auxiliary", s + a, 6)
    outputs = 1 + s if kind == "latents" else 1
    layers("prediction", 6 + m, outputs)
    if pooling == "posterior":
        arrays["embeddings"] = rng.normal(size=(MDPS, m))
    if kind == "trials":
        arrays["trials"] = rng.normal(size=(MDPS, MDPS))
    inputs = {"value": s + a}
    if kind in ("candidates", "trials", "latents"):
        inputs["candidate"] = s + (LATENTS if kind == "latents" else 0)
    elif kind == "mean":
        inputs["candidate"] = s
    else:
        arrays["draws.actions"] = rng.uniform(-1, 1, (100, a))
    if kind == "latents":
        inputs["correction"] = s + a
        arrays["draws.latents"] = rng.normal(size=(10, LATENTS)).clip(-0.5, 0.5)
    for name, size in inputs.items():
        layers(name, size, 8, 7, 1 if name == "value" else a)
        layers(f"{name}_modulation", m, 2 * (8 + 7))
    description = Description(
        family=None,
        variant="default",
        observation_low=[-4.0] * s,
        observation_high=[4.0] * s,
        reward_low=-10.0,
        reward_high=10.0,
        action_low=[0.0, -2.0],
        action_high=[40.0, 3.0],
        fallback=[10.0, 0.5],
        context_size=2 if kind == "window" else 16,
        window=kind == "window",
        pooling=pooling,
        labels=pooling == "posterior",
        trials=kind == "trials",
        max_correction=0.1 if kind == "latents" else 0.0,
        correction_identity=True,
        mean_action=kind == "mean",
        latent_clip=0.5,
        residuals=[1.0] * outputs,
        misfit_limits=[9.0, 5.0, 4.0],
    )
    return description, {name: array.astype(np.float32) for name, array in arrays.items()}


def write_policy(path: Path, kind: str = "latents") -> None:
    """Write one as `bmrl policy export` does."""
    description, arrays = random_policy(kind)
    manifest = {"format": FORMAT, "version": VERSION, **description._asdict()}
    commit_directory(path, lambda directory: save_arrays(directory, arrays), manifest)
