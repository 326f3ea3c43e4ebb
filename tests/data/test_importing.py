"""What import refuses as a whole, and how it names things."""

import sys

import numpy as np
import pytest

from bmrl.data import importing, readers, write_batch
from bmrl.data.mapping import NONE
from bmrl.data.suggest import suggest
from bmrl.errors import BmrlError
from tests.data.logs import PLAIN, csv, problems, run


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        (PLAIN.replace('outcome_of = "this action"\n', ""), r"\(no line 'outcome_of'\): say whose reward"),
        (
            PLAIN.replace('rewards = "r"\n', ""),
            r"\(no line 'rewards'\): rewards come from a column, or from a function",
        ),
        (PLAIN + 'mdp = "m"', r"\(mdp\): .*log.csv, line 3: the column 'm' is empty"),
        (PLAIN + 'episode = "m"', r"\(episode\): .*log.csv, line 3: the column 'm' is empty"),
        (PLAIN + 'time = "m"\nstep = 1', r"\(no line 'time_format'\): .*line 2, column 'm' has 'x'"),
        (PLAIN + 'time = "s"\nstep = "1 min"', r"line 7 \(time\): the column 's' has another use already"),
        (PLAIN + 'time = "t"\nstep = "1 min"', r"line 8 \(step\): times are plain numbers here"),
        (PLAIN.replace(NONE, "m"), r"log.csv, line 2, column 'm' has 'x', where true or false is needed"),
        (PLAIN + 'timezone = "Mars"\ntime = "s"\nstep = 1', r"line 7 \(timezone\): 'Mars' is no time zone"),
        (PLAIN + "low = [0, 1]\nhigh = 2", r"line 7 \(low\): 2 numbers for 1 actions"),
        (PLAIN + "low = 3\nhigh = 2", r"line 8 \(high\): the bounds of action 0 are \[3, 2\]"),
        (PLAIN + 'groups = "e*"', r"line 7 \(groups\): this is for hdf5, and .*log.csv is csv"),
    ],
)
def test_a_mapping_that_does_not_fit_its_file(tmp_path, mapping, says):
    csv(tmp_path, "s,a,r,m,t\n1,.5,1,x,1\n2,.5,2,,2\n3,.5,3,x,3\n")
    with pytest.raises(BmrlError, match=says):
        run(tmp_path, mapping)
    assert not (tmp_path / "batches").exists()


def test_words_as_observations_and_parts_of_columns(tmp_path):
    csv(tmp_path, "s,on,a,r\n1,True,.5,1\n2,False,.5,1\n3,,.5,1\n")
    mapping = PLAIN.replace('"s"', '"s", "on"')
    where, count = problems(tmp_path, mapping)["value missing"]
    assert where.endswith("line 3, next observation ('on')") and count == 1
    _, (batch,) = run(tmp_path, mapping + 'missing = "cut"')
    assert batch.observations.tolist() == [[1, 1], [2, 0]]
    with pytest.raises(BmrlError, match=r"line 4 \(rewards\): '\*' means more than one column"):
        (tmp_path / "batches").rename(tmp_path / "other")
        run(tmp_path, PLAIN.replace('"r"', '"*"'), "log.csv")


def test_files_have_to_be_named(tmp_path):
    (tmp_path / "mapping.toml").write_text(PLAIN)
    for names, says in (([], "name the files to import"), (["no*.csv"], "there is no such file")):
        with pytest.raises(BmrlError, match=says):
            importing.import_logs(names, tmp_path / "mapping.toml", tmp_path / "batches")


def test_two_files_of_one_name_are_not_one_mdp(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        csv(tmp_path / place, "s,a,r\n1,.5,1\n2,.5,2\n")
    with pytest.raises(BmrlError, match=r"\(no line 'mdp'\): two files are both of an MDP named 'log'"):
        run(tmp_path, PLAIN, "a/log.csv", "b/log.csv")


def test_what_is_there_is_not_replaced(tmp_path):
    csv(tmp_path, "s,a,r\n1,.5,1\n2,.5,2\n")
    run(tmp_path, PLAIN)
    with pytest.raises(BmrlError, match="batches already holds mdp-000: choose another --out"):
        run(tmp_path, PLAIN, "log.csv")


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [("log.csv", "pyarrow", "tables"), ("log.h5", "h5py", "arrays"), ("log.h5", "h5py", "hdf5")],
)
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, name, package, module):
    csv(tmp_path, "s,a,r\n1,.5,1\n2,.5,2\n", name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "bmrl.data.hdf5", raising=False)
    monkeypatch.delattr("bmrl.data.hdf5", raising=False)
    monkeypatch.delitem(sys.modules, f"bmrl.data.{module}", raising=False)
    with pytest.raises(BmrlError, match=f"{package} is not installed: install bmrl with its extra 'data'"):
        suggest(str(tmp_path / name)) if module == "hdf5" else run(tmp_path, PLAIN)


def test_nothing_is_left_of_an_import_that_was_stopped(tmp_path, monkeypatch):
    """Here while the first batch, which is written last, is to be written."""
    csv(tmp_path, "m,s,a,r\nx,1,.5,1\nx,2,.5,2\ny,1,.5,1\ny,2,.5,2\n")
    order = []

    def stop_at_the_second(path, **arrays):
        order.append(path.name)
        if len(order) == 2:
            raise KeyboardInterrupt
        write_batch(path, **arrays)

    monkeypatch.setattr(importing, "write_batch", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, PLAIN + 'mdp = "m"')
    assert order == ["mdp-001", "mdp-000"] and not (tmp_path / "batches").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.csv.gz", "unpack it first"),
        ("a.xlsx", "save each sheet as CSV"),
        ("a.pkl", "numpy.savez"),
        ("a.foo", "endings"),
    ],
)
def test_kinds_of_files_that_are_not_read(tmp_path, name, says):
    (tmp_path / name).touch()
    with pytest.raises(BmrlError, match=says):
        run(tmp_path, PLAIN, name)


def test_names_are_sorted_as_people_count():
    """Whatever digits they have."""
    names = ["b", "b2", "b10", "b10c", "b" + "9" * 5000, "b²", "c01", "c2"]
    assert sorted(reversed(names), key=readers.natural) == names


def test_keys_are_named_as_people_write_them():
    key = readers.key_of([1.0, 2.5, b"x ", 7, "x"], np.array([0, 1, 2, -1, 3, 4, 2]), str)
    assert key.names == ["1", "2.5", "x", "7"]
    assert key.codes.tolist() == [0, 1, 2, -1, 3, 2, 2]
    with pytest.raises(BmrlError, match=r"^1 has b'.*xff', which is no text in UTF-8"):
        readers.key_of(["x", b"\xff"], np.array([0, 1]), str)
