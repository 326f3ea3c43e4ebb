"""Figure 2: one Batch SAC for three goals, with and without an inferred identity, beside tiMe."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, MultipleLocator

from bmrl import pipeline
from bmrl.baselines.contextual_sac import ContextualSAC, ContextualState, train_contextual_sac
from bmrl.batch_rl import SAC
from bmrl.batch_rl.teach import spec_of
from bmrl.config import to_json
from bmrl.evaluate.agents import Agent, ContextualAgent
from bmrl.evaluate.evaluate import evaluate, learner_agent, rows_of, soft_values, student_agent
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.point_goal import POINT_GOAL, RADIUS, goals
from bmrl.figures.style import (
    BLACK,
    GREY,
    RED,
    headline,
    method_colour,
    method_names,
    note,
    number,
    panels,
    parameter_colours,
    save,
    styled,
)
from bmrl.networks import Normaliser
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.runs.checkpoint import load_tree, save_tree
from bmrl.runs.metrics import read_metrics
from bmrl.runs.storage import commit_directory, is_committed, verify_directory
from bmrl.types import Watch

POINTS = 20  # of a curve
CURVE_EPISODES = 5  # of tiMe in each MDP, and rollouts behind a value, at each point
NEAR = 1.0  # final distance to the goal: one move
RETURN = -67.0  # half again the optimum: the first moves of an agent that is not told the goal are blind
PEARL_LATENTS = 5  # of PEARL's z in all of its experiments
SLACK = 1.05  # times the optimum, for an agent that learned its one goal
FERMAT = (0.0, RADIUS / math.sqrt(3))  # nearest to the three goals together: it sees any two of them 120 degrees apart

# The method's rows are called by its name, and by these variants.
CONTROL, POOLED, CONTEXTUAL, TIME = "single-MDP teacher", "pooled", "contextual SAC", "tiMe"
SAMPLING = {"paper": "paper contexts", "default": "tiMe contexts"}  # of contextual SAC: as that variant of tiMe draws


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed a whole pipeline, watched while it trains, and the baselines of section 5.1."""
    found = []
    for seed in seeds:
        experiment = get_experiment("point-goal", scale, seed)
        contextual = {variant: contextual_config(experiment, variant) for variant in SAMPLING}
        config = {"experiment": to_json(experiment), "contextual": {k: to_json(x) for k, x in contextual.items()}}
        work = functools.partial(one_seed, experiment, contextual, runs / f"figure2-{seed}")
        found.append(Unit(f"seed-{seed}", config, work))
    return found


def contextual_config(experiment: Experiment, variant: str) -> ContextualSAC:
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


# ---------------------------------------------------------------------- a seed


def one_seed(experiment: Experiment, contextual: dict[str, ContextualSAC], directory: Path) -> list[Row]:
    """Train everything; rows of the test with paths and final positions, and rows of the curves."""
    with pipeline.working_on(directory):
        run = pipeline.start_run(directory, experiment)
        pipeline.collect_stage(run)
        pipeline.teach_stage(run, resume=True)
        pipeline.pooled_stage(run, resume=True, watch=_watch_pooled(experiment))
        for variant in experiment.distill:
            pipeline.distill_stage(run, variant, resume=True, watch=_watch_student(experiment, variant))
        states = {variant: learn_contextual(run, config, variant) for variant, config in contextual.items()}
        rows = _curve(run, POOLED, "", "pooled-default")
        for variant in experiment.distill:
            rows += _curve(run, TIME, variant, f"distill-{variant}")
        for (method, variant), agent in _agents(run, contextual, states).items():
            rows += _test(experiment, method, variant, agent)
    return rows


def learn_contextual(run: pipeline.Run, config: ContextualSAC, variant: str) -> ContextualState:
    """Contextual SAC of the run's batches, trained or read."""
    path, experiment, replay = run.directory / "contextual" / variant, run.experiment, pipeline.load_replay(run)
    if not is_committed(path):
        stage, seconds = f"contextual-{variant}", experiment.checkpoint_seconds
        with pipeline.working_stage(run, stage, resume=True) as checkpoints:
            state = train_contextual_sac(replay, config, experiment.seed, checkpoints, run.metrics, stage, seconds)
            manifest = {"format": "bmrl-contextual", "version": 1, "config": to_json(config)}
            commit_directory(path, lambda directory: save_tree(directory, state), manifest)
    pipeline.check_config(path, verify_directory(path)["config"], to_json(config))
    spec = spec_of(replay)
    blank = (Normaliser.identity(n) for n in (spec.observation_dim, 2 * spec.observation_dim + spec.action_dim + 1))
    template = jax.eval_shape(lambda: config.init(jax.random.PRNGKey(0), spec, *blank))
    return jax.tree.map(jnp.asarray, load_tree(path, template))


def _agents(
    run: pipeline.Run, contextual: dict[str, ContextualSAC], states: dict[str, ContextualState]
) -> dict[tuple[str, str], Agent]:
    """Every policy of the figure, by (method, variant), for the test MDPs: they are the train MDPs."""
    experiment = run.experiment
    mdps, episodes = get_family(experiment.family).test_mdps(), experiment.episodes
    teachers, pooled = (pipeline.load_learners(run.directory / name / "default") for name in ("teachers", "pooled"))
    own, first = np.arange(len(mdps)), np.zeros(len(mdps), int)
    found: dict[tuple[str, str], Agent] = {
        (CONTROL, ""): learner_agent(teachers.algorithm, teachers.states, own, episodes),
        (POOLED, ""): learner_agent(pooled.algorithm, pooled.states, first, episodes),
    }
    for variant, config in contextual.items():
        found[CONTEXTUAL, SAMPLING[variant]] = ContextualAgent(config, states[variant])
    for variant in experiment.distill:
        student, distill = pipeline.load_student(run.directory / "students" / variant)
        found[TIME, variant] = student_agent(student, distill.context, "episode", mdps)
    return found


def _test(experiment: Experiment, method: str, variant: str, agent: Agent) -> list[Row]:
    """A row an MDP: the returns, the path of the first episode, where all of them end."""
    family, seed = get_family(experiment.family), experiment.seed
    mdps, context = family.test_mdps(), "episode" if method in (TIME, CONTEXTUAL) else "none"
    episodes = evaluate(family, mdps, agent, experiment.episodes, seed)
    rows = rows_of(family, mdps, episodes, method=method, variant=variant, split="test", seed=seed, context=context)
    paths = np.split(episodes.observations, len(mdps))
    return [row | {"path": path[0], "ends": path[:, -1]} for row, path in zip(rows, paths, strict=True)]


def _at_points(updates: int, look: Callable[[Any], dict[str, np.ndarray]]) -> Watch:
    """Looks ``POINTS`` times, the last time at the end."""
    every = max(1, updates // POINTS)
    return lambda step, state: look(state) if step % every == 0 or step == updates else {}


def _watch_pooled(experiment: Experiment) -> Watch:
    """The pooled agent's return in each MDP; what it believes of initial state-actions, and what they are worth."""
    family, seed, algorithm = get_family(experiment.family), experiment.seed, experiment.teach["default"].algorithm
    assert isinstance(algorithm, SAC)
    mdps = family.test_mdps()

    def look(states: Any) -> dict[str, np.ndarray]:
        # One episode: neither this agent nor the MDPs are random.
        episodes = evaluate(family, mdps, learner_agent(algorithm, states, np.zeros(len(mdps), int), 1), 1, seed)
        state = jax.tree.map(lambda x: x[0], states)
        values = soft_values(family, mdps, algorithm, state, CURVE_EPISODES, seed)
        beliefs = {name: np.array([value[name] for value in values]) for name in values[0]}
        return {"return": episodes.returns, **beliefs}

    return _at_points(experiment.teach["default"].updates, look)


def _watch_student(experiment: Experiment, variant: str) -> Watch:
    """TiMe's zero-shot return in each MDP."""
    family, seed, config = get_family(experiment.family), experiment.seed, experiment.distill[variant]
    mdps = family.test_mdps()

    def look(student: Any) -> dict[str, np.ndarray]:
        agent = student_agent(student, config.context, "episode", mdps)
        episodes = evaluate(family, mdps, agent, CURVE_EPISODES, seed)
        return {"return": episodes.returns.reshape(len(mdps), -1).mean(1)}

    return _at_points(config.updates, look)


def _curve(run: pipeline.Run, method: str, variant: str, stage: str) -> list[Row]:
    """A row an MDP with what was seen of a stage while it trained."""
    family = get_family(run.experiment.family)
    metrics = [row for row in read_metrics(run.directory / "metrics.csv") if row.stage == stage]
    names = [n for n in ("return", "value_estimate", "discounted_soft_return") if any(row.name == n for row in metrics)]
    return [
        {
            "method": method,
            "variant": variant,
            "family": family.name,
            "mdp": mdp,
            "seed": run.experiment.seed,
            "updates": [row.step for row in metrics if (row.learner, row.name) == (k, "return")],
            **{name: [row.value for row in metrics if (row.learner, row.name) == (k, name)] for name in names},
        }
        for k, mdp in enumerate(family.test_mdps())
    ]


# ---------------------------------------------------------------------- pictures


@styled()
def draw_figure(curves: Sequence[Row], tests: Sequence[Row], path: Path) -> None:
    """The paper's three panels, the left one as two: returns and values are of different horizons and discounts."""
    figure, (returns, values, middle, right) = panels(4, (5.2, 4.4), columns=2)
    seeds = len({row["seed"] for row in tests})
    lines = "mean of the three goals" + (f"; thin: a seed, bold: the mean of {seeds}" if seeds > 1 else "")
    headline(returns, "zero-shot return of 20 steps", lines)
    for variant in dict.fromkeys(row["variant"] for row in curves if row["method"] == TIME):
        rows = _of(curves, TIME, variant)
        _draw_curve(returns, rows, "return", method_names(rows)[0], method_colour(method_names(rows)[0]))
    _draw_curve(returns, _of(curves, POOLED), "return", "pooled Batch SAC", RED)
    returns.axhline(optimum(), color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1, label="optimum")
    headline(values, "pooled Batch SAC: belief and truth", "discounted by .99, with the entropy bonus, without end")
    _draw_curve(values, _of(curves, POOLED), "value_estimate", "its value of the first action", BLACK)
    _draw_curve(values, _of(curves, POOLED), "discounted_soft_return", "what it then earns", RED)
    returns.set_xlabel("gradient steps; of phase 2 for tiMe, whose learners are taught before")
    values.set_xlabel("gradient steps")
    for axes in (returns, values):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize=9)

    pooled = [row for row in _of(tests, POOLED) if row["mdp"] == tests[0]["mdp"]]  # it moves alike whatever the goal
    headline(middle, "pooled Batch SAC: its path", "a line a seed; the same whatever the goal")
    for row in pooled:
        middle.plot(*np.transpose(row["path"]), color=RED, linewidth=1.4, alpha=0.7, zorder=3)
        x, y = row["path"][-1]
        middle.scatter(x, y, s=60, color=RED, edgecolors="white", zorder=5)
    middle.scatter(FERMAT[0], FERMAT[1], marker="D", s=40, color="white", edgecolors=GREY, zorder=2)
    note(middle, "nearest to all goals", FERMAT, (0, -16), color=GREY, zorder=6)
    student = _of(tests, TIME, "default")
    distance = np.mean([row["final_distance"] for row in student])
    ends = f"{student[0]['episodes']} episodes a goal{' and seed' if seeds > 1 else ''}"
    headline(right, "tiMe: final positions", f"{ends}, {distance:.2f} from the goal on average")
    norm, colours, angles = parameter_colours([row["mdp"] for row in student])
    for row, angle in zip(student, angles, strict=True):
        x, y = np.transpose(row["ends"])
        right.scatter(x, y, s=14, color=colours(norm(angle)), alpha=0.5, linewidths=0, zorder=3)
    for axes in (middle, right):
        axes.plot(*goals(np.linspace(0.0, math.pi, 100)).T, color=GREY, linestyle=":", linewidth=1, zorder=1)
        axes.scatter(0, 0, s=60, color=BLACK, zorder=4)
        note(axes, "start", (0, 0), (0, -16), zorder=6)
        for row in _by_seed(student)[0]:
            x, y = goals(row["mdp"]["goal_angle"])
            colour = BLACK if axes is middle else colours(norm(math.degrees(row["mdp"]["goal_angle"])))
            axes.plot(x, y, marker="x", markersize=11, markeredgewidth=2.5, color=colour, zorder=4)
            note(axes, _goal(row), (x, y), (0, 14 if y > RADIUS / 2 else -18))
        axes.set(xlim=(-13, 13), ylim=(-3, 13), aspect="equal", xlabel="x", ylabel="y")
        axes.xaxis.set_major_locator(MultipleLocator(5))
        axes.yaxis.set_major_locator(MultipleLocator(5))
    save(figure, path)


def _draw_curve(axes: Axes, rows: Sequence[Row], name: str, label: str, colour: str) -> None:
    """The mean over the MDPs: thin for every seed, bold for their mean."""
    lines = [np.mean([row[name] for row in some], axis=0) for some in _by_seed(rows)]
    steps = rows[0]["updates"]
    if len(lines) > 1:
        for line in lines:
            axes.plot(steps, line, color=colour, linewidth=0.7, alpha=0.5, zorder=2)
    axes.plot(steps, np.mean(lines, axis=0), color=colour, linewidth=2.2, zorder=3, label=label)


@styled()
def draw_methods(tests: Sequence[Row], path: Path) -> None:
    """Return and final distance of every method, a column a goal: a dot a seed, a bar at their mean."""
    names = method_names(tests)
    methods, mdps = list(dict.fromkeys(names)), list(dict.fromkeys(_goal(row) for row in tests))
    measures = {
        "return": (lambda row: row["return_mean"], optimum(), "optimum"),
        "final distance": (lambda row: np.mean(row["final_distance"]), NEAR, "one move"),
    }
    figure, grid = panels(len(measures) * len(mdps), (1.0 + 0.58 * len(methods), 3.4), columns=len(mdps), sharey="row")
    for k, axes in enumerate(grid):
        row_of_panels, column = divmod(k, len(mdps))
        label, (measure, line, meaning) = list(measures.items())[row_of_panels]
        for x, method in enumerate(methods):
            here = [row for row, n in zip(tests, names, strict=True) if n == method]
            values = [measure(row) for row in here if _goal(row) == mdps[column]]
            mean, colour = float(np.mean(values)), method_colour(method)
            text, looks = number(round(mean, 2), 2), {"color": colour, "fontweight": "bold"}
            axes.scatter(np.full(len(values), x), values, s=28, color=colour, alpha=0.6, linewidths=0, zorder=3)
            axes.plot([x - 0.35, x + 0.35], [mean, mean], color=colour, linewidth=2.5, zorder=2)
            note(axes, text, (x, 1), (0, 4), axes.get_xaxis_transform(), **looks)
        axes.axhline(line, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        note(axes, meaning, (1, line), (4, 0), axes.get_yaxis_transform(), ha="left", va="center", color=GREY)
        last = row_of_panels == len(measures) - 1
        axes.set_xticks(range(len(methods)), methods if last else [], rotation=40, ha="right", rotation_mode="anchor")
        axes.set(xlim=(-0.6, len(methods) - 0.4), ylabel=label if column == 0 else "")
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        if row_of_panels == 0:
            axes.set_title(mdps[column], pad=20)
    save(figure, path)


# ---------------------------------------------------------------------- the page

PAGE = """# Figure 2: three goals and one agent

A point starts at the origin and must go to one of three goals, each {radius:.0f} away. It is never told which; after
each of 20 moves, of at most 1 in x and in y, it is paid minus its distance to the goal. The optimum is {optimum:.0f}.
There is a batch of logged transitions for each goal, and no further interaction. The paper (section 5.1) claims that
one Batch SAC for all batches fails, also when it infers an identity as PEARL does, and that tiMe does not.

Here, for each of the seeds {seeds}:

- **{control}**: Batch SAC on the batch of one goal, tested on this goal. It is the control: what fails below does not
  fail because it learns from a batch.
- **pooled**: the same Batch SAC on all batches as if they were one.
- **contextual SAC**: Batch SAC on all batches with PEARL's inference. An identity z stands beside every observation,
  drawn from a product of Gaussians, one a transition of a context. The network that says these Gaussians learns from
  the critic loss and 0.1 KL(q || N(0, I)) alone. With *paper contexts* it sees one random transition of the same batch
  in training, and the latest one of the running episode in the test. With *tiMe contexts* it sees those of the default
  tiMe: of any batch, with rewards relabelled by a learned model, and the whole running episode in the test.
- **tiMe**, our default, and **tiMe (paper)**, with the contexts, the f and the optimiser of the paper.

![returns and values over training, the pooled agent's path, tiMe's final positions](figure2.png)

The values have a panel of their own. They are of an endless, discounted sum of rewards and entropy bonuses, not of 20
rewards; beside them stands what the same policy earns by the same measure, in rollouts of 1,000 steps.

![return and final distance of every method and goal](methods.png)

Mean return over the seeds ± their standard deviation, and the mean final distance to the goal in brackets:

{table}

A method *does well* on a goal if it returns more than {bound:.0f} (half again the optimum: whoever is not told the goal
moves blindly at first) and ends within {near:.0f}, one move, of the goal, each on average over its episodes.

| the paper | here | verdict |
|---|---|---|
{verdicts}
"""


def page(rows: list[Row], out: Path) -> str:
    """Draw figure2.png and methods.png; the table of results and the verdicts."""
    tests, curves = [row for row in rows if "returns" in row], [row for row in rows if "updates" in row]
    draw_figure(curves, tests, out / "figure2.png")
    draw_methods(tests, out / "methods.png")
    return PAGE.format(
        radius=RADIUS,
        optimum=optimum(),
        seeds=", ".join(str(seed) for seed in sorted({row["seed"] for row in tests})),
        control=CONTROL,
        table=_table(tests),
        bound=RETURN,
        near=NEAR,
        verdicts="\n".join(
            f"| {claim.text} | {claim.found}: {sum(claim.held)} of {len(claim.held)} {claim.cases} | {claim.verdict} |"
            for claim in claims(tests, curves)
        ),
    )


def optimum() -> float:
    """The best possible return: the same on all three goals."""
    return max(POINT_GOAL.reference_returns(mdp)["optimal"] for mdp in POINT_GOAL.test_mdps())


def _table(tests: Sequence[Row]) -> str:
    names = method_names(tests)
    mdps = list(dict.fromkeys(_goal(row) for row in tests))
    lines = [f"| method | {' | '.join(mdps)} |", "|---" * (len(mdps) + 1) + "|"]
    for method in dict.fromkeys(names):
        cells = []
        for mdp in mdps:
            here = [r for r, name in zip(tests, names, strict=True) if (name, _goal(r)) == (method, mdp)]
            returns, distance = [r["return_mean"] for r in here], np.mean([r["final_distance"] for r in here])
            spread = f" ± {np.std(returns):.1f}" if len(here) > 1 else ""
            cells.append(f"{np.mean(returns):.1f}{spread} ({distance:.2f})")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _goal(row: Row) -> str:
    return f"goal {number(math.degrees(row['mdp']['goal_angle']))}°"


def arrives(row: Row) -> bool:
    """Whether the episodes end at the goal, however long the way."""
    return float(np.mean(row["final_distance"])) <= NEAR


def does_well(row: Row) -> bool:
    """Near-optimal for who is not told the goal."""
    return row["return_mean"] > RETURN and arrives(row)


class Claim(NamedTuple):
    """What the paper says, what the rows say of it, and in which cases it held."""

    text: str
    found: str
    held: list[bool]
    cases: str = "seeds"
    changed: bool = False  # it holds by one measure and not by another

    @property
    def verdict(self) -> str:
        """Whether it held in all cases, in some or in none."""
        if all(self.held):
            return "holds with a change" if self.changed else "holds"
        return "holds in part" if any(self.held) else "does not hold"


def claims(tests: Sequence[Row], curves: Sequence[Row]) -> list[Claim]:
    """Those of section 5.1, in its order."""
    best, control = optimum(), [row["return_mean"] for row in _of(tests, CONTROL)]
    pooled = _by_seed(_of(tests, POOLED))
    ends = [np.array(some[0]["path"][-1]) for some in pooled]
    to_centre = [float(np.linalg.norm(end - FERMAT)) for end in ends]
    to_goal = [min(float(np.linalg.norm(end - goals(row["mdp"]["goal_angle"]))) for row in pooled[0]) for end in ends]
    beliefs, truths = (
        [np.mean([row[name] for row in some], axis=0) for some in _by_seed(_of(curves, POOLED))]
        for name in ("value_estimate", "discounted_soft_return")
    )
    late = max(1, len(beliefs[0]) // 4)  # points in the last quarter of training
    found = [
        Claim(
            "Batch SAC on one goal's own batch is near-optimal",
            f"it returns {min(control):.1f} to {max(control):.1f}, within 5 % of the optimum {best:.0f}",
            [value >= SLACK * best for value in control],
            "goals and seeds",
        ),
        Claim(
            "pooled Batch SAC fails",
            f"{_goals_done_well(pooled)}; it fails on at least one",
            [not all(map(does_well, some)) for some in pooled],
        ),
        Claim(
            "its value estimates do not diverge, and are far above what it earns",
            f"on average over the goals it believes {np.mean([v[-1] for v in beliefs]):.0f} at the end and earns "
            f"{np.mean([g[-1] for g in truths]):.0f}; belief above truth by more than a tenth, and within a tenth of "
            "what it was a quarter of the training earlier",
            [
                v[-1] - g[-1] > 0.1 * abs(g[-1]) and abs(v[-1] - v[-1 - late]) < 0.1 * abs(v[-1])
                for v, g in zip(beliefs, truths, strict=True)
            ],
        ),
        Claim(
            "it goes to the point closest to the three goals",
            f"it ends {np.mean(to_centre):.1f} from that point, ({FERMAT[0]:.0f}, {FERMAT[1]:.1f}), and "
            f"{np.mean(to_goal):.1f} from the nearest goal; nearer to the point than to any goal",
            [centre < goal for centre, goal in zip(to_centre, to_goal, strict=True)],
        ),
    ]
    for variant in SAMPLING.values():
        contextual = _by_seed(_of(tests, CONTEXTUAL, variant))
        found.append(
            Claim(
                f"Batch SAC with PEARL's inference does not do well on all three goals ({variant})",
                f"{_goals_done_well(contextual)}; it fails on at least one",
                [not all(map(does_well, some)) for some in contextual],
                changed=any(all(map(arrives, some)) for some in contextual),
            )
        )
    for variant in dict.fromkeys(row["variant"] for row in tests if row["method"] == TIME):
        rows = _of(tests, TIME, variant)
        worst = min(row["return_mean"] for row in rows)
        far = max(float(np.mean(row["final_distance"])) for row in rows)
        found.append(
            Claim(
                f"{method_names(rows)[0]} is near-optimal on all three goals",
                f"its worst goal: return {worst:.1f}, final distance {far:.2f}; it does well on all",
                [all(map(does_well, some)) for some in _by_seed(rows)],
            )
        )
    for variant, sampling in SAMPLING.items():
        one, other = (
            np.array([[row["return_mean"] for row in some] for some in _by_seed(rows)])
            for rows in (_of(tests, TIME, variant), _of(tests, CONTEXTUAL, sampling))
        )
        found.append(
            Claim(
                f"{method_names(_of(tests, TIME, variant))[0]} does better than PEARL's inference ({sampling})",
                f"on average it returns {one.mean():.1f}, the other {other.mean():.1f}; it returns more",
                (one > other).ravel().tolist(),
                "goals and seeds",
            )
        )
    return found


def _goals_done_well(seeds: Sequence[Sequence[Row]]) -> str:
    well, there = (
        " or ".join(map(str, sorted({sum(map(measure, some)) for some in seeds}))) for measure in (does_well, arrives)
    )
    return f"it does well on {well} of the three goals, and ends within one move of {there}"


def _of(rows: Iterable[Row], method: str, variant: str = "") -> list[Row]:
    return [row for row in rows if (row["method"], row["variant"]) == (method, variant)]


def _by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row["seed"] == seed] for seed in sorted({row["seed"] for row in rows})]


STUDY = Study(units, page)
