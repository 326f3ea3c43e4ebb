"""The campaigns on programs that are small enough for seconds, sound ones and broken ones."""

import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from torture.kills import (
    Attempt,
    _ended_badly,
    _too_much,
    interrupted_runs,
    kill_and_resume,
    kill_everywhere,
    run_and_signal,
    stage_boundaries,
)
from torture.smoke import Smoke, differences, lost, reached
from torture.tracing import read_trace

# Adds up 10 + 20, with a checkpoint after each. {write} is how it saves one.
PROGRAM = """
import json, sys
from pathlib import Path
from bmrl.runs.storage import read_json, write_json
directory, state = Path(sys.argv[1]), Path(sys.argv[1]) / "state.json"
directory.mkdir(exist_ok=True)
step, total = read_json(state) if state.exists() else (0, 0)
with open(directory / "log.txt", "a") as log:
    log.write("INFO sum: started\\n" + (f"INFO going on from sum/step-{{step}}\\n" if step else ""))
while step < 20:
    step, total = step + 10, total + step + 10
    {write}
write_json(directory / "results.json", total)
"""
ATOMIC = "write_json(state, [step, total])"
IN_PLACE = "state.write_text(json.dumps([step, total]))"
FORGETFUL = "write_json(state, [step, total % 10])"
WRONG = "total += 1"


@dataclass(frozen=True)
class Toy(Smoke):
    """A program of one stage in the place of `bmrl`."""

    write: str = ATOMIC

    @property
    def stages(self):
        return {"sum": ("sum",)}

    @property
    def whole(self):
        return ("sum",)

    def command(self, words, directory, resume=False):
        return [sys.executable, "-c", PROGRAM.format(write=self.write), str(directory)]


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def failure_at(what: str, toy: Toy) -> str | None:
    """Of the first boundary of that description."""
    found = stage_boundaries(toy, "sum")
    number = [boundary.what for boundary in found].index(what)
    with tempfile.TemporaryDirectory() as place:
        wanted = [boundary for boundary in found[: number + 1] if boundary.call == found[number].call]
        return kill_and_resume(toy, "sum", wanted, Path(place))["failure"]


@needs_strace
def test_a_sound_program_survives_a_kill_at_every_boundary(tmp_path):
    section = kill_everywhere(partial(Toy, "toy"), tmp_path, 1e9)
    saves = ["openat .state.json.tmp-*", "write .state.json.tmp-*", "fsync .state.json.tmp-*"]
    saves += ["rename .state.json.tmp-* state.json", "fsync ."]
    results = [save.replace("state", "results") for save in saves]
    found = [boundary.what for boundary in stage_boundaries(Toy("toy", tmp_path), "sum")]
    assert found == ["mkdir .", "openat log.txt", "write log.txt", *saves * 2, *results]
    assert section.failures == 0
    assert "| sum | 18 | 6 fsync, 4 openat, 4 write, 3 rename, 1 mkdir | 18 | 0 | 0 |" in section.text


@needs_strace
def test_programs_that_do_not_survive_are_found_out(tmp_path):
    in_place, forgetful = Toy("toy", tmp_path / "in-place", IN_PLACE), Toy("toy", tmp_path / "forgetful", FORGETFUL)
    assert "cannot be resumed" in failure_at("write state.json", in_place)  # it is empty then
    assert failure_at("openat .results.json.tmp-*", in_place) is None
    assert failure_at("write .state.json.tmp-*", forgetful) is None  # nothing to forget yet
    assert "not as undisturbed: results.json" in failure_at("openat .results.json.tmp-*", forgetful)


@needs_strace
def test_a_boundary_is_found_though_other_calls_came_before(tmp_path):
    toy = Toy("toy", tmp_path)
    writes = [boundary for boundary in stage_boundaries(toy, "sum") if boundary.call == "write"]
    for shift in (-1, 1):
        moved = [boundary._replace(number=boundary.number + shift) for boundary in writes]
        (tmp_path / f"{shift}").mkdir()
        assert kill_and_resume(toy, "sum", moved[:2], tmp_path / f"{shift}")["failure"] is None


def test_signals_at_random_moments(tmp_path):
    sound = Toy("toy", tmp_path)
    sound.after("sum")
    for toy, failure in ((sound, None), (Toy("toy", tmp_path, WRONG), "not as undisturbed: results.json, state.json")):
        place = tmp_path / toy.write
        place.mkdir()
        outcome = interrupted_runs(toy, 0, signal.SIGKILL, 0.3, place)
        assert outcome["failure"] == failure
        assert len(outcome["struck"]) == 5 or failure


def test_a_thread_that_changes_the_directory_is_named(tmp_path):
    trace = tmp_path / "trace.txt"
    first = '7 openat(AT_FDCWD</>, "/d/x", O_RDONLY) = 3</d/x>\n7 write(3</d/x>, ""..., 5 <unfinished ...>\n'
    trace.write_text(
        first + '8 write(1</dev/null>, ""..., 9) = 9\n7 <... write resumed>) = 5\n7 rmdir("/d/y") = -1 E (e)\n'
    )
    assert [(b.call, b.number, b.what) for b in read_trace(trace, Path("/d"))] == [("write", 1, "write x")]
    trace.write_text(first + "8 fsync(3</d/x>) = 0\n")
    with pytest.raises(RuntimeError, match="second thread"):
        read_trace(trace, Path("/d"))


def test_how_far_a_run_came_and_what_it_does_again(tmp_path):
    assert reached(tmp_path) is None
    (tmp_path / "log.txt").write_text("t INFO collect: started\nt INFO collect: finished after 4 s\n")
    assert reached(tmp_path) is None
    with open(tmp_path / "log.txt", "a") as log:
        log.write("t INFO teach-default: started\n")
    assert reached(tmp_path) == ("teach-default", 0)
    (tmp_path / "checkpoints" / "teach-default" / "step-000000020").mkdir(parents=True)
    (tmp_path / "checkpoints" / "teach-default" / ".step-000000040.tmp-12345678").mkdir()
    (tmp_path / "metrics.csv").write_text(
        "stage,step,learner,name,value\nteach-default,30,0,loss,1.0\ncollect,400,,x,1\n"
    )
    before = reached(tmp_path)
    assert before == ("teach-default", 30)
    assert lost(before, "") == 0
    resumed = "t INFO bmrl run\nt INFO teach-default: started\n"
    assert lost(before, resumed) == 30
    going_on = "t INFO going on from x/checkpoints/teach-default/step-000000020\n"
    assert lost(before, resumed + going_on) == lost(before, resumed + "t WARNING slow\n" + going_on) == 10
    assert lost(before, resumed + "t INFO distill-default: started\n" + going_on) == 30
    assert _too_much(before, 10) is None and "lost 20" in _too_much(before, 20)


def test_rows_of_metrics_may_come_in_another_order(tmp_path):
    for name, rows in {"a": ("x", "y"), "b": ("y", "x"), "c": ("y", "y")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text("".join(f"{row}\n" for row in rows))
    assert differences(tmp_path / "a", tmp_path / "b") is None
    assert differences(tmp_path / "a", tmp_path / "c") == "not as undisturbed: metrics.csv"


def test_a_signal_is_sent_and_its_end_judged():
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    ended = run_and_signal(sleep, {}, signal.SIGTERM, 0.5)
    assert ended.signalled and ended.code == -signal.SIGTERM and ended.seconds < 30
    assert _ended_badly(ended, signal.SIGTERM, begun=False) is None
    assert "exit code -15" in _ended_badly(ended, signal.SIGTERM, begun=True)
    assert _ended_badly(Attempt(75, "", True, 1.0), signal.SIGTERM, begun=True) is None
    assert "took 31 s" in _ended_badly(Attempt(75, "", True, 31.0), signal.SIGTERM, begun=True)
    assert "exit code 75" in _ended_badly(Attempt(75, "", False, 0.0), signal.SIGTERM, begun=True)
    assert "exit code 2" in _ended_badly(Attempt(2, "", True, 0.0), signal.SIGKILL, begun=True)
