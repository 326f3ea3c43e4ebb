"""How people write tables: marks of missing values, units below the names, groups of digits, dates apart from times."""

import tomllib
from datetime import date, time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.data.suggest import suggest
from bmrl.errors import BmrlError
from tests.data.logs import PLAIN, csv, problems, run

TIMES = PLAIN.replace('terminations = "none"', 'terminations = "none"\ntime = ["date", "clock"]\nstep = "15 min"')


def said_of(place, name="log.csv"):
    return tomllib.loads(suggest(str(place / name)))


# ---------------------------------------------------------------------- marks of missing values


MARKED = "s,a,r\n1,.5,1\n2,.5,---\n3,.5,-999\n4,.5,4\n5,.5,5\n6,.5,6\n"


def test_marks_of_missing_values(tmp_path):
    csv(tmp_path, MARKED)
    with pytest.raises(
        BmrlError, match=r"line 3, column 'r': no number .*mapping.toml missing_as = \['---'\] if it marks"
    ):
        run(tmp_path, PLAIN)
    marks = PLAIN + 'missing_as = ["---", -999]\n'
    assert problems(tmp_path, marks)["value missing"] == (f"{tmp_path / 'log.csv'}, line 3, rewards", 2)
    _, (batch,) = run(tmp_path, marks + 'missing = "cut"')
    assert batch.rewards.tolist() == [1, 4, 5] and batch.episodes == 2
    assert batch.observations.ravel().tolist() == [1, 2, 4, 5, 6]


def test_a_mark_is_no_value_of_any_use(tmp_path):
    """Flags, names; and numbers that are written in another way than their mark is."""
    csv(tmp_path, "s,a,r,m,end\n1,.5,1,x,?\n2,.5,-999.0,x,no\n3,.5,1,x,no\n")
    mapping = PLAIN.replace('"none"', '"end"') + 'missing_as = ["?", "-999"]\nmdp = "m"\n'
    found = problems(tmp_path, mapping)
    assert found["value missing"][1] == 2 and found["value missing"][0].endswith("line 3, rewards")
    csv(tmp_path, "s,a,r,m,end\n1,.5,1,?,no\n2,.5,1,x,no\n")
    with pytest.raises(BmrlError, match=r"line 2: the column 'm' is empty"):
        run(tmp_path, mapping, "log.csv")


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_marks_in_numbers_that_are_stored_as_such(tmp_path, kind):
    """-999.9 is another number in float32 than in float64: the mark is both."""
    columns = {
        "s": np.array([1, -999.9, 3, 4, 5], np.float32 if kind == "parquet" else np.float64),
        "a": np.full(5, 0.5),
        "r": np.arange(5),
    }
    if kind == "parquet":
        pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    else:
        np.savez(tmp_path / "log.npz", **columns)
    _, (batch,) = run(tmp_path, PLAIN + 'missing_as = [-999.9]\nmissing = "cut"')
    assert batch.observations.ravel().tolist() == [3, 4, 5]


def test_a_draft_names_marks(tmp_path):
    """Also one in a third of the rows; a number that is a mark, perhaps, is for the person to decide."""
    csv(
        tmp_path,
        "s,q,action,reward\n" + "".join(f"{n},{-999 if n == 3 else n},.5,{n if n % 3 else '?'}\n" for n in range(12)),
    )
    said = said_of(tmp_path)
    assert said["missing_as"] == ["?"] and said["rewards"] == "reward"
    assert '# missing_as = ["?", -999]' in suggest(str(tmp_path / "log.csv"))
    csv(tmp_path, "s,action,reward\n" + "".join(f"{n},.5,{'12x' if n == 3 else n}\n" for n in range(12)))
    assert "missing_as" not in said_of(tmp_path)  # a slip of the pen
    assert "but '12x', which import will not take for a number" in suggest(str(tmp_path / "log.csv"))


# ---------------------------------------------------------------------- units


UNITS = "s,a,r\n°C,K,-\n\n1,.5,1\n2,.25,x\n"


def test_units_below_the_names(tmp_path):
    csv(tmp_path, UNITS)
    with pytest.raises(BmrlError, match=r"line 2, column 's': no number .*say in .*mapping.toml skip = 1 if this line"):
        run(tmp_path, PLAIN)
    with pytest.raises(BmrlError, match=r"log.csv, line 5, column 'r': no number \(invalid value 'x'\)") as caught:
        run(tmp_path, PLAIN + "skip = 1")
    assert "skip" not in str(caught.value)
    csv(tmp_path, UNITS.replace("x", "2"))
    _, (batch,) = run(tmp_path, PLAIN + "skip = 1")
    assert batch.observations.ravel().tolist() == [1, 2]


def test_more_lines_to_skip_than_there_are(tmp_path):
    csv(tmp_path, UNITS)
    with pytest.raises(BmrlError, match=r"log.csv has no rows"):
        run(tmp_path, PLAIN + "skip = 1000000")


@pytest.mark.parametrize(
    ("first", "skip"),
    [("yyyy-mm-dd hh:mm,m3/s,-", 1), (",degC,", 1), ("2021-01-01 00:00,n/a,n/a", None), ("2021-01-01 00:00,1,2", None)],
)
def test_a_draft_sees_units(tmp_path, first, skip):
    csv(tmp_path, f"time,s,action\n{first}\n" + "".join(f"2021-01-01 0{n}:00,{n},.5\n" for n in range(1, 9)))
    assert said_of(tmp_path).get("skip") == skip


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("lines", "cells"),
    [
        ('thousands = "."\ndecimal = ","\nseparator = ";"', ("1.234,5", "-1.234.567", "12", ",5", "1234,5", "1,2e3")),
        ('thousands = ","\nseparator = ";"', ("1,234.5", "-1,234,567", "12", ".5", "1234.5", "1.2e3")),
        ('thousands = "\'"\nseparator = ";"', ("1'234.5", "-1'234'567", " 12 ", ".5", "1234.5", "1.2e3")),
        ('thousands = " "\ndecimal = ","\nseparator = ";"', ("1 234,5", "-1 234 567", "12", ",5", "1234,5", "1,2e3")),
    ],
)
def test_thousands(tmp_path, lines, cells):
    csv(tmp_path, "s;a;r\n" + "".join(f"0;0;{cell}\n" for cell in (*cells, "")))
    _, (batch,) = run(tmp_path, PLAIN + lines + '\nmissing = "cut"\nlow = -1\nhigh = 1')
    assert batch.rewards.tolist() == [1234.5, -1234567, 12, 0.5, 1234.5, 1200]


@pytest.mark.parametrize("cell", ["1.5", "12.34", "1.2345", "1234.567", "1,234.5", ".123", "x", "--1", "1.234,5,"])
def test_what_is_no_number_with_thousands(tmp_path, cell):
    """1.5 is not 15."""
    csv(tmp_path, f"s;a;r\n0;0;1\n0;0;{cell}\n")
    with pytest.raises(BmrlError, match=r"line 3, column 'r': no number \('"):
        run(tmp_path, PLAIN + 'thousands = "."\ndecimal = ","\nseparator = ";"')


@pytest.mark.parametrize(
    ("text", "thousands", "decimal"),
    [
        ('s,action\n"1,234.5",.5\n7,.5\n', ",", None),
        ('s,action\n"1,234,567",.5\n7,.5\n', ",", None),
        ("s;action\n1.234,5;,5\n7;,5\n", ".", ","),
        ("s;action\n1.234.567;0,5\n7;,5\n", ".", ","),
        ("s;action\n1'234.5;.5\n7;.5\n", "'", None),
        ('s,action\n"1,234",.5\n7,.5\n', None, None),  # 1.234, or 1234: nobody knows
    ],
)
def test_a_draft_sees_thousands(tmp_path, text, thousands, decimal):
    csv(tmp_path, text)
    said = said_of(tmp_path)
    assert (said.get("thousands"), said.get("decimal")) == (thousands, decimal)
    if thousands:
        assert said["observations"] == ["s"]


# ---------------------------------------------------------------------- dates and times apart


def test_dates_and_times_in_two_columns(tmp_path):
    csv(tmp_path, "date,clock,s,a,r\n31.12.2020,23:45,1,.5,1\n01.01.2021,00:00,2,.5,2\n01.01.2021,00:30,3,.5,3\n")
    mapping = TIMES + 'time_format = "%d.%m.%Y %H:%M"\n'
    where, count = problems(tmp_path, mapping)["gap"]
    assert "line 3 (2021-01-01 00:00:00, then 2021-01-01 00:30:00)" in where and count == 1
    with pytest.raises(BmrlError, match=r"line 'time_format'\): .*line 2, column 'date' has '31.12.2020 23:45'"):
        run(tmp_path, TIMES, "log.csv")
    csv(tmp_path, "date,clock,s,a,r\n2020-12-31,23:45,1,.5,1\n2021-01-01,,2,.5,2\n")
    with pytest.raises(BmrlError, match=r"line 3: the column 'date' is empty or no time"):
        run(tmp_path, TIMES, "log.csv")
    with pytest.raises(BmrlError, match=r"line 7 \(time\): .*has no column 'hour'"):
        run(tmp_path, TIMES.replace("clock", "hour"), "log.csv")


@pytest.mark.parametrize(("year", "zone"), [(2021, ""), (2021, "Z"), (2021, "+01:00"), (1500, ""), (2500, "Z")])
def test_times_of_nine_decimals(tmp_path, year, zone):
    """Years that nanoseconds do not tell are read as ever."""
    decimals = "123456789" if year == 2021 else "123456"
    lines = [f"{year}-01-01T00:00:{second:02d}.{decimals}{zone},{second},.5,1" for second in range(3)]
    csv(tmp_path, "t,s,a,r\n" + "\n".join(lines))
    _, (batch,) = run(tmp_path, PLAIN + 'time = "t"\nstep = "1 s"')
    assert (batch.size, batch.episodes) == (2, 1)


def test_two_columns_of_times_in_parquet(tmp_path):
    columns = {"s": [1.0, 2.0], "a": [0.5] * 2, "r": [1.0] * 2, "date": [date(2021, 1, 1)] * 2}
    table = pa.table(columns | {"clock": [time(0, 0), time(0, 15)]})
    table = table.set_column(3, "date", table["date"].cast(pa.string()).dictionary_encode())
    pq.write_table(table, tmp_path / "log.parquet")
    _, (batch,) = run(tmp_path, TIMES)
    assert batch.size == 1
    pq.write_table(pa.table(columns | {"clock": [0, 15]}), tmp_path / "log.parquet")
    (tmp_path / "batches").rename(tmp_path.parent / f"{tmp_path.name}-other")
    with pytest.raises(BmrlError, match=r"row 0, column 'date' is one of two columns of times, and one holds int64"):
        run(tmp_path, TIMES, "log.parquet")


def test_two_columns_of_times_are_for_tables(tmp_path):
    np.savez(tmp_path / "log.npz", s=np.ones(3), a=np.zeros(3), r=np.zeros(3), date=np.ones(3), clock=np.ones(3))
    with pytest.raises(BmrlError, match=r"line 7 \(time\): two columns are for csv and parquet, and .*log.npz is npz"):
        run(tmp_path, TIMES)


@pytest.mark.parametrize(
    ("header", "day", "clock", "written"),
    [
        ("date,time", "2021-01-01", "{}:00", "%Y-%m-%d %H:%M"),
        ("Datum,Uhrzeit", "1.1.2021", "0{}:00:00", "%d.%m.%Y %H:%M:%S"),
        ("date,hour", "1/1/2021", "0{}:00", "?"),
    ],
)
def test_a_draft_sees_dates_and_times(tmp_path, header, day, clock, written):
    csv(tmp_path, f"{header},s,action,reward\n" + "".join(f"{day},{clock.format(n)},{n},.5,1\n" for n in range(4)))
    said = said_of(tmp_path)
    assert (said["time"], said["time_format"]) == (header.split(","), written)
    assert said["step"] == ("?" if written == "?" else "60 min")


# ---------------------------------------------------------------------- columns within columns


@pytest.mark.parametrize(("name", "mapping"), [("s", PLAIN), ("m", PLAIN.replace('"s"', '"a"') + 'mdp = "s"')])
def test_structs(tmp_path, name, mapping):
    pq.write_table(pa.table({"s": [{"x": 1.0}] * 2, "a": [0.5] * 2, "r": [1.0] * 2}), tmp_path / "log.parquet")
    with pytest.raises(BmrlError, match=r"row 0, column 's' holds struct<.*; write each of its fields .*flatten\(\)"):
        run(tmp_path, mapping)
