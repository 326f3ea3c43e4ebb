"""What would make of a person's logs something else, and nobody would notice: import refuses it, or tells it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.data.mapping import NONE
from bmrl.data.suggest import suggest
from bmrl.errors import BmrlError
from bmrl.runs.lock import lock_directory
from tests.data.logs import PLAIN, csv, problems, run

BY_MDP = PLAIN + 'mdp = "m"'
ROWS = "s,a,r\n1,.5,1\n2,.5,2\n"


def test_a_name_with_spaces_around_is_one_with_its_rows_in_order(tmp_path):
    csv(tmp_path, "m,s,a,r\nx,1,.5,1\nx ,2,.5,2\nx,3,.5,3\n x,4,.5,4\n")
    _, (batch,) = run(tmp_path, BY_MDP)
    assert batch.observations[:, 0].tolist() == [1, 2, 3, 4]


def test_names_that_are_one_number_are_refused(tmp_path):
    csv(tmp_path, "m,s,a,r\n1,1,.5,1\n1,2,.5,2\n", "a.csv")
    csv(tmp_path, "m,s,a,r\n1.0,1,.5,1\n1.0,2,.5,2\n", "b.csv")
    with pytest.raises(BmrlError, match=r"\(mdp\): MDPs are named '1' and '1.0': name one alike"):
        run(tmp_path, BY_MDP)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (pa.array([b"\xff", b"\xfe"]), r"log.parquet, row 0, column 'm' has b'.*', which is no text in UTF-8"),
        (pa.array([1.0, np.nan]), r"log.parquet, row 1: the column 'm' is empty"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path, names, says):
    table = {"m": names, "s": [1.0, 2.0], "a": [0.5, 0.5], "r": [1.0, 2.0]}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    with pytest.raises(BmrlError, match=says):
        run(tmp_path, BY_MDP)


def test_two_imports_into_one_place_do_not_mix(tmp_path):
    csv(tmp_path, ROWS)
    with lock_directory(tmp_path / "batches"), pytest.raises(BmrlError, match="batches is in use by process"):
        run(tmp_path, PLAIN, "log.csv")
    _, (batch,) = run(tmp_path, PLAIN, "log.csv")
    assert batch.size == 1 and [path.name for path in (tmp_path / "batches").iterdir()] == ["mdp-000"]


def test_files_of_a_directory_that_are_left_out_are_told(tmp_path, caplog):
    logs = tmp_path / "logs"
    (logs / "2022").mkdir(parents=True)
    csv(logs, ROWS, "a.csv")
    csv(logs, "s,a,r\n", "empty.csv")
    csv(logs / "2022", ROWS, "b.csv")
    for name in ("c.csv.gz", "about.json", "notes.md"):
        (logs / name).write_bytes(b"")
    _, (batch,) = run(tmp_path, PLAIN, "logs")
    assert batch.size == 1
    told = [record.getMessage().removeprefix(f"{logs}/") for record in caplog.records]
    assert told == [
        "c.csv.gz is left out: unpack it first",
        f"2022/b.csv and what else lies below {logs} is left out: name it, too, to import it",
        "empty.csv has no rows",
    ]


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    csv(tmp_path, ROWS)
    _, (batch,) = run(tmp_path, PLAIN, "log.csv", tmp_path / "." / "log.csv", str(tmp_path / "*.csv"))
    assert batch.size == 1


@pytest.mark.parametrize(("key", "column"), [("observations", "s"), ("rewards", "r"), ("infos", "epoch")])
def test_numbers_that_float32_does_not_tell_apart_are_refused(tmp_path, key, column):
    values = {"s": [1, 2, 3], "r": [1, 2, 3], "epoch": [1, 2, 3]}
    values[column] = [1609459200 + 10 * k for k in range(3)]
    lines = [f"{s},.5,{r},{epoch}" for s, r, epoch in zip(*values.values(), strict=True)]
    csv(tmp_path, "s,a,r,epoch\n" + "\n".join(lines) + "\n")
    says = rf"\({key}\): '{column}' lies between 1609459200 and 1609459220: batches hold float32, .* are 128 apart"
    with pytest.raises(BmrlError, match=says):
        run(tmp_path, PLAIN + 'infos = ["epoch"]')


def test_numbers_of_many_digits_that_vary_enough_are_taken(tmp_path):
    csv(tmp_path, "s,a,r\n101325.01,.5,1\n101325.41,.5,2\n101324.93,.5,3\n")
    _, (batch,) = run(tmp_path, PLAIN)
    assert len(np.unique(batch.observations)) == 3


@pytest.mark.parametrize("key", ["valids", "padding"])
def test_rows_of_which_nobody_says_whether_they_are_one_are_refused(tmp_path, key):
    csv(tmp_path, "s,a,r,f\n1,.5,1,0\n2,.5,2,\n3,.5,3,0\n")
    with pytest.raises(BmrlError, match=rf"\({key}\): .*log.csv, line 3: the column 'f' is empty"):
        run(tmp_path, PLAIN + f'{key} = "f"')


def test_ends_without_rewards_need_to_be_placed_as_well(tmp_path):
    csv(tmp_path, "s,a,end\n1,.5,0\n2,.5,1\n")
    (tmp_path / "paid.py").write_text("def paid(s, a, n): return s[:, 0]")
    mapping = PLAIN.replace('rewards = "r"\noutcome_of = "this action"\n', "").replace(NONE, "end")
    with pytest.raises(BmrlError, match=r"\(no line 'outcome_of'\)"):
        run(tmp_path, mapping, "log.csv", reward=f"{tmp_path / 'paid.py'}:paid")
    _, (batch,) = run(
        tmp_path, mapping + 'outcome_of = "last action"', "log.csv", reward=f"{tmp_path / 'paid.py'}:paid"
    )
    assert batch.terminations.tolist() == [True]


def test_a_row_that_lacks_two_values_is_counted_once(tmp_path):
    csv(tmp_path, "s,a,r\n1,.5,1\n,.5,\n3,.5,3\n4,.5,4\n")
    where, count = problems(tmp_path, PLAIN)["value missing"]
    assert where.endswith("line 3, observations ('s')") and count == 2  # and the row before, whose next one it is


# ---------------------------------------------------------------------- how text is written


@pytest.mark.parametrize("encoding", ["UTF-8", "utf8", "utf-8-sig", "utf_8_sig"])
def test_utf_8_by_any_name_with_a_mark_or_without(tmp_path, encoding):
    for name, mark in (("a.csv", "\ufeff"), ("b.csv", "")):
        csv(tmp_path, mark + ROWS, name)
    _, batches = run(tmp_path, PLAIN + f'encoding = "{encoding}"')
    assert [batch.size for batch in batches] == [1, 1]


@pytest.mark.parametrize("encoding", ["idna", "klingon"])
def test_encodings_that_are_none(tmp_path, encoding):
    csv(tmp_path, ROWS)
    with pytest.raises(BmrlError, match=r"line 7 \(encoding\): the name of an encoding, as \"cp1252\""):
        run(tmp_path, PLAIN + f'encoding = "{encoding}"')


def test_a_late_letter_of_another_encoding_is_no_number(tmp_path):
    rows = [f"x,{k},.5,{k}" for k in range(3000)] + ["\N{LATIN SMALL LETTER U WITH DIAERESIS},1,.5,1"]
    csv(tmp_path, "m,s,a,r\n" + "\n".join(rows) + "\n", encoding="cp1252")
    with pytest.raises(BmrlError, match=r"\(no line 'encoding'\): .*log.csv.* is no text in 'utf-8'.*say which it is"):
        run(tmp_path, BY_MDP)


def test_words_after_an_empty_cell_are_words(tmp_path):
    csv(tmp_path, "s,on,a,r\n1,,.5,1\n2,True,.5,2\n3,False,.5,3\n4,True,.5,4\n")
    _, (batch,) = run(tmp_path, PLAIN.replace('"s"', '"s", "on"') + 'missing = "cut"')
    assert batch.observations[:, 1].tolist() == [1, 0, 1]
    csv(tmp_path, "s,on,a,r\n1,1,.5,1\n2,True,.5,2\n", "other.csv")
    (tmp_path / "batches").rename(tmp_path / "before")
    with pytest.raises(BmrlError, match=r"'True'.*mend the file: the column has words as this one and numbers"):
        run(tmp_path, PLAIN.replace('"s"', '"s", "on"'), "other.csv")


def test_times_that_name_their_zone_need_no_other(tmp_path):
    csv(tmp_path, "t,s,a,r\n14.03.2021 02:00 +0000,1,.5,1\n14.03.2021 02:15 +0000,2,.5,2\n")
    mapping = PLAIN + 'time = "t"\ntime_format = "%d.%m.%Y %H:%M %z"\nstep = "15 min"\n'
    with pytest.raises(BmrlError, match=r"\(timezone\): times are plain numbers, or name their zone: leave the line"):
        run(tmp_path, mapping + 'timezone = "America/New_York"')
    _, (batch,) = run(tmp_path, mapping, "log.csv")
    assert batch.size == 1
    with pytest.raises(BmrlError, match=r"\(time_format\): a format without %f"):
        run(tmp_path, mapping.replace("%M", "%M:%S.%f"), "log.csv")


def test_signs_that_move_a_cursor_do_not_get_into_a_draft(tmp_path):
    csv(tmp_path, "s\x1b[31m,a,r\n1,.5,1\n2,.5,2\n")
    (tmp_path / "mapping.toml").write_text(suggest(str(tmp_path / "log.csv")))
    assert "\x1b" not in (tmp_path / "mapping.toml").read_text()
