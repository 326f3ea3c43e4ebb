"""SIGKILL at every boundary of a run, and at random moments: the run resumes and ends as if it had not been killed.

A boundary is a system call that changes something in the run directory. All of them are found by tracing an
undisturbed run. Each stage is a command of its own here. It begins on a copy of the undisturbed run's directory,
strace kills it as it enters the boundary, and the same command with ``--resume`` finishes the stage. Then the
directory must be the undisturbed run's at the end of that stage, byte for byte and with nothing left over: what
the later stages read is then the same too.

The kills at random moments strike the command that does everything, several times until it has come to its end.
"""

import json
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bmrl.runs import stopping
from torture import Section
from torture.smoke import Smoke, differences, interval, log_of, lost, reached
from torture.tracing import Boundary, boundaries, kill_at
from torture.trials import Outcome, Trial, carry_out, failures

WORKERS = 2  # trials side by side: each is one process, that for the most part uses one core
NEVER = 65_535  # strace counts no further: a run to the end, which tells where the boundary lies now
SIGNALS = 5  # at random moments, a trial
SECONDS_TO_STOP = 30.0


# ---------------------------------------------------------------------- at every boundary


def kill_everywhere(smoke_of: Callable[[Path], Smoke], place: Path, seconds: float) -> Section:
    """The campaign: a kill at every boundary of every stage of an experiment's smoke run."""
    smoke = smoke_of(place)
    found = {stage: stage_boundaries(smoke, stage) for stage in smoke.stages}
    trials: dict[str, Trial] = {
        f"{stage}, {number}: {boundary.what}": partial(
            kill_and_resume, smoke, stage, [b for b in some[:number] if b.call == boundary.call]
        )
        for stage, some in found.items()
        for number, boundary in enumerate(some, start=1)
    }
    outcomes = carry_out(trials, place, seconds, WORKERS)
    return _boundary_section(smoke.experiment, found, outcomes)


def stage_boundaries(smoke: Smoke, stage: str) -> list[Boundary]:
    """Where a stage of the undisturbed run changes its directory; traced once."""
    kept = smoke.place / f"boundaries-{stage}.json"
    if not kept.exists():
        twin = smoke.after(stage)
        with tempfile.TemporaryDirectory(dir=smoke.place) as place:
            directory = Path(place) / "run"
            smoke.put_before(stage, directory)
            command = smoke.command(smoke.stages[stage], directory)
            found = boundaries(command, smoke.environment, directory, Path(place) / "trace.txt")
            if difference := differences(directory, twin):
                raise RuntimeError(f"two undisturbed runs differ after {stage}: {difference}")
        kept.write_text(json.dumps(found))
    return [Boundary(*fields) for fields in json.loads(kept.read_text())]


def kill_and_resume(smoke: Smoke, stage: str, wanted: Sequence[Boundary], place: Path) -> Outcome:
    """Kill a stage at a boundary, resume it, and compare what it leaves with what the undisturbed run left.

    The boundary is the last of ``wanted``; the others are those before it that are calls of the same name.
    """
    directory = place / "run"
    if failure := _kill(smoke, stage, wanted, directory, place / "trace.txt"):
        return {"failure": failure, "lost": 0}
    before, said = reached(directory), len(log_of(directory))
    if failure := smoke.finish(smoke.stages[stage], directory, resume=True):
        return {"failure": f"cannot be resumed: {failure}", "lost": 0}
    steps = lost(before, log_of(directory)[said:])
    return {"failure": _too_much(before, steps) or differences(directory, smoke.after(stage)), "lost": steps}


def _kill(smoke: Smoke, stage: str, wanted: Sequence[Boundary], directory: Path, log: Path) -> str | None:
    """Make ``directory`` what a stage leaves that is killed at the last of ``wanted``; None if that succeeds."""
    call, number, _ = wanted[-1]
    for _ in range(8):
        shutil.rmtree(directory, ignore_errors=True)
        smoke.put_before(stage, directory)
        command = smoke.command(smoke.stages[stage], directory)
        killed, seen = kill_at(call, number, command, smoke.environment, directory, log)
        if killed and [b.what for b in seen] == [b.what for b in wanted] and seen[-1].number == number:
            return None
        # JAX's cache of programs and its threads may have made more such calls before than in the trace, or fewer.
        number = seen[len(wanted) - 1].number if len(seen) >= len(wanted) else NEVER
    return f"not killed there, but at {call} {number}"


def _too_much(before: tuple[str, int] | None, steps: int) -> str | None:
    """What is wrong with having lost so many steps; None if it was one interval at most."""
    return f"{before} lost {steps} steps" if before and steps > interval(before[0]) else None


def _boundary_section(experiment: str, found: Mapping[str, list[Boundary]], outcomes: Mapping[str, Outcome]) -> Section:
    lines = [
        f"## A kill at every boundary: {experiment}",
        "",
        "SIGKILL as the process enters a system call that changes its run directory, resumption, and a comparison of",
        "every file (arrays, results, pictures; the rows of metrics.csv) with the undisturbed run's.",
        "",
        "| stage | boundaries | of these | killed there | failed | steps lost at most |",
        "|---|---|---|---|---|---|",
    ]
    for stage, some in found.items():
        done = [outcome for name, outcome in outcomes.items() if name.startswith(f"{stage}, ")]
        kinds = ", ".join(f"{count} {call}" for call, count in Counter(b.call for b in some).most_common())
        wrong, most = sum(o["failure"] is not None for o in done), max((o["lost"] for o in done), default=0)
        lines.append(f"| {stage} | {len(some)} | {kinds} | {len(done)} | {wrong} | {most} |")
    failed = failures(outcomes)
    return Section("\n".join([*lines, "", *failed]), len(failed))


# ---------------------------------------------------------------------- at random moments


def kill_at_random(place: Path, seconds: float, kills: int = 200) -> Section:
    """The campaign: SIGKILL at random moments of smoke runs of the point-goal family."""
    outcomes = interrupt(place, seconds, kills, signal.SIGKILL)
    return signals_section("Kills at random moments", signal.SIGKILL, outcomes)


def interrupt(place: Path, seconds: float, signals: int, number: signal.Signals) -> dict[str, Outcome]:
    """Trials of `SIGNALS` signals each, that many in all, at random moments of smoke runs."""
    smoke = Smoke("point-goal", place)
    smoke.after(smoke.last_stage)  # with it the commands' programs are compiled
    with tempfile.TemporaryDirectory(dir=place) as directory:
        began = time.monotonic()
        if failure := smoke.finish(smoke.whole, Path(directory) / "run"):
            raise RuntimeError(f"the undisturbed run failed: {failure}")
        whole = time.monotonic() - began
    trials: dict[str, Trial] = {
        f"seed {seed}": partial(interrupted_runs, smoke, seed, number, whole) for seed in range(signals // SIGNALS)
    }
    return carry_out(trials, place, seconds, WORKERS)


def interrupted_runs(smoke: Smoke, seed: int, number: signal.Signals, seconds: float, place: Path) -> Outcome:
    """As many smoke runs as it takes to send `SIGNALS` signals, each resumed until it ends, and compared then.

    Every signal comes within the ``seconds`` of an undisturbed run after the process has started.
    """
    rng, runs = random.Random(seed), 0
    struck: list[str] = []  # the stage under way at each signal
    most, slowest = 0, 0.0
    failure: str | None = None
    while len(struck) < SIGNALS and not failure:
        directory, ended, before = place / f"run-{runs}", False, None
        while not ended and not failure:
            said = len(log_of(directory))
            delay = rng.uniform(0, seconds) if len(struck) < SIGNALS else None
            attempt = run_and_signal(smoke.command(smoke.whole, directory, True), smoke.environment, number, delay)
            log, ended = log_of(directory)[said:], attempt.code == 0
            again, now = lost(before, log), reached(directory)
            if attempt.signalled and before and now and now[0] == before[0] and now[1] >= before[1]:
                again = 0  # it was stopped before it went on; what it would go on from is on the disk
            failure = _too_much(before, again) or _ended_badly(attempt, number, begun=bool(log))
            before, most, slowest = now, max(most, again), max(slowest, attempt.seconds)
            if attempt.signalled:
                struck.append(before[0] if before else "none" if not log else "between stages or evaluate")
        failure = failure or differences(directory, smoke.after(smoke.last_stage))
        runs += 1
    return {"failure": failure, "struck": struck, "runs": runs, "lost": most, "slowest": slowest}


class Attempt(NamedTuple):
    """A command that ran until it ended or was signalled."""

    code: int
    errors: str
    signalled: bool
    seconds: float  # from the signal to its end


def run_and_signal(
    command: Sequence[str], environment: Mapping[str, str], number: signal.Signals, delay: float | None
) -> Attempt:
    """Run a command, and send it a signal after a delay, if it is not done by then; kill it a minute later."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=delay)
        return Attempt(process.returncode, errors, False, 0.0)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        began = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        process.kill()
        _, errors = process.communicate()
        return Attempt(process.returncode, errors, True, time.monotonic() - began)
    finally:
        process.kill()


def _ended_badly(attempt: Attempt, number: signal.Signals, begun: bool) -> str | None:
    """What is wrong with how a command ended; None if it is as it must be."""
    allowed = {0}  # it may have come to its end before the signal came
    if attempt.signalled:
        allowed |= {-signal.SIGKILL} if number == signal.SIGKILL else {stopping.EXIT_CODE}
        if not begun:  # a signal that came before anything was done ends the process as it ends any other
            allowed |= {-number}
    if attempt.code not in allowed:
        return f"exit code {attempt.code}: {attempt.errors.strip()[-500:]}"
    return f"took {attempt.seconds:.0f} s to end" if attempt.seconds > SECONDS_TO_STOP else None


def signals_section(title: str, number: signal.Signals, outcomes: Mapping[str, Outcome]) -> Section:
    """What came of signals at random moments."""
    struck = Counter(stage for outcome in outcomes.values() for stage in outcome["struck"])
    failed = failures(outcomes)
    lines = [
        f"## {title}",
        "",
        f"{struck.total()} times {number.name} at random moments of {sum(o['runs'] for o in outcomes.values())} smoke "
        "runs (`bmrl run point-goal --scale smoke --variants default paper`), each resumed until it ended.",
        "",
        f"- runs that could not be resumed or ended otherwise than the undisturbed one: {len(failed)}",
        f"- steps lost at most: {max((o['lost'] for o in outcomes.values()), default=0)}",
        f"- seconds from the signal to the process's end, at most: "
        f"{max((o['slowest'] for o in outcomes.values()), default=0.0):.1f}",
        f"- under way: {', '.join(f'{stage} {count}' for stage, count in struck.most_common())}",
        "",
    ]
    return Section("\n".join([*lines, *failed]), len(failed))
