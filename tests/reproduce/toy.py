"""Stages that take no time, for studies in miniature."""

from dataclasses import replace

import jax
import numpy as np

from bmrl.batch_rl import TD3BC
from bmrl.batch_rl.teach import Taught, TeachConfig, spec_of, teacher_template
from bmrl.data import write_batch
from bmrl.distill.student import StudentConfig
from bmrl.experiments import get_experiment


def random_batches(family, mdps, config, seed, out, *_, **__):
    """What collection leaves, without its SAC: an episode of uniform actions in each MDP."""
    rng, steps = np.random.default_rng(seed), 20
    simulator = family.simulator(mdps, seed)
    observations, actions, rewards = [simulator.reset()], rng.uniform(-1, 1, (steps, len(mdps), family.action_dim)), []
    for action in actions:
        step = simulator.step(action)
        observations.append(step.observations)
        rewards.append(step.rewards)
    for k, mdp in enumerate(mdps):
        write_batch(
            out / f"mdp-{k:03d}",
            observations=np.stack(observations)[:, k],
            actions=actions[:, k],
            rewards=np.stack(rewards)[:, k],
            terminations=np.zeros(steps, bool),
            truncations=np.arange(steps) == steps - 1,
            mdp=mdp,
            family=family.name,
            provenance={},
        )


def untrained(replay, config, seed, *_):
    """What phase 1 leaves, without its updates."""
    rng, learners = np.random.default_rng(seed), len(replay)
    template = teacher_template(config.algorithm, spec_of(replay), learners)
    states = jax.tree.map(lambda x: (0.1 * rng.normal(size=x.shape)).astype(x.dtype), template)
    return Taught(states, np.full(learners, -1))


def tiny(name, scale, seed):
    """The experiment with networks of a few neurons."""
    experiment = get_experiment(name, scale, seed)
    td3_bc = TeachConfig(TD3BC(hidden=(4,), batch_size=4), 1)
    student = StudentConfig(4, "posterior", (4,), (), 4, (), (4,), (4,), (4,))
    small = {"student": student, "updates": 2, "contexts": 2, "queries": 2}
    model = {"hidden": (4,), "updates": 2, "batch_size": 4}
    students = {
        variant: replace(config, **small, reward_model=replace(config.reward_model, **model))
        for variant, config in experiment.distill.items()
    }
    return replace(experiment, teach={"default": td3_bc}, distill=students, checkpoint_seconds=1e9)
