import logging
import math
import os
import resource

import jax.numpy as jnp
import numpy as np
import pytest

from bmrl.errors import CorruptError, NotSavedError
from bmrl.runs.metrics import MAX_BYTES, Metric, Metrics, read_metrics


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "metrics.csv"


def test_rows(path):
    metrics = Metrics(path)
    metrics.log("collect", 10, {"reward": -1.5, "steps": 3})
    metrics.log("teach", 20, {"loss": jnp.array([0.1, 2.0], jnp.float32), "one": np.float64([1 / 3])})
    assert path.read_text() == (
        "stage,step,learner,name,value\n"
        "collect,10,,reward,-1.5\n"
        "collect,10,,steps,3\n"
        "teach,20,0,loss,0.1\n"
        "teach,20,1,loss,2.0\n"
        "teach,20,0,one,0.3333333333333333\n"
    )
    assert read_metrics(path)[-2:] == [
        Metric("teach", 20, 1, "loss", 2.0),
        Metric("teach", 20, 0, "one", 1 / 3),
    ]


def test_what_is_not_finite_is_logged(path):
    Metrics(path).log("teach", 1, {"loss": [np.nan, -np.inf]})
    nan, infinity = read_metrics(path)
    assert math.isnan(nan.value) and infinity.value == -math.inf


def test_a_second_writer_goes_on(path):
    Metrics(path).log("teach", 1, {"loss": 1.0})
    Metrics(path).log("teach", 2, {"loss": 2.0})
    assert [row.value for row in read_metrics(path)] == [1.0, 2.0]


def test_truncate_drops_what_will_come_again(path):
    metrics = Metrics(path)
    for step in (1, 2, 3):
        metrics.log("teach", step, {"loss": [float(step), 0.1]})
    metrics.log("collect", 9, {"reward": 1})
    before = path.read_text()
    metrics.truncate("teach", 3)
    metrics.truncate("distill", 0)
    assert path.read_text() == before
    metrics.truncate("teach", 1)
    assert [(row.stage, row.step) for row in read_metrics(path)] == [
        ("teach", 1),
        ("teach", 1),
        ("collect", 9),
    ]
    for step in (2, 3):
        metrics.log("teach", step, {"loss": [float(step), 0.1]})
    assert sorted(path.read_text().splitlines()) == sorted(before.splitlines())


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_row_cut_by_a_kill_is_removed(path, cut):
    metrics = Metrics(path)
    metrics.log("teach", 1, {"loss": 1.0})
    metrics.log("teach", 2, {"loss": 2.0})
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    Metrics(path).log("teach", 2, {"loss": 2.0})
    assert path.read_bytes() == content


def test_a_damaged_row_is_left_out_and_named(path, caplog):
    Metrics(path).log("teach", 1, {"loss": 1.0})
    with open(path, "ab") as file:
        file.write(b"teach,x,,loss,1\nteach,2\n\xff\nteach,3,,loss,3.0\n")
    with caplog.at_level(logging.WARNING):
        assert [row.step for row in read_metrics(path)] == [1, 3]
    assert [f"line {number} is damaged" in caplog.text for number in (2, 3, 4, 5, 6)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_an_empty_table_is_begun_anew(path, caplog):
    path.parent.mkdir()
    path.touch()
    Metrics(path).log("teach", 1, {"loss": 1.0})
    assert len(read_metrics(path)) == 1 and "what was logged before is lost" in caplog.text


def test_another_file_is_refused(path):
    path.parent.mkdir()
    path.write_text("something else\n")
    for use in (Metrics, read_metrics):
        with pytest.raises(CorruptError, match=r"metrics\.csv is not a table of metrics"):
            use(path)
    assert path.read_text() == "something else\n"
    with pytest.raises(CorruptError, match="No such file"):
        read_metrics(path.with_name("none.csv"))


@pytest.mark.parametrize(
    ("stage", "name", "value"), [("a,b", "x", 1), ("a", "x\n", 1), ("a", "", 1), ("a", "x", [[1]])]
)
def test_what_would_break_the_table_is_refused(path, stage, name, value):
    metrics = Metrics(path)
    with pytest.raises(ValueError, match="cannot log"):
        metrics.log(stage, 1, {"fine": 1, name: value})
    assert read_metrics(path) == []


def test_a_full_disk_is_named(path):
    metrics = Metrics(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (35, hard))
    try:
        with pytest.raises(NotSavedError, match=r"metrics\.csv could not be written \(File too large\)"):
            metrics.log("teach", 1, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_metrics(path) == []
    Metrics(path).log("teach", 1, {"loss": 1.0})
    assert len(read_metrics(path)) == 1


@pytest.mark.parametrize(
    "row",
    ["teach,-1,,loss,1.0", "teach,1,-1,loss,1.0", "te ach,1,,loss,1.0", "teach,1_0,,loss,1.0", "teach,\u0661,,loss,1"],
)
def test_a_row_that_the_writer_cannot_have_written_is_left_out(path, row):
    Metrics(path).log("teach", 1, {"loss": 1.0})
    with open(path, "a", encoding="utf-8") as file:
        file.write(row + "\n")
    assert read_metrics(path) == [Metric("teach", 1, None, "loss", 1.0)]


def test_a_table_larger_than_any_of_ours_is_not_read(path):
    Metrics(path)
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(CorruptError, match="larger than 256 MiB"):
        read_metrics(path)
