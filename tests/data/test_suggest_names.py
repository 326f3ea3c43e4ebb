"""Drafts of files as people have them: names, times and numbers that are not quite those of a textbook."""

import tomllib

import numpy as np
import pytest

from bmrl.data.suggest import suggest
from tests.data.logs import csv


def test_a_building_management_export(tmp_path):
    rows = [f"West,03/13/2021 10:{minute} PM,20.{minute},0.5" for minute in range(10, 30)]
    rows[7] = rows[7].replace("20.17", "---")
    csv(tmp_path, "Building Name,Timestamp,Zone Temp,Damper\n" + "\n".join(rows))
    draft = suggest(str(tmp_path / "log.csv"))
    assert "#   Zone Temp (number, 20.1 ... 20.28)" in draft
    lines = [line.partition("  #")[0] for line in draft.splitlines()]
    assert 'observations = ["Zone Temp", "Damper"]' in lines
    assert {'missing_as = ["---"]', 'mdp = "Building Name"', 'time = "Timestamp"', 'time_format = "?"'} <= set(lines)


def test_rewards_in_a_column_are_rows(tmp_path):
    np.savez(tmp_path / "log.npz", obs=np.ones((9, 2)), act=np.zeros((9, 1)), rew=np.ones((9, 1)))
    draft = suggest(str(tmp_path / "log.npz"))
    assert "axes" not in draft and 'outcome_of = "this action"' in draft


def test_whether_a_pump_runs_is_no_episode(tmp_path):
    csv(tmp_path, "temperature,valve,run\n" + "\n".join(f"{20 + n},0.5,{n % 2}" for n in range(9)))
    draft = suggest(str(tmp_path / "log.csv"))
    assert "\nepisode" not in draft and 'observations = ["temperature", "valve", "run"]' in draft


def rows(head, *columns):
    return head + "\n" + "\n".join(",".join(map(str, row)) for row in zip(*columns, strict=True))


TEMPERATURES = [20.5, 20.5, 21.0, 20.75, 20.5, 20.25, 20.5, 20.75]


@pytest.mark.parametrize("name", ["time", "measured"])
def test_a_temperature_is_no_time_where_there_are_times(tmp_path, name):
    times = [f"2021-01-01 0{hour}:00" for hour in range(8)]
    for temperatures in (TEMPERATURES, range(8)):
        csv(tmp_path, rows(f"T,{name},action", temperatures, times, [0.5] * 8))
        said = tomllib.loads(suggest(str(tmp_path / "log.csv")))
        assert (said["time"], said["step"], said["observations"]) == (name, "60 min", ["T"])


def test_a_temperature_alone_is_no_time(tmp_path):
    csv(tmp_path, rows("T,action", TEMPERATURES, [0.5] * 8))
    said = tomllib.loads(suggest(str(tmp_path / "log.csv")))
    assert "time" not in said and "step" not in said and said["observations"] == ["T"]
    csv(tmp_path, rows("t,s,action", np.arange(8) / 8, TEMPERATURES, [0.5] * 8))
    said = tomllib.loads(suggest(str(tmp_path / "log.csv")))
    assert (said["time"], said["step"], said["observations"]) == ("t", 0.125, ["s"])


def test_what_pandas_writes_before_the_first_column(tmp_path):
    """Its index may have no name: numbers of rows mean nothing, and times need a name."""
    csv(tmp_path, rows(",s,action", range(8), TEMPERATURES, [0.5] * 8))
    draft = suggest(str(tmp_path / "log.csv"))
    assert "#   without a name (number, 0 ... 6)" in draft
    said = tomllib.loads(draft)
    assert said["observations"] == ["s"] and "time" not in said
    csv(tmp_path, rows(",s,action", [f"2021-01-01 0{hour}:00" for hour in range(8)], TEMPERATURES, [0.5] * 8))
    assert 'time = "?"  # the column of times has no name: give it one in the file' in suggest(
        str(tmp_path / "log.csv")
    )
