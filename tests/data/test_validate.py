import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bmrl.cli import wide_console
from bmrl.data import read_batch, write_batch
from bmrl.data import validate as module
from bmrl.data.validate import report_table, validate
from bmrl.errors import BmrlError
from bmrl.runs import storage


def write(path, size=6, dim=2, **changed):
    """Episodes of 2, 2, ... transitions, cut; the observations count up, and their last column is 7."""
    observations = np.arange(size + size // 2, dtype=np.float32)[:, None].repeat(dim, axis=1)
    observations[:, -1] = 7
    arrays = {
        "observations": observations,
        "actions": np.linspace(-0.5, 1, size)[:, None],
        "rewards": np.linspace(-3, 4, size),
        "terminations": np.zeros(size, bool),
        "truncations": np.arange(size) % 2 == 1,
    }
    write_batch(path, **{**arrays, "family": "toy", "provenance": {}, **changed})


def spoil(path, field, row, value):
    """Another value in an array, under a manifest whose hashes match: damage that only the reader's checks see."""
    values = np.load(path / f"{field}.npy")
    values[row] = value
    replace(path, **{field: values})


def replace(path, **changed):
    """Other arrays under a manifest whose hashes match."""
    manifest = storage.verify_directory(path)
    arrays = {name: np.load(path / name) for name in manifest["files"]}
    for field, values in changed.items():
        arrays[f"{field}.npy"] = values
        manifest["files"][f"{field}.npy"] |= {"shape": values.shape}

    def fill(directory):
        for name, array in arrays.items():
            np.save(directory / name, array)

    storage.commit_directory(path, fill, manifest)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_a_batch_holds(tmp_path):
    terminations = np.array([0, 1, 0, 0, 0, 0], bool)
    write(tmp_path / "mdp-000", terminations=terminations, infos={"v": np.zeros(6)})
    report = validate(tmp_path)
    found = report.mdps["mdp-000"]
    assert (found.transitions, found.episodes, found.lengths) == (6, 3, (2, 2.0, 2))
    assert (found.terminations, found.truncations) == (1, 3)
    assert (found.rewards, found.actions) == ((-3.0, 4.0), (-0.5, 1.0))
    assert (found.constants, found.columns, found.infos, found.duplicates) == ([1], 2, ["v"], 0.0)
    assert report.problems == report.notes == []


def test_lengths_of_unequal_episodes(tmp_path):
    write(tmp_path / "mdp-000", truncations=np.array([1, 0, 0, 0, 0, 1]), observations=np.zeros((8, 2)))
    assert validate(tmp_path).mdps["mdp-000"].lengths == (1, 3.0, 5)


@pytest.mark.parametrize("hashed_bytes", [1, 1 << 24])
def test_transitions_that_repeat_others_are_counted(tmp_path, monkeypatch, hashed_bytes):
    """Episode 2 repeats episode 0 whole; the last one is the same but for one number."""
    monkeypatch.setattr(module, "_HASHED_BYTES", hashed_bytes)
    observations, actions, rewards = np.tile([[0, 1], [2, 3], [4, 5]], (4, 1)), np.zeros((8, 1)), np.zeros(8)
    observations[3:6] += 10
    rewards[6:] = np.nextafter(np.float32(0), np.float32(1))
    write(tmp_path / "mdp-000", size=8, observations=observations, actions=actions, rewards=rewards)
    assert validate(tmp_path).mdps["mdp-000"].duplicates == 2 / 8


def test_one_problem_hides_no_other(tmp_path):
    for number in (0, 1, 2, 3, 4, 6):
        write(tmp_path / f"mdp-{number:03d}", dim=3 if number == 6 else 2, family="other" if number == 6 else "toy")
    spoil(tmp_path / "mdp-000", "observations", (4, 1), np.nan)
    flip(tmp_path / "mdp-001" / "rewards.npy")
    spoil(tmp_path / "mdp-002", "actions", (3, 0), 1.5)
    os.truncate(tmp_path / "mdp-004" / "actions.npy", 140)
    report = validate(tmp_path)
    assert [name for name, found in report.mdps.items() if found] == ["mdp-003", "mdp-006"]
    assert list(report.mdps) == [f"mdp-{number:03d}" for number in (0, 1, 2, 3, 4, 6)]
    expected = [
        "holds mdp-006 but not mdp-005",
        "mdp-000: observations has nan at row 4, column 1; a finite float32 is needed",
        "mdp-001/rewards.npy was altered",
        "mdp-002: actions has 1.5 at row 3, column 0; actions must be scaled to [-1, 1]",
        "mdp-004/actions.npy has 140 bytes, its manifest says",
        "mdp-003 and mdp-006 differ in family: 'toy' and 'other'",
        "mdp-003 and mdp-006 differ in observation dimension: 2 and 3",
    ]
    assert len(report.problems) == len(expected)
    for says, problem in zip(expected, report.problems, strict=True):
        assert says in problem and str(tmp_path) in problem


def test_one_problem_of_an_mdp_hides_no_other(tmp_path):
    """Every field is told, and the first row of each kind; what is wrong with one file is told once."""
    path = tmp_path / "mdp-000"
    write(path, infos={"v": np.zeros(6)})
    observations, actions = np.zeros((8, 2), np.float32), np.zeros((6, 1), np.float32)
    observations[[3, 5], 1] = np.nan
    actions[1:, 0] = -np.inf, 2, 3, np.nan, 1
    replace(path, observations=observations, actions=actions, rewards=np.zeros(5, np.float32))
    flip(path / "infos.v.npy")
    (path / "notes.txt").touch()
    expected = [
        "holds 'notes.txt', which manifest.json does not list",
        "infos.v.npy was altered",
        "actions has -inf at row 1, column 0; a finite float32 is needed",
        "actions has 2.0 at row 2, column 0; actions must be scaled to [-1, 1]",
        "observations has nan at row 3, column 1; a finite float32 is needed",
        "rewards has shape [5], actions [6, 1]; both need one row a transition",
        "observations has 8 rows, 9 are needed",
    ]
    problems = validate(tmp_path).problems
    assert len(problems) == len(expected)
    for says, problem in zip(expected, problems, strict=True):
        assert says in problem and str(path) in problem
    with pytest.raises(BmrlError) as caught:
        read_batch(path)
    assert str(caught.value) == problems[0]


def test_what_training_takes_is_a_note_at_most(tmp_path):
    write(tmp_path / "mdp-000")
    write(tmp_path / "mdp-001", infos={"v": np.zeros(6)})
    write(tmp_path / "mdp-002", size=60)
    report = validate(tmp_path)
    assert report.problems == []
    assert len(report.notes) == 3
    assert "mdp-000 and mdp-001 differ in info fields: [] and ['v']" in report.notes[0]
    assert "mdp-002 is 10 times as large as the median MDP" in report.notes[1]
    assert report.notes[2].endswith("the same data in mdp-000, mdp-001")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"observations": np.ones((9, 2))}, "no observation ever changes"),
        ({"actions": np.stack([np.linspace(-1, 1, 6), np.full(6, 0.5)], axis=1)}, "components that never change"),
        (
            {"truncations": np.arange(6) == 5, "observations": np.random.default_rng(0).normal(size=(7, 2))},
            "nothing ends an episode before the data ends",
        ),
    ],
)
def test_logs_that_are_hardly_so_on_purpose_are_a_note(tmp_path, changed, says):
    write(tmp_path / "mdp-000", **{"actions": np.linspace(-1, 1, 12).reshape(6, 2), **changed})
    write(tmp_path / "mdp-001", actions=np.linspace(-1, 1, 12).reshape(6, 2))
    report = validate(tmp_path)
    assert report.problems == []
    (note,) = report.notes
    assert says in note and note.endswith(": mdp-000")


def test_all_damaged(tmp_path):
    write(tmp_path / "mdp-000")
    (tmp_path / "mdp-000" / "manifest.json").unlink()
    report = validate(tmp_path)
    assert report.mdps == {"mdp-000": None} and len(report.problems) == 1


def test_what_is_named_like_a_batch_and_is_none_is_told(tmp_path):
    write(tmp_path / "mdp-000")
    (tmp_path / "mdp-002").touch()
    (problem,) = validate(tmp_path).problems
    assert "mdp-002 is named like a batch" in problem


def test_batches_that_are_a_link_in_a_run_are_refused(tmp_path):
    """Though the directory that a person names may be one."""
    write(tmp_path / "batches" / "mdp-000")
    (tmp_path / "run").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "batches")
    assert validate(tmp_path / "mine").problems == []
    (tmp_path / "run" / "batches").symlink_to(tmp_path / "batches")
    with pytest.raises(BmrlError, match="run/batches is a symbolic link"):
        validate(tmp_path / "run")


def test_no_batches(tmp_path):
    for path, says in [(tmp_path, "holds no batches"), (tmp_path / "none", "no such directory")]:
        with pytest.raises(BmrlError, match=says):
            validate(path)


def test_the_table_has_a_line_an_mdp(tmp_path):
    for number in range(3):
        write(tmp_path / f"mdp-{number:03d}", size=6000)
    flip(tmp_path / "mdp-001" / "rewards.npy")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report_table(validate(tmp_path)))
    lines = [" ".join(line.split()) for line in capture.get().splitlines() if line.strip().startswith("mdp-")]
    assert lines[0] == "mdp-000 6,000 3,000 2/2/2 0 3,000 0.0% [-3, 4] [-0.5, 1] 1 yes"
    assert lines[1] == "mdp-001 – – – – – – – – – no"
    assert len(lines) == 3


def test_imported_mdps_have_the_users_names(tmp_path):
    write(tmp_path / "mdp-000", provenance={"imported": "north [old]"})
    write(tmp_path / "mdp-001")
    write(tmp_path / "mdp-002")
    flip(tmp_path / "mdp-002" / "rewards.npy")
    console = wide_console()
    with console.capture() as capture:
        console.print(report_table(validate(tmp_path)))
    lines = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert any(line.startswith("mdp-000 north [old] ") for line in lines)
    assert any(line.startswith("mdp-001 – ") for line in lines)
    assert "mdp-002 – – – – – – – – – – no" in lines


def test_many_constant_columns_are_counted(tmp_path):
    write(tmp_path / "mdp-000", observations=np.ones((9, 12)))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report_table(validate(tmp_path)))
    assert "12 of 12" in capture.get()


def test_the_command(tmp_path):
    """A run directory will do; the verdict is the last line and the exit code; JAX is not needed."""
    write(tmp_path / "run" / "batches" / "mdp-000")
    code = (
        "import atexit, sys; from bmrl.cli import main\n"
        "atexit.register(lambda: print('jax' in sys.modules, file=sys.stderr))\n"
        "sys.argv = ['bmrl', 'data', 'validate', sys.argv[1]]; main()"
    )
    command = [sys.executable, "-c", code, tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert "mdp-000" in done.stdout
    accepted = f"training would accept {tmp_path / 'run' / 'batches'} (number of MDPs: 1)"
    assert done.stdout.splitlines()[-1] == accepted

    flip(tmp_path / "run" / "batches" / "mdp-000" / "rewards.npy")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "problem: " in done.stdout and "rewards.npy was altered" in done.stdout
    assert done.stderr.splitlines()[0].startswith("error: training would refuse ")


def test_a_large_batch_takes_little_memory(tmp_path):
    """The arrays, 128 MiB, do not fit into what the process may hold beside 8 bytes a transition."""
    rows = 1 << 20
    code = """
import resource, sys
from pathlib import Path
from bmrl.data.validate import validate
before = int(open("/proc/self/status").read().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, ((before << 10) + 8 * int(sys.argv[2]) + (64 << 20),) * 2)
assert validate(Path(sys.argv[1])).mdps["mdp-000"].duplicates > 0.9
"""
    ends = np.zeros(rows, bool)
    ends[-1] = True
    write_batch(
        tmp_path / "mdp-000",
        observations=np.broadcast_to(np.float32(0), (rows + 1, 32)),
        actions=np.broadcast_to(np.float32(0), (rows, 1)),
        rewards=np.zeros(rows, np.float32),
        terminations=ends,
        truncations=ends,
        provenance={},
    )
    command = [sys.executable, "-c", code, tmp_path, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_of_a_thousand_mdps_the_last_comes_last(tmp_path):
    for number in (0, 1000, 101):
        Path(tmp_path / f"mdp-{number:03d}").mkdir()
    assert list(validate(tmp_path).mdps) == ["mdp-000", "mdp-101", "mdp-1000"]
