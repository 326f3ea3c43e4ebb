"""The baselines that learn from all of a run's batches: found in its directory, else learned first."""

import hashlib
import json
import logging
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bmrl import pipeline
from bmrl.baselines.contextual_sac import ContextualSAC, ContextualState, train_contextual_sac
from bmrl.batch_rl.replay import Replay, best_episodes, pool
from bmrl.batch_rl.teach import TeachConfig, spec_of
from bmrl.config import check_config, to_json
from bmrl.evaluate.agents import Agent, ContextualAgent
from bmrl.evaluate.evaluate import evaluate, learner_agent, rows_of, student_agent
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.learned import load_learners
from bmrl.networks import Normaliser
from bmrl.reproduce.configurations import BASELINES, CONTEXTUAL_SAC, PAPER, Configuration, value
from bmrl.reproduce.lesson import lesson_of, student_of
from bmrl.reproduce.study import Row
from bmrl.runs.checkpoint import load_tree, save_tree
from bmrl.runs.storage import commit_directory, has_result, require_format, verify_directory
from bmrl.runs.training import DivergedError
from bmrl.sources import batch_sources, check_sources

log = logging.getLogger(__name__)


def baseline_rows(
    run: pipeline.Run,
    method: str,
    config: Configuration,
    split: str,
    mdps: Sequence[Parameters],
    episodes: int,
) -> list[Row]:
    """What a baseline earns in MDPs of a split, and its ``configuration``; where it diverges, rows without a return.

    tiMe's needs the learners of the ``paper`` variant.
    """
    family, seed = get_family(run.experiment.family), run.experiment.seed
    told = {"method": method, "variant": ""}
    values = {name: value(config, name) for name in BASELINES[run.experiment.family][method]}
    try:
        agent = _agent(run, method, config, mdps, episodes)
    except DivergedError as error:
        log.warning("%s", error)
        about = {**told, "family": family.name, "split": split, "seed": seed, "configuration": values}
        return [{**about, "mdp": mdp, "return_mean": None, "length_mean": None} for mdp in mdps]
    context = "episode" if method in (PAPER, *CONTEXTUAL_SAC.values()) else "none"
    result = evaluate(family, mdps, agent, episodes, seed)
    rows = rows_of(family, mdps, result, split=split, seed=seed, context=context, **told)
    return [{**row, "configuration": values} for row in rows]


def _agent(run: pipeline.Run, method: str, config: Configuration, mdps: Sequence[Parameters], episodes: int) -> Agent:
    digest = hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()[:8]
    name = f"{slug(method)}-{digest}"
    match config:
        case TeachConfig():
            path = run.directory / "baselines" / name

            def load() -> Replay:
                return pool(best_episodes(pipeline.load_replay(run), config.best))

            pipeline.learn(run, f"baselines-{name}", path, config, batch_sources(run.directory), load)
            algorithm, states, _ = load_learners(path, config)
            return learner_agent(algorithm, states, np.zeros(len(mdps), int), episodes)
        case ContextualSAC():
            return ContextualAgent(config, learn_contextual(run, config, name))
    own = pipeline.Run(run.directory / "baselines" / name, run.experiment)
    student = student_of(own, lesson_of(run, "paper"), config)
    return student_agent(student, config.context, "episode", [mdp for mdp in mdps for _ in range(episodes)])


def slug(method: str) -> str:
    """A method's name in paths."""
    return re.sub(r"\W+", "-", method).strip("-")


def learn_contextual(run: pipeline.Run, config: ContextualSAC, variant: str) -> ContextualState:
    """Contextual SAC of the run's batches, trained or read."""
    path, experiment, replay = run.directory / "contextual" / variant, run.experiment, pipeline.load_replay(run)
    sources = batch_sources(run.directory)
    if not has_result(path):
        stage, seconds = f"contextual-{variant}", experiment.checkpoint_seconds
        with pipeline.working_stage(run, stage, True, sources, config) as checkpoints:
            state = train_contextual_sac(replay, config, experiment.seed, checkpoints, run.metrics, stage, seconds)
            made_from = {"config": to_json(config), "seed": experiment.seed, "sources": sources}
            manifest = {"format": "bmrl-contextual", "version": 1, **made_from}
            commit_directory(path, lambda directory: save_tree(directory, state), manifest)
    manifest = verify_directory(path)
    require_format(path, manifest, "bmrl-contextual", 1)
    check_config(path, manifest.get("config"), to_json(config))
    check_sources(path, manifest, sources, experiment.seed)
    spec = spec_of(replay)
    blank = (Normaliser.identity(n) for n in (spec.observation_dim, 2 * spec.observation_dim + spec.action_dim + 1))
    template = jax.eval_shape(lambda: config.init(jax.random.PRNGKey(0), spec, *blank))
    return jax.tree.map(jnp.asarray, load_tree(path, template))
