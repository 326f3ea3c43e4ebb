"""The parts of the study that train nothing of their own: what the identity says, and how far it reaches."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from bmrl.batch_rl.replay import Replay
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import Student
from bmrl.evaluate.agents import Agent, FixedAgent, StudentAgent
from bmrl.evaluate.evaluate import TEST_SEED, evaluate, learner_agent, nearest, student_agent
from bmrl.evaluate.identity import held_out_transitions, relabelling_test
from bmrl.evaluate.rollout import Episodes
from bmrl.figures.identities import principal_components
from bmrl.learned import load_student
from bmrl.networks.set_encoder import Evidence
from bmrl.reproduce.identity.decoding import decoder, draw_contexts, evidence_of, posterior_mean
from bmrl.reproduce.identity.setting import (
    Setting,
    logs_of_tests,
    splits,
    tested,
    velocities,
    working_on,
)
from bmrl.reproduce.lesson import Lesson, lesson_of
from bmrl.reproduce.study import Row

VARIANTS = ("default", "paper")
SHOWN_CONTEXTS = 12  # contexts of each train MDP in the picture of the identities


# ---------------------------------------------------------------------- what the identity says


def decode(setting: Setting) -> list[Row]:
    """The velocity decoded over the steps of own episodes; the reward-relabelling test; the space of identities."""
    family, seed, rows = setting.family, setting.experiment.seed, []
    with working_on(setting, VARIANTS) as run:
        lesson = lesson_of(run)
        algorithm, states = lesson.learners.algorithm, lesson.learners.states
        held_out = held_out_transitions(family, lesson.mdps, algorithm, states, episodes=10, seed=TEST_SEED + seed)
        for variant in VARIANTS:
            student, config = load_student(run.directory / "students" / variant)
            found = {}
            for split, mdps in splits(family).items():
                slots = [mdp for mdp in mdps for _ in range(setting.experiment.episodes)]
                agent = student_agent(student, config.context, "episode", slots)
                found[split] = evaluate(family, mdps, agent, setting.experiment.episodes, seed)
            head = {"variant": variant, "seed": seed}
            rows += [head | row for row in _errors(setting, student, config.context, lesson, found)]
            rows += [head | row for row in _space(setting, student, config.context, lesson, found)]
            test = relabelling_test(
                student,
                family,
                lesson.mdps,
                held_out,
                size=10,
                most=config.context.size,
                contexts=max(20, 600 // len(lesson.mdps)),
                seed=seed,
            )
            at = velocities(lesson.mdps)
            rows.append({**head, "part": "relabelling", "velocities": at, **test})
    return rows


def _errors(
    setting: Setting, student: Student, context: ContextConfig, lesson: Lesson, found: dict[str, Episodes]
) -> list[Row]:
    """For each MDP: the mean error of the decoded velocity after 1, 2, ... transitions of an episode."""
    at = velocities(lesson.mdps)
    decoders = {"regression": decoder(student, context.size, lesson.logs, at, setting.experiment.seed)}
    if student.encoder.embeddings is not None:
        decoders["posterior mean"] = posterior_mean(student, at)
    rows = []
    for split, mdps in splits(setting.family).items():
        identities, valid = found[split].identities, np.split(found[split].valid, len(mdps))
        assert identities is not None
        for name, decode in decoders.items():
            for mdp, own, kept in zip(mdps, np.split(identities[:, 1:], len(mdps)), valid, strict=True):
                error = np.abs(decode(own[kept]) - mdp["target_velocity"]).mean(0)
                rows.append({"part": "decode", "decoder": name, "split": split, "mdp": mdp, "error": error})
    return rows


def _space(
    setting: Setting, student: Student, context: ContextConfig, lesson: Lesson, found: dict[str, Episodes]
) -> list[Row]:
    """Two principal components of the identities of train MDPs' logs, and of the ends of test episodes."""
    rng, most = np.random.default_rng(setting.experiment.seed), context.size
    groups: list[tuple[str, dict[str, float], np.ndarray]] = []
    for k, mdp in enumerate(lesson.mdps):
        drawn, mask = draw_contexts(lesson.logs, k, rng, SHOWN_CONTEXTS, most, prefix=False)
        identities = student.encoder.identity(evidence_of(student, drawn, mask, most))
        groups.append(("train", mdp, np.asarray(identities)))
    for split, mdps in splits(setting.family).items():
        own = found[split].identities
        assert own is not None
        groups += [(split, mdp, x[:, -1]) for mdp, x in zip(mdps, np.split(own, len(mdps)), strict=True)]
    points, explained = principal_components(np.concatenate([x for _, _, x in groups]))
    ends = np.cumsum([len(x) for _, _, x in groups])
    return [
        {"part": "space", "split": split, "mdp": mdp, "points": own, "explained": explained}
        for (split, mdp, _), own in zip(groups, np.split(points, ends[:-1]), strict=True)
    ]


# ---------------------------------------------------------------------- contexts at test


def contexts_at_test(setting: Setting) -> list[Row]:
    """The default student with contexts of many sizes: of logs of the test MDPs, and of its own episodes.

    ``counted`` says as how many transitions a context counts at most: as many as it has ("all"), or as the largest
    context of training ("bounded"), as the policy does.
    """
    with working_on(setting, ("default",)) as run:
        student, config = load_student(run.directory / "students" / "default")
    logs, mdps, bound = logs_of_tests(setting), setting.family.test_mdps(), config.context.size
    rows: list[Row] = []

    def test(source: str, size: int | None, counted: str, agent: Agent) -> None:
        found, _ = tested(setting, "contexts", source, "tiMe", agent, "test", mdps)
        rows.extend({**row, "size": size, "counted": counted} for row in found)

    for size in setting.sizes:
        window = ContextConfig(size=size, vary_size=False)
        test("own episode", size, "all", StudentAgent(student, window))
        for source in ("transitions", "prefix"):
            evidence = evidence_of_logs(setting, student, logs, size, source)
            wide = replace(config.context, size=size)
            test(source, size, "all", StudentAgent(student, wide, prior=evidence, blank=True))
            if size > bound:
                test(source, size, "bounded", StudentAgent(student, config.context, prior=evidence, blank=True))
    test("own episode", None, "bounded", StudentAgent(student, config.context))
    test("no context", None, "all", StudentAgent(student, config.context, blank=True))
    return rows


def evidence_of_logs(setting: Setting, student: Student, logs: Replay, size: int, source: str) -> Evidence:
    """Evidence of one context for every episode, drawn from the logs of its MDP."""
    rng, found = np.random.default_rng(setting.experiment.seed), []
    for k in range(len(logs)):
        context, mask = draw_contexts(logs, k, rng, setting.episodes, size, source == "prefix")
        found.append(evidence_of(student, context, mask, size))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *found)


# ---------------------------------------------------------------------- velocities


def sweep(setting: Setting) -> list[Row]:
    """The default student, the nearest train MDP's learner and standing still, through the interval and beyond."""
    with working_on(setting, ("default",)) as run:
        lesson = lesson_of(run)
        student, config = load_student(run.directory / "students" / "default")
    mdps = tuple({"target_velocity": v} for v in setting.velocities)
    which, episodes = nearest(mdps, lesson.mdps, setting.family), setting.episodes
    agents: dict[str, Agent] = {
        "tiMe": StudentAgent(student, config.context),
        "nearest MDP": learner_agent(lesson.learners.algorithm, lesson.learners.states, which, episodes),
        "standing still": FixedAgent(setting.family.action_dim, uniform=False),
    }
    rows = []
    for method, agent in agents.items():
        rows += tested(setting, "sweep", "", method, agent, "sweep", mdps)[0]
    return rows
