"""Logs of buildings: local clocks, gaps, months in a file each."""

import io
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from bmrl.data.import_report import problems_table
from bmrl.errors import BmrlError
from tests.data.logs import csv, problems, run

# ---------------------------------------------------------------------- a building


VIENNA = ZoneInfo("Europe/Vienna")
BUILDING = """
observations = ["indoor", "outdoor"]
actions = "setpoint"
low = 16
high = 24
rewards = "reward"
outcome_of = "last action"
terminations = "none"
mdp = "building"
time = "time"
step = "15 min"
"""


def building(start, rows, leave_out=(), minutes=15):
    """What a local clock showed every quarter of an hour, or so, with what was logged then."""
    begin = datetime.fromisoformat(start).replace(tzinfo=VIENNA).astimezone(ZoneInfo("UTC"))
    lines = []
    for row in range(rows):
        if row not in leave_out:
            shown = (begin + timedelta(minutes=minutes * row)).astimezone(VIENNA)
            lines.append(f"{shown:%Y-%m-%d %H:%M},b7,{20 + row / 100},5,{16 + row % 8 + 0.5},{-row}")
    return "time,building,indoor,outdoor,setpoint,reward\n" + "\n".join(lines)


@pytest.mark.parametrize(("start", "kind"), [("2021-10-31 00:00", "backwards"), ("2021-03-28 00:00", "gap")])
def test_a_clock_that_changes(tmp_path, start, kind):
    """In autumn an hour comes twice, in spring one is left out: without its zone the log is refused."""
    csv(tmp_path, building(start, 40))
    found = problems(tmp_path, BUILDING)
    assert set(found) == {kind} and found[kind][1] == 1
    _, (batch,) = run(tmp_path, BUILDING + 'timezone = "Europe/Vienna"')
    assert (batch.size, batch.episodes) == (39, 1)
    assert batch.rewards.tolist() == [-float(row) for row in range(1, 40)]


def test_an_hourly_log_over_the_change_in_autumn(tmp_path):
    """02:00 comes twice. What is said of a time that does come twice asks for no timezone where there is one."""
    hourly = BUILDING.replace("15 min", "1 h") + 'timezone = "Europe/Vienna"'
    csv(tmp_path, building("2021-10-30 12:00", 40, minutes=60))
    _, (batch,) = run(tmp_path, hourly)
    assert (batch.size, batch.episodes) == (39, 1)
    assert batch.rewards.tolist() == [-float(row) for row in range(1, 40)]
    (tmp_path / "batches").rename(tmp_path / "other")
    csv(tmp_path, building("2021-10-30 12:00", 40, minutes=60).replace("10-31 03:00", "10-31 02:00"))
    for mapping, asks in ((hourly, False), (BUILDING, True)):
        imported, _ = run(tmp_path, mapping, "log.csv")
        assert {problem.kind for _, problem in imported.problems} >= {"repeated"}
        console = Console(width=400, file=io.StringIO())
        console.print(problems_table(imported))
        assert ("needs its timezone" in console.file.getvalue()) is asks


def test_a_log_with_the_newest_first(tmp_path):
    """Rows are sorted, but not around an hour that comes twice: there only their order tells the time."""
    mapping = BUILDING + 'timezone = "Europe/Vienna"\nunordered = "sort"'
    for start in ("2021-10-29 00:00", "2021-10-31 00:00"):
        head, *lines = building(start, 40).splitlines()
        csv(tmp_path, "\n".join([head, *lines[::-1]]))
        if start == "2021-10-29 00:00":
            _, (batch,) = run(tmp_path, mapping)
            assert batch.rewards.tolist() == [-float(row) for row in range(1, 40)]
            (tmp_path / "batches").rename(tmp_path / "other")
        else:
            with pytest.raises(
                BmrlError, match=r"\(timezone\): .*line 26: 2021-10-31 02:45:00 .* put the oldest first"
            ):
                run(tmp_path, mapping, "log.csv")


def test_gaps_in_a_building(tmp_path):
    csv(tmp_path, building("2021-01-01 00:00", 40, leave_out={10, 11, 25}))
    where, count = problems(tmp_path, BUILDING)["gap"]
    assert (
        where.startswith(f"{tmp_path / 'log.csv'}, line 11 (2021-01-01 02:15:00, then 2021-01-01 03:00:00)")
        and count == 2
    )
    imported, (batch,) = run(tmp_path, BUILDING + 'gaps = "cut"')
    assert (batch.episode_ends - batch.episode_starts).tolist() == [9, 12, 13]
    assert imported.mdps["b7"]["cut"] == 3 and batch.truncations.sum() == 3


def test_a_time_that_the_clock_never_showed(tmp_path):
    csv(tmp_path, building("2021-03-27 12:00", 9).replace("2021-03-27 13:00", "2021-03-28 02:30"))
    with pytest.raises(BmrlError, match=r"line 12 \(timezone\): .*log.csv, line 6: .* never showed 2021-03-28 02:30"):
        run(tmp_path, BUILDING + 'timezone = "Europe/Vienna"')


def test_times_with_their_zone(tmp_path):
    text = building("2021-10-31 00:00", 40)
    zoned = [
        line if not number else line.replace(",b7", f"{'+02:00' if number <= 12 else '+01:00'},b7")
        for number, line in enumerate(text.splitlines())
    ]
    csv(tmp_path, "\n".join(zoned))
    _, (batch,) = run(tmp_path, BUILDING)
    assert (batch.size, batch.episodes) == (39, 1)
    with pytest.raises(BmrlError, match=r"\(timezone\): times are plain numbers, or name their zone"):
        (tmp_path / "batches").rename(tmp_path / "other")
        run(tmp_path, BUILDING + 'timezone = "Europe/Vienna"', "log.csv")


def test_months_of_two_buildings_in_a_file_each(tmp_path):
    for house in ("north", "south"):
        for month, start in (("01", "2021-01-31 23:00"), ("02", "2021-02-01 00:00")):
            csv(tmp_path, building(start, 4), f"{house}_2021-{month}.csv")
    mapping = BUILDING.replace('mdp = "building"', 'files = "{mdp}_2021-*.csv"')
    imported, batches = run(tmp_path, mapping, "*_2021-*.csv")
    assert list(imported.mdps) == ["north", "south"]
    assert [(batch.size, batch.episodes) for batch in batches] == [(7, 1)] * 2
    assert len(batches[0].manifest["provenance"]["sources"]) == 2
