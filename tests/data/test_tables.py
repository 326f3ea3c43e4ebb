"""Tables as people have them, Parquet and CSV, each with a mapping of at most 15 lines."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.data import tables
from bmrl.data.mapping import NONE
from bmrl.errors import BmrlError
from tests.data.logs import D4RL, PLAIN, assert_holds, csv, d4rl, flat, problems, run

# ---------------------------------------------------------------------- Parquet


def test_parquet_with_an_mdp_column(tmp_path):
    """Text, lists as observations, real booleans, numbers for MDPs; rows of MDPs take turns."""
    data = [flat(3, 4, seed) for seed in range(2)]
    rows = [d4rl(each, following=True) for each in data]
    mixed = {
        name: np.stack([each[name] for each in rows], axis=1).reshape(-1, *rows[0][name].shape[1:]) for name in rows[0]
    }
    table = pa.table(
        {name: list(values) if values.ndim > 1 else values for name, values in mixed.items()}
        | {"speed": pa.array(np.tile([1.5, 0.5], 12))}
    )
    pq.write_table(table, tmp_path / "logs.parquet", row_group_size=7)
    mapping = D4RL + 'next_observations = "next_observations"\nmdp = "speed"'
    imported, batches = run(tmp_path, mapping)
    assert list(imported.mdps) == ["0.5", "1.5"]
    assert_holds(batches[1], data[0])
    assert_holds(batches[0], data[1])


def test_parquet_types(tmp_path):
    times = pa.array([datetime(2021, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(minutes=n) for n in range(3)])
    table = {
        "s": pa.array([1, 2, 3], pa.int16()),
        "a": pa.array([0.5, 0.25, None], pa.float32()),
        "r": pa.array([1, 2, 3]).cast(pa.decimal128(21, 2)),
        "m": pa.array(["x", "x", "x"]).dictionary_encode(),
        "t": times,
        "end": pa.array([False, None, True]),
    }
    pq.write_table(pa.table(table), tmp_path / "logs.parquet")
    mapping = PLAIN + 'mdp = "m"\ntime = "t"\nstep = 60'
    _, (batch,) = run(tmp_path, mapping)
    assert batch.rewards.tolist() == [1, 2] and batch.actions.tolist() == [[0.5], [0.25]]
    with pytest.raises(BmrlError, match=r"logs.parquet, row 0, column 'm' holds string|dictionary"):
        (tmp_path / "batches").rename(tmp_path / "other")
        run(tmp_path, PLAIN.replace('"s"', '"m"'), "logs.parquet")
    where, _ = problems(tmp_path, mapping.replace('"none"', '"end"'), "logs.parquet")["value missing"]
    assert where.endswith("logs.parquet, row 1, terminations")


DAYS = 'observations = "s"\nactions = "a"\nrewards = "r"\noutcome_of = "this action"\nterminations = "none"\n'


def test_dates_in_whole_numbers(tmp_path):
    days = pa.table({"day": [20210130, 20210131, 20210201], "s": [1, 2, 3], "a": [0.5] * 3, "r": [1, 2, 3]})
    pq.write_table(days, tmp_path / "logs.parquet")
    says = DAYS + 'time = "day"\ntime_format = "%Y%m%d"\nstep = "1 d"'
    _, (batch,) = run(tmp_path, says)
    assert batch.rewards.tolist() == [1, 2]
    (tmp_path / "batches").rename(tmp_path / "other")
    with pytest.raises(BmrlError, match="times are plain numbers here"):
        run(tmp_path, says.replace('time_format = "%Y%m%d"\n', ""), "logs.parquet")


# ---------------------------------------------------------------------- CSV of strangers


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("{day:02}.01.2021 {hour:02}:00", 'time_format = "%d.%m.%Y %H:%M"'),
        ("2021-01-{day:02} {hour:02}:00:00", ""),
        ("2021-01-{day:02}T{hour:02}:00+01:00", ""),
    ],
)
def test_the_end_of_a_day_as_24_00(tmp_path, written, line):
    times = [written.format(day=1 + hour // 24 - (hour % 24 == 0), hour=hour % 24 or 24) for hour in range(22, 51)]
    assert "24:00" in times[2]
    csv(tmp_path, "t,s,a,r\n" + "\n".join(f"{time},{n},0.5,{n}" for n, time in enumerate(times)))
    _, (batch,) = run(tmp_path, DAYS + f'time = "t"\nstep = "1 h"\n{line}')
    assert batch.rewards.tolist() == list(range(28)) and batch.episodes == 1


def test_minutes_and_seconds_are_no_end_of_a_day(tmp_path):
    csv(tmp_path, "t,s,a,r\n" + "\n".join(f"{n}:00,{n},0.5,{n}" for n in range(22, 27)))
    _, (batch,) = run(tmp_path, DAYS + 'time = "t"\nstep = "1 min"\ntime_format = "%M:%S"')
    assert batch.rewards.tolist() == [22, 23, 24, 25]


def test_separators_at_the_ends_of_lines(tmp_path):
    csv(tmp_path, "s;a;r;\n" + "".join(f"{n};0.5;{n};\n" for n in range(4)))
    _, (batch,) = run(tmp_path, DAYS + 'separator = ";"')
    assert batch.rewards.tolist() == [0, 1, 2]


def test_semicolons_decimal_commas_and_german_dates(tmp_path):
    text = "Zeit;Außen [°C];Soll;Lohn;Ende\n31.12.2020 23:45;-1,5;0,5;1,25;ja\n"
    text = text.replace("ja", "no") + "01.01.2021 00:00;-2,5;-0,5;2,5;Yes\n"
    csv(tmp_path, text, encoding="cp1252")
    mapping = """
observations = ["Außen [°C]"]
actions = "Soll"
rewards = "Lohn"
outcome_of = "last action"
terminations = "Ende"
separator = ";"
decimal = ","
encoding = "cp1252"
time = "Zeit"
time_format = "%d.%m.%Y %H:%M"
step = "15 min"
"""
    _, (batch,) = run(tmp_path, mapping)
    assert batch.observations.tolist() == [[-1.5], [-2.5]] and batch.rewards.tolist() == [2.5]
    assert batch.actions.tolist() == [[0.5]] and batch.terminations.tolist() == [True]
    (tmp_path / "batches").rename(tmp_path / "other")
    with pytest.raises(BmrlError, match=r"\(no line 'encoding'\): .*log.csv is no text in 'utf-8'.*cp1252"):
        run(tmp_path, mapping.replace('encoding = "cp1252"', ""), "log.csv")
    with pytest.raises(BmrlError, match=r"line 2, column 'Außen .*': no number .*1,5.*decimal"):
        run(tmp_path, mapping.replace('decimal = ","', ""), "log.csv")
    with pytest.raises(BmrlError, match=r"\(no line 'time_format'\): .*line 2, column 'Zeit' has '31.12.2020 23:45'"):
        run(tmp_path, mapping.replace('time_format = "%d.%m.%Y %H:%M"', ""), "log.csv")
    with pytest.raises(BmrlError, match=r"line 2 \(observations\): .*log.csv has no column 'Außen"):
        run(tmp_path, mapping.replace('separator = ";"', ""), "log.csv")


def test_a_file_of_excel(tmp_path):
    """With a byte-order mark, lines that end in \\r\\n, a preamble, blank lines, and cells in quotes."""
    text = '\ufeffMy export\r\n\r\n"s", a ,r\r\n1,.5,1\r\n\r\n2,.25,x\r\n'
    (tmp_path / "log.csv").write_bytes(text.encode())
    mapping = PLAIN + "header = 3"
    with pytest.raises(BmrlError, match=r"log.csv, line 6, column 'r': no number \(invalid value 'x'\)"):
        run(tmp_path, mapping)
    (tmp_path / "log.csv").write_bytes(text.replace("x", "2").encode())
    _, (batch,) = run(tmp_path, mapping)
    assert batch.observations.tolist() == [[1], [2]]
    (tmp_path / "log.csv").write_bytes(text.replace("My export\r\n\r\n", "").encode())
    (tmp_path / "batches").rename(tmp_path / "other")
    with pytest.raises(BmrlError, match=r"log.csv, line 4, column 'r'"):
        run(tmp_path, PLAIN, "log.csv")


@pytest.mark.parametrize(("spec", "columns"), [("s*", 101), ("s0:s99", 100), ("s3:s5", 3), ("s1?", 10)])
def test_wide_observations(tmp_path, spec, columns):
    names = [f"s{number}" for number in range(100)]
    row = ",".join(str(number) for number in range(100))
    csv(tmp_path, f"{','.join(names)},a,r,site\n{row},.5,1,7\n{row},.5,1,8\n")
    _, (batch,) = run(tmp_path, PLAIN.replace('"s"', f'"{spec}"'))
    assert batch.observation_dim == columns
    first = {"s*": 0, "s0:s99": 0, "s3:s5": 3, "s1?": 10}[spec]
    assert batch.observations[0, 0] == first


@pytest.mark.parametrize(
    "word", [("True", "False"), ("yes", "no"), ("1", "0"), ("T", "F"), ("1.0", "0.0"), (" true", "FALSE ")]
)
def test_flags_as_people_write_them(tmp_path, word):
    csv(tmp_path, f"s,a,r,end\n1,.5,1,{word[1]}\n2,.5,1,{word[1]}\n3,.5,1,{word[0]}\n")
    _, (batch,) = run(tmp_path, PLAIN.replace(NONE, "end").replace("this action", "last action"))
    assert batch.terminations.tolist() == [False, True]


MESSY = [
    ("", r"log.csv is empty: it has no line 1 with the names"),
    ("s,a,r\n", r"log.csv has no rows"),
    ("s,s,a,r\n1,1,.5,1\n", r"line 2 \(observations\): .*log.csv has two columns named 's'; rename"),
    ("s,a,r\n1,.5,1\n2,.5\n", r"log.csv, line 3: Expected 3 columns, got 2"),
    ("s,a,r\n1,heat,1\n", r"log.csv, line 2, column 'a': no number \(invalid value 'heat'\)"),
    ("s,act,r\n1,.5,1\n", r"line 3 \(actions\): .*log.csv has no column 'a'; it has s, act, r"),
    ("s;a;r\n1;.5;1\n", r"line 2 \(observations\): .*log.csv has no column 's'; it has s;a;r"),
]


@pytest.mark.parametrize(("text", "says"), MESSY)
def test_messy_csv(tmp_path, text, says):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(BmrlError, match=says) as caught:
        run(tmp_path, PLAIN)
    assert "\n" not in str(caught.value) and not (tmp_path / "batches").exists()


def test_the_line_is_right_beyond_the_first_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CSV_BYTES", 64)
    lines = [f"{number},.5,{number}" for number in range(60)]
    csv(tmp_path, "s,a,r\n" + "\n".join(lines))
    _, (batch,) = run(tmp_path, PLAIN)
    assert batch.rewards.tolist() == list(range(59))
    (tmp_path / "batches").rename(tmp_path / "other")
    csv(tmp_path, "s,a,r\n" + "\n".join([*lines, "1,.5,x"]), "bad.csv")
    with pytest.raises(BmrlError, match=r"bad.csv, line 62, column 'r'"):
        run(tmp_path, PLAIN, "bad.csv")
    csv(tmp_path, "s,a,r\n" + "\n".join([*lines[:50], "1,.5,nan", *lines]), "bad.csv")
    assert problems(tmp_path, PLAIN, "bad.csv")["value missing"][0].endswith("line 52, rewards")
