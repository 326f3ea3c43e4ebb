"""The last stage of a run: the zero-shot test, its rows in results.json, its table and its pictures."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bmrl.batch_rl import SAC
from bmrl.data import Batch, read_batches
from bmrl.errors import BmrlError, CorruptError
from bmrl.evaluate.agents import Agent
from bmrl.evaluate.evaluate import (
    TEST_SEED,
    context_batches,
    evaluate,
    learner_agent,
    nearest,
    rows_of,
    soft_values,
    student_agent,
)
from bmrl.evaluate.identity import held_out_transitions, relabelling_test
from bmrl.evaluate.rollout import Episodes, run_episodes
from bmrl.families import get_family
from bmrl.families.base import Family, Parameters
from bmrl.families.point_goal import PointGoalFamily
from bmrl.families.thermostat import ThermostatFamily
from bmrl.families.velocity import VelocityFamily
from bmrl.figures.animation import animate
from bmrl.figures.curves import plot_curves
from bmrl.figures.identities import plot_identities
from bmrl.figures.returns import plot_returns
from bmrl.figures.style import mdp_name, mdp_title, valid_by_mdp
from bmrl.figures.table import results_table
from bmrl.figures.trajectories import plot_trajectories
from bmrl.figures.velocities import TIME_STEPS, plot_velocities
from bmrl.figures.weeks import plot_weeks, week_of
from bmrl.learned import load_learners, load_student, name_diverged
from bmrl.pipeline import Run, check_all_sources, taught_variants
from bmrl.runs.progress import Progress, Screen
from bmrl.runs.storage import committed_names, read_json, write_json
from bmrl.scaling import check_action_bounds, check_logs

TAUGHT = ("tiMe", "nearest teacher", "pooled")  # what knows only the MDPs whose learners did not diverge
LONGEST = 80  # characters of an MDP in a file's name
MAX_EPISODES = 1 << 16  # of each MDP: they are played side by side
log = logging.getLogger(__name__)

# With "mdp": which rows are the same test. Of episodes those count, too, that became unstable.
KEY = ("method", "variant", "split", "seed", "context", "episodes")


def evaluate_stage(
    run: Run, mdp: Sequence[str] = (), split: str = "test", episodes: int | None = None, context: str = "episode"
) -> None:
    """Test every student and baseline of the run on the same MDPs and starts; add the rows, draw and print them.

    Everything is on the disk before anything is printed.
    """
    if run.experiment.logs_alone:
        raise BmrlError(
            f"{run.directory} was made from logs alone, there is no environment to test in: 'bmrl judge' says from "
            "logs what the policy is worth"
        )
    family, seed = get_family(run.experiment.family), run.experiment.seed
    if split not in ("test", "validation"):
        raise BmrlError(f"--split {split!r}: choose test or validation")
    episodes = run.experiment.episodes if episodes is None else episodes
    if not 1 <= episodes <= MAX_EPISODES:
        raise BmrlError(f"--episodes {episodes}: 1 to {MAX_EPISODES} are needed")
    if mdp and split != "test":
        raise BmrlError(f"--mdp names the MDP, --split {split} others: leave one of them out")
    mdps = (parse_mdp(family, mdp),) if mdp else family.test_mdps() if split == "test" else family.validation_mdps()
    if not mdps:  # validation may be empty
        raise BmrlError(f"--split {split}: {family.name} has no {split} MDPs: name one by --mdp, or use --split test")
    split = split_of(family, mdps[0]) if mdp else split
    path, pictures = run.directory / "results.json", run.directory / "figures"
    old = read_results(path) if path.exists() else []
    place = run.directory / "batches"
    batches = read_batches(place) if committed_names(place) else []
    _check_actions(batches, place, family, mdps, context)
    agents = learned_agents(run, family, mdps, episodes, context)
    check_all_sources(run)
    rows: list[dict[str, Any]] = []
    results: dict[str, Episodes] = {}
    with Progress("evaluate", len(agents)) as progress:
        for done, ((method, variant), agent) in enumerate(agents.items(), start=1):
            result = evaluate(family, mdps, agent, episodes, seed)
            results[f"{method} ({variant})"] = result
            source = context if method == "tiMe" else "none"
            rows += rows_of(
                family, mdps, result, method=method, variant=variant, split=split, seed=seed, context=source
            )
            progress.update(done)
    _add_value_estimates(run, family, mdps, episodes, rows)
    left_out = _left_out(run)
    if left_out:
        for row in rows:
            row |= {"left_out": [f"mdp-{k:03d}" for k in left_out]} if row["method"] in TAUGHT else {}
    diverged = _diverged_baselines(run)
    if diverged:
        for row in rows:
            row |= {"diverged": diverged}
    write_json(path, merge(old, rows))
    tests: dict[str, Any] = {}
    taught = _mdps_of(batches)
    if not (mdp or family.transitions_vary) and context == "episode" and len(taught) > 1:
        tests = _identity_tests(run, family, taught)
        write_json(run.directory / "identity.json", tests)
    name = _file_name(mdps[0]) if mdp else split
    name += "" if context == "episode" else "-no-context" if context == "none" else "-logs"
    _draw(run, family, mdps, name, rows, results, agents["tiMe", _first_student(run)], pictures)
    console = Screen()
    console.print(results_table(rows))
    if left_out:
        console.print(f"{name_diverged(left_out)} diverged: these MDPs were left out")
    for name, step in diverged.items():
        console.print(f"the baseline {name} diverged after {step} updates: it has no results")
    for variant, test in tests.items():
        console.print(
            f"identity ({variant}): relabelled contexts of {test['context_size']} are nearest to the right MDP "
            f"in {test['identity_mean']:.0%} of cases (worst pair {test['identity_worst']:.0%}); "
            f"the action follows in {test['action_mean']:.0%} (worst pair {test['action_worst']:.0%})"
        )
    console.print(f"results: {path}\nfigures: {pictures}")


def _check_actions(
    batches: Sequence[Batch], place: Path, family: Family, mdps: Sequence[Parameters], context: str
) -> None:
    """Raises BmrlError where the run's logs, the contexts' and the environments differ in what actions stand for."""
    check_action_bounds(family, mdps, batches, place)
    if context not in ("episode", "none"):
        logs = context_batches(Path(context))
        check_action_bounds(family, mdps, logs, Path(context))
        if family.action_bounds(mdps[0]) is None:  # no environment says what is right
            check_logs(batches, place, logs, Path(context))


def _first_student(run: Run) -> str:
    return _first(committed_names(run.directory / "students"))


def _first(variants: Sequence[str]) -> str:
    return "default" if "default" in variants else variants[0]


def _draw(
    run: Run,
    family: Family,
    mdps: Sequence[Parameters],
    name: str,
    rows: Sequence[dict[str, Any]],
    results: dict[str, Episodes],
    student: Agent,
    directory: Path,
) -> None:
    """All pictures of a test, and the training curves."""
    directory.mkdir(exist_ok=True)
    slots = [m for m in mdps for _ in range(len(next(iter(results.values())).lengths) // len(mdps))]
    label = f"tiMe ({_first_student(run)})"
    references = {mdp_name(m): family.reference_returns(m) for m in mdps}
    plot_returns(rows, references, directory / f"returns-{name}.png")
    plot_identities(results[label], slots, directory / f"identities-{name}.png")
    try:
        plot_curves(run.directory / "metrics.csv", directory)
    except CorruptError as error:  # a log that is lost; no result comes from it
        log.warning("there are no pictures of the training: %s", error)
    robot = family if isinstance(family, VelocityFamily) else None
    if robot:
        plot_velocities(robot, label, results[label], slots, directory / f"velocities-{name}.png")
    elif isinstance(family, PointGoalFamily):
        plot_trajectories({m: (r, slots) for m, r in results.items()}, directory / f"trajectories-{name}.png")
    else:
        if isinstance(family, ThermostatFamily):
            weeks = {method: week_of(result, slots[0], 0) for method, result in results.items()}
            plot_weeks(weeks, mdp_name(slots[0]), directory / f"weeks-{name}.png")
        return  # nothing moves that an animation could show
    # One episode an MDP, with the same agent: its memory is as wide as the test was, so are these episodes.
    shown = run_episodes(family, slots, student, TEST_SEED + run.experiment.seed, frames=True)
    first = [indices[0] for _, indices in valid_by_mdp(shown, slots) if len(indices)]
    if shown.frames is None or not first:
        return
    drawn = [slots[i] for i in first]
    animate(
        shown.frames[first],
        [mdp_title(m) for m in drawn],
        directory / f"policy-{name}.gif",
        fps=1 / TIME_STEPS[robot.body.xml] if robot else 5,
        lengths=shown.lengths[first],
        targets=[float(robot.target_velocity(m)) for m in drawn] if robot else None,
    )


def _identity_tests(run: Run, family: Family, taught: Sequence[Parameters]) -> dict[str, Any]:
    """The relabelling test of every student, on transitions that no training saw, of the MDPs with a teacher."""
    seed = TEST_SEED + run.experiment.seed
    name = _first(taught_variants(run, "teachers"))
    teachers = load_learners(run.directory / "teachers" / name, run.experiment.teach[name], leave_out_diverged=True)
    mdps = [mdp for k, mdp in enumerate(taught) if k not in teachers.left_out]
    held_out = held_out_transitions(family, mdps, teachers.algorithm, teachers.states, episodes=10, seed=seed)
    tests = {}
    for variant in committed_names(run.directory / "students"):
        student, config = load_student(run.directory / "students" / variant)
        tests[variant] = relabelling_test(
            student,
            family,
            mdps,
            held_out,
            size=10,
            most=config.context.size,
            contexts=max(20, 600 // len(mdps)),
            seed=run.experiment.seed,
        )
    return tests


def learned_agents(
    run: Run, family: Family, mdps: Sequence[Parameters], episodes: int, context: str = "episode"
) -> dict[tuple[str, str], Agent]:
    """Every policy that the run has learned, by (method, variant); learners by the name of their algorithm.

    Raises BmrlError if the run has no students.
    """
    agents: dict[tuple[str, str], Agent] = {}
    slots = [m for m in mdps for _ in range(episodes)]
    variants = committed_names(run.directory / "students")
    if not variants:
        raise BmrlError(f"{run.directory} has no students: run 'bmrl distill {run.directory}'")
    for variant in variants:
        student, config = load_student(run.directory / "students" / variant)
        if student.spec != (family.observation_dim, family.action_dim):
            raise BmrlError(
                f"{run.directory}: its policy has {student.spec.observation_dim} observations and "
                f"{student.spec.action_dim} actions, {family.name} has {family.observation_dim} and {family.action_dim}"
            )
        agents["tiMe", variant] = student_agent(student, config.context, context, slots)
    first = np.zeros(len(mdps), int)
    taught = [family.validate(mdp) for mdp in _mdps_of(read_batches(run.directory / "batches"))]
    for method, kind in (("nearest teacher", "teachers"), ("pooled", "pooled")):
        for name in taught_variants(run, kind):
            # Only a user's word has brought a student of fewer MDPs this far.
            path, taught_with = run.directory / kind / name, run.experiment.teach[name]
            learners = load_learners(path, taught_with, leave_out_diverged=True)
            known = [mdp for k, mdp in enumerate(taught) if k not in learners.left_out]
            if not learners.left_out if kind == "pooled" else known:
                which = first if kind == "pooled" else nearest(mdps, known, family)
                name = type(learners.algorithm).__name__
                agents[method, name] = learner_agent(learners.algorithm, learners.states, which, episodes)
    return agents


def _left_out(run: Run) -> dict[int, int]:
    """The batches whose learners diverged, of any variant: after how many updates."""
    left_out: dict[int, int] = {}
    for name in taught_variants(run, "teachers"):
        path, config = run.directory / "teachers" / name, run.experiment.teach[name]
        left_out |= load_learners(path, config, leave_out_diverged=True).left_out
    return left_out


def _diverged_baselines(run: Run) -> dict[str, int]:
    """The pooled learners that diverged, by their place: after how many updates."""
    found: dict[str, int] = {}
    for name in taught_variants(run, "pooled"):
        path, config = run.directory / "pooled" / name, run.experiment.teach[name]
        found |= {f"pooled/{name}": k for k in load_learners(path, config, True).left_out.values()}
    return found


def _mdps_of(batches: Sequence[Batch]) -> list[Parameters]:
    """The MDP of each teacher, or nothing if a batch does not tell."""
    mdps = [batch.manifest["mdp"] for batch in batches]
    return [] if None in mdps else mdps


def _add_value_estimates(
    run: Run, family: Family, mdps: Sequence[Parameters], episodes: int, rows: list[dict[str, Any]]
) -> None:
    """To the pooled baseline's rows: what it believes of initial state-actions, and what it earns."""
    for name in taught_variants(run, "pooled"):
        path, config = run.directory / "pooled" / name, run.experiment.teach[name]
        algorithm, states, diverged = load_learners(path, config, leave_out_diverged=True)
        if isinstance(algorithm, SAC) and not diverged:
            state = jax.tree.map(lambda x: x[0], states)
            values = soft_values(family, mdps, algorithm, state, episodes, run.experiment.seed)
            for row, value in zip((r for r in rows if r["method"] == "pooled"), values, strict=True):
                row |= value


def parse_mdp(family: Family, words: Sequence[str]) -> Parameters:
    """``target_velocity=0.6`` as the parameters of an MDP. Raises BmrlError naming the word that is wrong."""
    parameters = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in parameters:
            raise BmrlError(f"--mdp has {name} twice: name one MDP")
        try:
            parameters[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise BmrlError(f"--mdp {word!r}: write NAME=NUMBER, with {', '.join(family.parameter_names)}")
    return family.validate(parameters)


def _file_name(mdp: Parameters) -> str:
    """An MDP in the names of its pictures."""
    name = mdp_name(mdp).replace(" ", "")
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def split_of(family: Family, mdp: Parameters) -> str:
    """Which of the family's sets an MDP belongs to, or "custom"."""
    sets = {"test": family.test_mdps(), "validation": family.validation_mdps(), "train": family.train_mdps()}
    return next((name for name, mdps in sets.items() if mdp in mdps), "custom")


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of results.json. Raises BmrlError, naming the file, where it is something else."""

    def is_row(row: Any) -> bool:
        if not isinstance(row, dict) or not row.keys() >= {*KEY, "mdp"} or not isinstance(row["mdp"], dict):
            return False
        return all(
            isinstance(value, str | int | float) for value in (*(row[name] for name in KEY), *row["mdp"].values())
        )

    rows = read_json(path)
    if not isinstance(rows, list) or not all(map(is_row, rows)):
        raise BmrlError(f"{path} is not a list of results: move it away, or restore it from a copy")
    return rows


def merge(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Old rows, with those that a new row repeats replaced."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        asked = row | {"episodes": row["episodes"] + row.get("invalid_episodes", 0)}
        return (*(asked[name] for name in KEY), tuple(sorted(row["mdp"].items())))

    kept = {key(row): row for row in old}
    return list((kept | {key(row): row for row in new}).values())
