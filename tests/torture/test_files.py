"""The campaigns of torture/files.py, with few trials; and that they see what they are to see."""

import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from bmrl.runs import storage
from torture import files
from torture.kinds import KINDS, Kind
from torture.mutations import reseal


@pytest.fixture(scope="module")
def reader():
    reader = files.Reader(KINDS)
    yield reader
    reader.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_files(reader, kind):
    tally = files.torture(kind, reader, range(8))
    assert tally.failures == {}
    assert tally.outcomes[files.REFUSED] > 0 and tally.outcomes.total() + tally.forged.total() == 8


def test_hostile_files(reader):
    assert {each: found for each in files.FILES if (found := files.harm(each, reader))[0] != files.REFUSED} == {}


def test_the_report_names_what_failed():
    tally = files.Tally()
    tally.add(files.Trial("it was flipped", forged=False), files.FAILED, "KeyError", 0.5)
    tally.add(files.Trial("it was cut", forged=True), files.REFUSED, "is no JSON", 1.25)
    hostile = {files.FILES[0]: (files.FAILED, "executed its payload"), files.FILES[1]: (files.REFUSED, "")}
    report = files.section(300, {"x.json": tally}, hostile)
    assert "| x.json | 1 | 0 | 0 | 0 | 1 | 1 | 0 | 0 | 1 | 1.25 s |" in report
    assert "Hostile files: 2 " in report and "; 1 refused" in report
    assert "- FAILED: x.json: KeyError (it was flipped)" in report
    assert f"- FAILED: {files.FILES[0].what} as batch arrays: executed its payload" in report


# ---------------------------------------------------------------------- readers that do what none may do


def make(root: Path) -> None:
    def write(directory: Path) -> None:
        (directory / "x").write_bytes(b"content")

    storage.commit_directory(root / "it", write, {})


def read(root: Path) -> bytes:
    """Trusts whatever it finds, and obeys."""
    content = (root / "it" / "x").read_bytes()
    match content:
        case b"raise":
            raise KeyError("content")
        case b"die":
            os._exit(3)
        case b"hang":
            time.sleep(60)
        case b"fill":
            np.ones(2 * files.DATA_BYTES, np.uint8)
        case b"stray":
            Path("/etc/hostname").exists() and Path("/etc/passwd").read_bytes()
        case b"run":
            pickle.loads(pickle.dumps(os.getcwd))
        case b"invalid":
            raise AssertionError("not finite")
    return content


NAIVE = Kind("naive", make, read, "*/x", (), True)


@pytest.fixture(scope="module")
def naive():
    reader = files.Reader([NAIVE])
    yield reader
    reader.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise", "KeyError: 'content'"),
        ("die", "the process ended (exit code 3)"),
        ("fill", "MemoryError"),
        ("stray", "outside the root: open /etc/passwd"),
        ("run", "executed pickle.find_class"),
        ("invalid", "invalid, and accepted: not finite"),
    ],
)
def test_what_a_reader_may_not_do_is_seen(naive, tmp_path, content, says):
    make(tmp_path)
    (tmp_path / "it" / "x").write_text(content)
    outcome, detail, _ = naive.read(NAIVE, tmp_path)
    assert outcome == files.FAILED and says in detail


def test_a_hang_is_seen(naive, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SECONDS", 0.2)
    make(tmp_path)
    (tmp_path / "it" / "x").write_text("hang")
    assert naive.read(NAIVE, tmp_path)[:2] == (files.FAILED, "took more than 0.2 s")


def test_other_values_are_seen(naive):
    tally = files.torture(NAIVE, naive, range(8))
    assert "other values, and accepted" in tally.failures


def test_a_forged_manifest_matches(tmp_path):
    make(tmp_path)
    (tmp_path / "it" / "x").write_bytes(b"other")
    reseal(tmp_path / "it")
    storage.verify_directory(tmp_path / "it")


def test_a_tally_is_kept_as_json(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "SECONDS_PER_KIND", 0.2)
    kept = json.loads(json.dumps(files.damage_kind(NAIVE, tmp_path)))
    tally = files.Tally.of(kept)
    assert tally.outcomes.total() + tally.forged.total() > 1
    assert kept["failure"] is None or kept["failure"] in tally.failures
