"""What is said of a mapping that does not fit the file: which line to change, and to what."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.errors import BmrlError
from tests.data.logs import run

MAPPING = """
observations = "obs"
actions = "act"
rewards = "rew"
outcome_of = "this action"
terminations = "none"
"""


@pytest.fixture
def table(tmp_path):
    columns = {
        "obs": [[1.0, 2.0, 3.0]] * 4,
        "act": [0.5] * 4,
        "rew": [1.0] * 4,
        "mode": ["heat", "cool"] * 2,
        "site": [{"name": "x"}] * 4,
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (('"obs"', '"obs[5]"'), r"line 2 \(observations\): obs\[5:6\]: in .*log.parquet it has 3 columns"),
        (('"act"', '"mode"'), r"log.parquet, row 0, column 'mode' holds string, .*mapping.toml .*no learner of bmrl"),
        (('"none"', '"none"\nmdp = "site"'), r"column 'site' holds struct.*, a text or a number is needed"),
    ],
)
def test_a_table(table, changed, says):
    with pytest.raises(BmrlError, match=says):
        run(table, MAPPING.replace(*changed))


def test_stacked_arrays_without_their_axes(tmp_path):
    np.savez(tmp_path / "log.npz", obs=np.ones((3, 5, 2)), act=np.zeros((3, 5, 1)), rew=np.ones((3, 5)))
    with pytest.raises(BmrlError, match=r"line 4 \(rewards\): 'rew' has 5 columns: .* axes = \"episode, time\""):
        run(tmp_path, MAPPING)


def test_texts_of_any_length(tmp_path):
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        file["obs"], file["act"], file["rew"] = np.ones((4, 2)), np.zeros((4, 1)), np.ones(4)
        file.create_dataset("site", data=["a"] * 4, dtype=h5py.string_dtype())
    with pytest.raises(BmrlError, match=r"'site' has dtype object, .*astype\('S'\)"):
        run(tmp_path, MAPPING + 'mdp = "site"')
