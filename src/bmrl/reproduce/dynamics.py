"""Changing transitions: tiMe in bodies and on grounds that no batch is of, with and without the next-state head."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bmrl import pipeline
from bmrl.config import to_json
from bmrl.distill.student import Student
from bmrl.evaluate.agents import Agent, FixedAgent
from bmrl.evaluate.evaluate import evaluate, mixture, oracle_agent, rows_of
from bmrl.evaluate.rollout import Episodes
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Family, Parameters
from bmrl.figures.dynamics import plot_decoding_over_steps
from bmrl.figures.returns import plot_returns
from bmrl.figures.style import mdp_name, method_names, number
from bmrl.learned import load_student
from bmrl.networks.set_encoder import Evidence
from bmrl.report import learned_agents
from bmrl.reproduce.markdown import table
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.statistics import verdict
from bmrl.types import Transition

FAMILIES = ("halfcheetah-dynamics", "halfcheetah-velocity-dynamics")
STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 200)  # of an episode, after which the identity is decoded
EARLY = 16  # the step of the verdict: by then a context is as large as the largest of training
METHODS = (  # in the order of the table
    ("tiMe", "default"),
    ("tiMe", "reward-only"),
    ("oracle", "told"),
    ("nearest teacher", "TD3BC"),
    ("pooled", "TD3BC"),
    ("standing still", ""),
)


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """A whole pipeline for every seed and family."""
    found = []
    for seed in seeds:
        for name in FAMILIES:
            experiment = get_experiment(name, scale, seed)
            work = functools.partial(zero_shot, experiment, run_directory(name, seed, runs))
            found.append(Unit(f"{name}/seed-{seed}", to_json(experiment), work))
    return found


def zero_shot(experiment: Experiment, directory: Path) -> list[Row]:
    """Both students and what stands beside them on the family's test MDPs; how well each step knows the MDP."""
    with working_run(experiment, directory, students=tuple(experiment.distill)) as run:
        pipeline.pooled_stage(run, resume=True)
        family, seed, mdps = get_family(experiment.family), experiment.seed, get_family(experiment.family).test_mdps()
        rows = []
        for (method, variant), agent in agents(run, mdps).items():
            result = evaluate(family, mdps, agent, experiment.episodes, seed)
            context = "episode" if method == "tiMe" else "none"
            rows += rows_of(
                family, mdps, result, method=method, variant=variant, split="test", seed=seed, context=context
            )
            if method == "tiMe":
                student, config = load_student(directory / "students" / variant)
                errors = decoding_errors(student, config.context.size, family, mdps, result)
                for mdp, error in zip(mdps, errors, strict=True):
                    known = {"family": family.name, "mdp": mdp, "seed": seed, "error": error}
                    rows.append({"method": "identity", "variant": variant, **known})
    return rows


def agents(run: pipeline.Run, mdps: Sequence[Parameters]) -> dict[tuple[str, str], Agent]:
    """Every policy of `METHODS`."""
    family, episodes = get_family(run.experiment.family), run.experiment.episodes
    found = learned_agents(run, family, mdps, episodes)
    student, config = load_student(run.directory / "students" / "default")
    slots = [mdp for mdp in mdps for _ in range(episodes)]
    found["oracle", "told"] = oracle_agent(student, config.context, family, family.train_mdps(), slots)
    found["standing still", ""] = FixedAgent(family.action_dim, uniform=False)
    return found


def decoding_errors(
    student: Student, most: int, family: Family, mdps: Sequence[Parameters], episodes: Episodes
) -> list[dict[str, list[float]]]:
    """For each MDP and parameter, how far the posterior's mean lies from the truth after `STEPS`.

    Mean absolute errors over the MDP's valid episodes, as shares of the parameter's range (of its logarithm's, if it is
    a ratio). Transitions count as at most ``most``, as they do when the student acts (by a flatter posterior).
    """
    x = episodes.observations
    never = np.zeros(episodes.rewards.shape, bool)
    pieces = student.encoder.observe(Transition(x[:, :-1], episodes.actions, episodes.rewards, x[:, 1:], never))
    total = np.cumsum(np.pad(pieces, ((0, 0), (1, 0), (0, 0))), axis=1)  # [n, T + 1, K]; at first there is none
    sizes = jnp.broadcast_to(jnp.arange(total.shape[1], dtype=jnp.float32), total.shape[:2])
    posterior = np.asarray(jax.nn.softmax(Evidence(jnp.asarray(total), sizes).at_most(most).total))
    decoded = posterior @ family.coordinates(family.train_mdps())
    found = []
    for truth, slots in zip(family.coordinates(mdps), np.split(np.arange(len(x)), len(mdps)), strict=True):
        errors = np.abs(decoded[slots[episodes.valid[slots]]] - truth).mean(0)[list(STEPS)]
        found.append(dict(zip(family.parameter_names, errors.T.tolist(), strict=True)))
    return found


# ---------------------------------------------------------------------- the page


def page(rows: list[Row], out: Path) -> str:
    """Draw returns and decoding errors of each family; tables and verdicts."""
    sections = [INTRODUCTION]
    for name in FAMILIES:
        own = [row for row in rows if row["family"] == name]
        tests, identities = ([r for r in own if (r["method"] == "identity") == which] for which in (False, True))
        if not own:
            continue
        family = get_family(name)
        references = {mdp_name(m): {"standing": family.reference_returns(m)["standing"]} for m in family.test_mdps()}
        plot_returns(tests, references, out / f"returns-{name}.png")
        plot_decoding_over_steps(family, identities, STEPS, told_errors(family), out / f"identity-{name}.png")
        sections += [
            f"## {name}",
            DESCRIPTIONS[name],
            verdicts(tests, identities),
            returns(family, tests),
            f"![returns in the test MDPs](returns-{name}.png)",
            IDENTITY,
            f"![how well the MDP is known over an episode](identity-{name}.png)",
        ]
    return "\n\n".join(sections)


INTRODUCTION = """# Changing transitions

The paper's pipeline allows for MDPs that differ in their transitions: Algorithm 1 then lets P predict the next
observation s' as well as the reward (the next-state head). Its experiments vary the reward alone and "leave changing
transition function to future work" (section 5). Here HalfCheetah's masses, its friction with the ground and the damping
of its joints differ from MDP to MDP, each as a multiple of Gymnasium's.

The train MDPs are the first 16 points of Halton's sequence in these parameters. The test MDPs are its points 19 to 22,
of which there is no batch. SAC's replay buffers in the train MDPs are the batches, TD3+BC learns from each, and two
students are distilled, which differ in one thing: P of **tiMe** predicts r and s', P of **tiMe (reward-only)** r alone.
Both act zero-shot, with the transitions of the running episode as the context. Before they are trained, each learner is
run in a learned model of each train MDP; at each step the student acts as the learner with the best average of these
returns, the train MDPs weighted by f's posterior, whose log-odds are divided by 10 ([why](../dynamics-taken-apart.md)).
Beside them: the **oracle**, the first student told its MDP as a mixture of the train MDPs around it; the **nearest
teacher**, TD3+BC on the batch of the nearest train MDP; and the **pooled** learner, TD3+BC on all batches as if they
were one MDP's. The oracle is no upper bound: what it is told is a mixture of MDPs, none of which may be like its own.

**A change to Algorithm 1.** Its contexts come from the MDP's own batch. From these f learns to tell the batches by the
gaits that they were logged with, and at test the gait is the student's own. Here a context is a piece of any MDP's
batch, with the r and the s' that this MDP would have given. A model of all MDPs, learned from the batches, says how
they differ, and what it does not explain of a logged transition stays. Both students have such contexts;
where the first claim holds, it does with this change.

A claim holds below if it does in every seed, and in part if in three of four: by the mean return over the test MDPs,
or by the error of the parameters that the identity tells, as a share of their ranges (of the logarithms', for
multiples)."""

IDENTITY = """How far the parameters that the identity tells, the means of its posterior, are from the truth. Thin
lines are seeds. Dashed: the same of the oracle's mixture, since some test MDPs lie a little beyond all train MDPs."""

DESCRIPTIONS = {
    "halfcheetah-dynamics": "All MDPs ask for 1 m/s; the transitions vary.",
    "halfcheetah-velocity-dynamics": "The target velocity differs too: both the rewards and the transitions vary.",
}


def told_errors(family: Family) -> np.ndarray:
    """For each parameter, how far the oracle's mixture of train MDPs lies from the test MDPs."""
    mdps, train = family.test_mdps(), family.train_mdps()
    return np.abs(mixture(family, mdps, train) @ family.coordinates(train) - family.coordinates(mdps)).mean(0)


def by_seed(rows: Sequence[Row], method: str, variant: str) -> dict[int, float]:
    """The mean return over the MDPs, for each seed."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if (row["method"], row["variant"]) == (method, variant) and row["return_mean"] is not None:
            found.setdefault(row["seed"], []).append(row["return_mean"])
    return {seed: float(np.mean(values)) for seed, values in found.items()}


def verdicts(tests: Sequence[Row], identities: Sequence[Row]) -> str:
    """Markdown: three claims, each with its verdict and the figures that it follows from."""
    student, without, teacher, pooled = (
        by_seed(tests, *key)
        for key in (("tiMe", "default"), ("tiMe", "reward-only"), ("nearest teacher", "TD3BC"), ("pooled", "TD3BC"))
    )
    to_teacher, to_pooled, head = (differences(student, other) for other in (teacher, pooled, without))
    before, after = np.transpose([_errors(identities, seed) for seed in student])
    seeds = len(student)
    best = [min(pair) > 0 for pair in zip(to_teacher, to_pooled, strict=True)]
    adapts = verdict(best, seeds, changed=True)  # by the contexts
    helps, known = verdict([x > 0 for x in head], seeds), verdict((after < before / 2).tolist(), seeds)
    return (
        f"- **tiMe acts well on transitions that it has never seen: {adapts}.** The return is "
        f"{_signed(to_teacher)} against the nearest teacher, {_signed(to_pooled)} against the pooled learner.\n"
        f"- **The next-state head helps: {helps}.** The return is {_signed(head)} against the student without it.\n"
        f"- **The first {EARLY} steps at least halve what is unknown of the MDP: {known}.** The error falls from "
        f"{before.mean():.2f} to {after.mean():.2f} of the parameters' ranges."
    )


def differences(one: dict[int, float], other: dict[int, float]) -> list[float]:
    """One minus the other, for each seed that both have."""
    return [value - other[seed] for seed, value in one.items() if seed in other]


def _errors(identities: Sequence[Row], seed: int) -> np.ndarray:
    """The first student's errors before the first step and after `EARLY`, [2]: means over MDPs and parameters."""
    own = [list(r["error"].values()) for r in identities if (r["variant"], r["seed"]) == ("default", seed)]
    return np.mean(own, axis=(0, 1))[[0, STEPS.index(EARLY)]]


def _signed(values: Sequence[float]) -> str:
    """Their mean, and each of several."""
    mean, *each = (f"{x:+.1f}".replace("-", "−") for x in (np.mean(values), *values))
    return f"{mean} ({', '.join(each)})" if len(each) > 1 else mean


def returns(family: Family, rows: Sequence[Row]) -> str:
    """Markdown: mean returns, with deviations over the seeds if there are several, of each method and MDP."""
    letters = "ABCDEFGH"[: len(family.test)]
    seeds = len({row["seed"] for row in rows})
    lines = []
    for method, variant in METHODS:
        own = [row for row in rows if (row["method"], row["variant"]) == (method, variant)]
        groups = [[row for row in own if row["mdp"] == mdp] for mdp in family.test_mdps()]
        cells = [_cell([r["return_mean"] for r in group if r["return_mean"] is not None]) for group in groups]
        cells.append(_cell(list(by_seed(rows, method, variant).values())))
        lines.append([method_names(own[:1])[0], *cells])
    head = (f"mean return, {seeds} seed{'s' if seeds > 1 else ''}", *letters, "all")
    mdps = "; ".join(f"{a}: {mdp_name(m)}" for a, m in zip(letters, family.test, strict=True))
    return f"{table(head, lines, right=True)}\n\n{mdps}."


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    deviation = f" ± {np.std(values):.0f}" if len(values) > 1 else ""
    return f"{number(float(np.mean(values)))}{deviation}"


STUDY = Study(units, page)
