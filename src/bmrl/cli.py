"""The command line. Heavy imports wait until a command runs, so that ``bmrl --help`` answers at once."""

import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bmrl.engine import LOCAL, Engine
from bmrl.errors import BmrlError, NotSavedError
from bmrl.runs import stopping
from bmrl.runs.progress import warn_on_terminal

if TYPE_CHECKING:
    from rich.console import Console

Directory = Annotated[Path, tyro.conf.Positional]


@dataclass
class Run:
    """All stages: collect batches, teach K learners, distil them into one student, test it zero-shot."""

    experiment: Annotated[str, tyro.conf.Positional]
    """point-goal, halfcheetah-velocity, hopper-velocity, halfcheetah-dynamics, halfcheetah-velocity-dynamics,
    thermostat, or own (with --family, or your logs in OUT/batches)"""
    out: Path
    """the run directory to make"""
    scale: str = "laptop"
    """smoke (to try the program), laptop (minutes to an hour or so on two cores) or paper (the paper's sizes)"""
    seed: int = 0
    """seed of everything"""
    resume: bool = False
    """go on with the run in OUT"""
    family: str | None = None
    """a family of your own, PATH.py:NAME: this file is run"""
    variants: tuple[str, ...] = ("default",)
    """students to distil: default (our choices), paper (the paper's contexts, f and optimiser; not where dynamics
    vary), reward-only (where dynamics vary: without the next-state head)"""
    leave_out_diverged: bool = False
    """distil without the MDPs whose learners diverged, if any did"""
    engine: tyro.conf.OmitArgPrefixes[Engine] = LOCAL


@dataclass
class Collect:
    """Stage 1 alone: SAC in every train MDP; its replay buffers are the batches (thermostat: logs of controllers)."""

    experiment: Annotated[str, tyro.conf.Positional]
    """point-goal, halfcheetah-velocity, hopper-velocity, halfcheetah-dynamics, halfcheetah-velocity-dynamics,
    thermostat, or own (with --family, or your logs in OUT/batches)"""
    out: Path
    """the run directory to make"""
    scale: str = "laptop"
    """smoke (to try the program), laptop (minutes to an hour or so on two cores) or paper (the paper's sizes)"""
    seed: int = 0
    """seed of everything"""
    resume: bool = False
    """go on with the run in OUT"""
    family: str | None = None
    """a family of your own, PATH.py:NAME: this file is run"""
    engine: tyro.conf.OmitArgPrefixes[Engine] = LOCAL


@dataclass
class Teach:
    """Stage 2 alone: a batch-RL learner for each batch of a run directory."""

    directory: Directory
    """a run directory with batches"""
    variants: tuple[str, ...] = ("default",)
    """students that will be distilled from the learners: default (our choices), paper (the paper's learners)"""
    resume: bool = False
    """go on after an interruption"""
    family: str | None = None
    """a family of your own, PATH.py:NAME: this file is run"""
    engine: tyro.conf.OmitArgPrefixes[Engine] = LOCAL


@dataclass
class Distill:
    """Stage 3 alone: the teachers of a run directory into one student."""

    directory: Directory
    """a run directory with batches and teachers"""
    variants: tuple[str, ...] = ("default",)
    """students to distil: default (our choices), paper (the paper's contexts, f and optimiser; not where dynamics
    vary), reward-only (where dynamics vary: without the next-state head)"""
    leave_out_diverged: bool = False
    """distil without the MDPs whose learners diverged, if any did"""
    resume: bool = False
    """go on after an interruption"""
    family: str | None = None
    """a family of your own, PATH.py:NAME: this file is run"""


@dataclass
class Evaluate:
    """Stage 4 alone: test the students of a run directory zero-shot, on any MDPs of the family."""

    directory: Directory
    """a run directory with students"""
    mdp: tuple[str, ...] = ()
    """parameters of the MDP to test on, e.g. target_velocity=0.6; none: the family's test MDPs"""
    split: str = "test"
    """which of the family's MDPs to test on, if no --mdp is given: test or validation"""
    episodes: int | None = None
    """episodes an MDP; the experiment's own number if not given"""
    context: str = "episode"
    """where the identity comes from: episode, none (blank), or a directory of logs of the MDP"""
    family: str | None = None
    """a family of your own, PATH.py:NAME: this file is run"""


@dataclass
class Judge:
    """A policy's value in the MDPs of logs, from the logs alone; goes on where it was stopped."""

    directory: Directory
    """a run directory with students"""
    out: Path
    """directory of judgement.json and its picture"""
    logs: Path | None = None
    """a directory of batches, of MDPs that are new or not; the run's own if not given"""
    variant: str = "default"
    """the student to judge"""
    members: int = 5
    """how often the values are fitted, each time to other episodes; their spread is the interval"""
    updates: int = 20_000
    """gradient steps of each fit"""
    discount: float | None = None
    """what a reward is worth a step later; the learners' own if not given"""


@dataclass
class Reproduce:
    """The paper's figures and claims, each from data to page; goes on where it was stopped."""

    study: Annotated[str, tyro.conf.Positional]
    """figure2, figure3, baselines, cem-ablation, proposition1, identity, dynamics, thermostat or judging"""
    out: Path
    """directory of results.json, README.md and the pictures; finished units in it are not done again"""
    scale: str = "laptop"
    """smoke (to try the program), laptop (minutes to hours on two cores) or paper (the paper's sizes)"""
    seeds: str = "0-4"
    """seeds, e.g. 0-4 or 0,2,5"""
    runs: Path | None = None
    """where the big run directories go, which studies can share; OUT/runs if not given"""
    only: str = "*"
    """do only the units whose names fit this pattern, e.g. 'hopper*'"""


@dataclass
class Validate:
    """What the batches hold, a line an MDP, every problem in them, and whether training would accept them."""

    directory: Directory
    """a directory of batches mdp-000, mdp-001, ..., or a run directory with batches"""


@dataclass
class Import:
    """Logs (CSV, Parquet, NPZ, HDF5, Minari) into batches, by a mapping that says which column is what."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]
    """files, patterns, directories of files or of Minari datasets"""
    mapping: Path
    """a TOML file; 'bmrl data suggest' drafts it"""
    out: Path
    """the directory of batches to make, DIR/batches where 'bmrl run' is to find them in DIR"""
    reward: str | None = None
    """module:function or path.py:function, run for logs without rewards: observations [n, d_s], actions [n, d_a] as
    logged, next observations [n, d_s] -> rewards [n]"""


@dataclass
class Suggest:
    """Draft a mapping from a file of logs, to be looked at before 'bmrl data import' uses it."""

    source: Annotated[str, tyro.conf.Positional]
    """a file, or a Minari dataset's directory"""


@dataclass
class Export:
    """Batches as Minari datasets, one an MDP, in Minari's own directory."""

    directory: Directory
    """a directory of batches mdp-000, mdp-001, ..., or a run directory with batches"""
    minari: str
    """NAMESPACE/FAMILY: the datasets are NAMESPACE/FAMILY/SPLIT/mdp-000-v0, ..."""
    split: str = "train"
    """what the MDPs are for: train or test"""
    family: str | None = None
    """PATH.py:NAME, the family of your own of which the batches are: so that its environments can be recovered"""


@dataclass
class Data:
    """Batches: made from logs, looked at before training does, or given away."""

    command: tyro.conf.OmitSubcommandPrefixes[
        tyro.conf.OmitArgPrefixes[
            Annotated[Import, tyro.conf.subcommand("import")]
            | Annotated[Suggest, tyro.conf.subcommand("suggest")]
            | Annotated[Validate, tyro.conf.subcommand("validate")]
            | Annotated[Export, tyro.conf.subcommand("export")]
        ]
    ]


@dataclass
class ExportPolicy:
    """A student as a directory of weights and bounds that bmrl.runtime acts by, where there is nothing but NumPy."""

    directory: Directory
    """a run directory with students"""
    out: Path
    """the directory to make; a policy that is there is replaced"""
    variant: str = "default"
    """the student to export"""
    fallback: tuple[float, ...] = ()
    """the action where an observation cannot be used, a number each component; the mean logged one if not given"""


@dataclass
class Policy:
    """Trained policies: take them away."""

    command: tyro.conf.OmitSubcommandPrefixes[
        tyro.conf.OmitArgPrefixes[
            # One class alone would be no subcommand: the None, which nobody can choose, makes it one.
            Annotated[ExportPolicy, tyro.conf.subcommand("export")] | Annotated[None, tyro.conf.Suppress]
        ]
    ]


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Collect, tyro.conf.subcommand("collect")]
    | Annotated[Teach, tyro.conf.subcommand("teach")]
    | Annotated[Distill, tyro.conf.subcommand("distill")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Judge, tyro.conf.subcommand("judge")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Policy, tyro.conf.subcommand("policy")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
)


def main() -> None:
    """Entry point. Exit code 0: all went well; 2: a mistake of the user's, told in one line; 74: a file or the output
    could not be written or read; 75: stopped.
    """
    command = tyro.cli(
        Command, prog="bmrl", description="Batch meta-RL: from logs of many MDPs to one policy for unseen ones."
    )
    warn_on_terminal()
    stopping.listen()
    try:
        execute(command)
        sys.stdout.flush()
    except BmrlError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        from bmrl.runs.progress import hush

        hush()
        what = f"{error.filename or 'what is printed'} cannot be read or written ({error.strerror})"
        print(f"error: {what}; mend that, or choose another place", file=sys.stderr)
        sys.exit(NotSavedError.exit_code)
    except stopping.Stopped:
        print(f"stopped: {how_to_go_on(command)}", file=sys.stderr)
        sys.exit(stopping.EXIT_CODE)
    except (MemoryError, RuntimeError) as error:
        from bmrl import parallel

        if not (isinstance(error, MemoryError) or parallel.out_of_memory(error)):
            raise
        said = str(error).partition("\n")[0] or "no memory left"
        print(f"error: {said}: where there is more memory, {how_to_go_on(command)}", file=sys.stderr)
        sys.exit(2)


def how_to_go_on(command: Command) -> str:
    """What a command that was broken off has left, and what its user says next."""
    match command:
        case Run() | Collect() | Teach() | Distill():
            return "what was done is saved, the same command with --resume goes on"
        case Judge() | Reproduce():
            return "what was done is saved, the same command goes on"
        case _:
            return "nothing is half done, the same command begins anew"


def execute(command: Run | Collect | Teach | Distill | Evaluate | Judge | Data | Policy | Reproduce) -> None:
    """Run one command."""
    if isinstance(command, Data):
        return execute_data(command.command)
    with stopping.saving_first():  # a signal that ends an import of compiled code can crash the process
        from bmrl import parallel, pipeline
        from bmrl.engine import parts
        from bmrl.experiments import get_experiment

        if not isinstance(command, Policy):  # which draws nothing: Matplotlib stays out
            from bmrl import report, workflow
    stopping.stop_if_asked()
    parallel.set_up_jax()
    parallel.mend_cache()
    if isinstance(command, Reproduce):
        with stopping.saving_first():
            from bmrl.reproduce import reproduce
        stopping.stop_if_asked()
        return reproduce(command.study, command.scale, command.seeds, command.out, command.runs, command.only)
    if isinstance(command, Policy):
        assert command.command is not None
        return export_student(command.command)
    if isinstance(command, Judge):
        from bmrl.judge import judge_stage

        return judge_stage(
            pipeline.open_run(command.directory),
            command.out,
            command.logs,
            command.variant,
            command.members,
            command.updates,
            command.discount,
        )
    directory = command.out if isinstance(command, Run | Collect) else command.directory
    if isinstance(command, Run | Collect):
        experiment = pipeline.with_family(
            get_experiment(command.experiment, command.scale, command.seed), command.family
        )
        pipeline.check_place(directory, command.resume)
    else:
        experiment = pipeline.open_run(directory).experiment
        pipeline.check_family(experiment, command.family)
    if isinstance(command, Run | Teach | Distill):
        pipeline.check_variants(experiment, command.variants)
    if isinstance(command, Run | Collect | Teach):
        parts.check_engine(directory, command.engine)
    with pipeline.working_on_run(directory, experiment) as run:
        logging.getLogger("bmrl").info("bmrl %s", shlex.join(sys.argv[1:]))
        if not isinstance(command, Evaluate):
            pipeline.note_machine(run)
        if isinstance(command, Run):
            left_out = command.leave_out_diverged
            workflow.all_stages(run, command.variants, command.resume, left_out, command.engine, command.family)
        if isinstance(command, Collect):
            parts.collect_stage(run, command.engine, command.family)
        if isinstance(command, Teach):
            parts.phase_1_stages(run, command.variants, command.resume, command.engine)
        if isinstance(command, Distill):
            for variant in command.variants:
                pipeline.distill_stage(run, variant, command.resume, command.leave_out_diverged)
        if isinstance(command, Evaluate):
            report.evaluate_stage(run, command.mdp, command.split, command.episodes, command.context)


def export_student(command: ExportPolicy) -> None:
    """Export a policy; raises BmrlError where there is none to export."""
    from bmrl.pipeline import open_run
    from bmrl.policy import export_policy

    export_policy(open_run(command.directory), command.out, command.variant, command.fallback)
    print(f"exported to {command.out}: bmrl.runtime.Policy.load({str(command.out)!r}) reads it")


def execute_data(command: Import | Suggest | Validate | Export) -> None:
    """Run one command on data; none of them needs JAX."""
    if isinstance(command, Validate):
        print_report(command.directory)
    elif isinstance(command, Import):
        print_imported(command)
    elif isinstance(command, Suggest):
        from bmrl.data.suggest import suggest

        print(suggest(command.source), end="")
    else:
        from bmrl.minari_export import export_minari

        for dataset in export_minari(command.directory, command.minari, command.split, command.family):
            print(dataset)


def print_imported(command: Import) -> None:
    """Import logs and print what they became; raises BmrlError if they were refused."""
    from bmrl.data.import_report import counts_table, problems_table
    from bmrl.data.importing import import_logs

    imported = import_logs(command.sources, command.mapping, command.out, command.reward)
    console = wide_console()
    console.print(counts_table(imported))
    if imported.problems:
        console.print(problems_table(imported))
        raise BmrlError(f"nothing was imported: change {command.mapping} as said above ({len(imported.problems)})")
    print(f"imported into {command.out} (number of MDPs: {len(imported.mdps)}); look at it: bmrl data validate")


def wide_console() -> "Console":
    """A console for tables with long lines."""
    from bmrl.runs.progress import Screen

    console = Screen()
    if not console.is_terminal:
        console.width = 200  # a file's lines may be long
    return console


def print_report(directory: Path) -> None:
    """Print what the batches hold and every problem in them; raises BmrlError if training would refuse them."""
    from bmrl.data.validate import report_table, validate

    report = validate(directory)
    wide_console().print(report_table(report))
    for kind, lines in (("note", report.notes), ("problem", report.problems)):
        for line in lines:
            print(f"{kind}: {line}")
    if report.problems:
        raise BmrlError(f"training would refuse {report.root}: mend the problems above ({len(report.problems)})")
    print(f"training would accept {report.root} (number of MDPs: {len(report.mdps)})")
