"""Small students with random weights, of every kind that is distilled, and the policies that they become."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from networks import reference

from bmrl.distill.student import Statistics, Student, StudentConfig
from bmrl.networks import Normaliser
from bmrl.policy import student_arrays
from bmrl.runtime import Policy
from bmrl.runtime.description import Description
from bmrl.types import Spec

SPEC, MDPS = Spec(3, 2), 4
CONFIG = StudentConfig(5, "posterior", (8, 7), (6,), 4, (3,), (8, 7), (8,), (6,))


def kind(config=CONFIG, latent_dim=None, bound=0.0, predict_next=False, size=4, window=False):
    """Of students: how `make` makes them, and of which contexts."""
    return {"config": config, "sizes": (latent_dim, bound, predict_next), "context": (size, window)}


MEAN = dataclasses.replace(CONFIG, pooling="mean")
PRECISION = dataclasses.replace(CONFIG, pooling="precision")
BY_TRIALS = dataclasses.replace(CONFIG, trials=True)
AT_MEAN = dataclasses.replace(CONFIG, mean_action=True)
KINDS = {
    "a value alone": kind(),
    "a value alone, of the latest": kind(MEAN, size=1, window=True),
    "deterministic candidates": kind(latent_dim=0),
    "candidates and corrections": kind(latent_dim=2, bound=0.3, predict_next=True),
    "of the latest two": kind(MEAN, latent_dim=2, bound=0.3, size=2, window=True),
    "without labels": kind(dataclasses.replace(CONFIG, labels=False), latent_dim=2),
    "by trials": kind(BY_TRIALS, latent_dim=0),
    "by trials, corrected": kind(BY_TRIALS, latent_dim=2, bound=0.3),
    "at the mean identity": kind(AT_MEAN, latent_dim=0),
    "of Gaussians": kind(PRECISION, latent_dim=2, bound=0.3),
    "of Gaussians, of the latest two": kind(PRECISION, latent_dim=0, size=2, window=True),
    "at the mean identity, corrected": kind(AT_MEAN, latent_dim=2, bound=0.3),
    "a value alone, mean action": kind(AT_MEAN),
    "xi without identity": kind(dataclasses.replace(CONFIG, correction_identity=False), latent_dim=2, bound=0.3),
}


def make(kind, seed=0):
    """A student, and its policy, whose actions are the user's as they are."""
    (latent_dim, bound, predict_next), (size, window) = kind["sizes"], kind["context"]

    def build():
        statistics = Statistics(*(Normaliser.identity(n) for n in (3, 9, 1, 1)))
        sizes = {"mdps": MDPS, "latent_dim": latent_dim, "max_correction": bound, "predict_next": predict_next}
        return Student(jax.random.PRNGKey(0), SPEC, statistics, kind["config"], **sizes)

    # Wider than usual, so that candidates differ; scales are none below a half.
    student = jax.tree.map(lambda x: 1.5 * x, reference.filled(build, seed))
    rng = np.random.default_rng(seed)

    def normaliser(n):
        return Normaliser(*(jnp.asarray(x, jnp.float32) for x in (rng.normal(size=n), rng.uniform(0.5, 2.0, n))))

    statistics = Statistics(*(normaliser(n) for n in (3, 9, 1, 1)))
    student = eqx.tree_at(lambda x: (x.statistics, x.encoder.inputs), student, (statistics, statistics.context))
    return student, Policy(describe(student, size, window), student_arrays(student), seed=0)


def describe(student, size=4, window=False, **others):
    description = Description(
        family="toy",
        variant="default",
        observation_low=[-9.0] * 3,
        observation_high=[9.0] * 3,
        reward_low=-9.0,
        reward_high=9.0,
        action_low=[-1.0] * 2,
        action_high=[1.0] * 2,
        fallback=[0.0, 0.5],
        context_size=size,
        window=window,
        pooling=student.encoder.pooling,
        labels=student.encoder.labels,
        trials=student.encoder.trials is not None,
        max_correction=student.max_correction,
        correction_identity=student.correction_identity,
        mean_action=student.mean_action,
        latent_clip=0.5,
        residuals=[1.0] * student.prediction.biases[-1].shape[0],
        misfit_limits=[1e9],
    )
    return description._replace(**others)
