"""What is said of a mapping that does not fit the file: which line to change, and to what."""

import json
import tomllib

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.data.suggest import suggest
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


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ("time, episode", r"line 7 \(axes\): 'episode, time' or .*array.swapaxes\(0, 1\)\) is needed, not 'time, ep"),
        (
            "episode, time",
            r"'obs' has shape \[6, 3, 2\], its first axes .* as in 'act', \[5, 3, 1\]; where time .*\(0, 1\)",
        ),
    ],
)
def test_arrays_with_time_first(tmp_path, axes, says):
    np.savez(tmp_path / "log.npz", obs=np.ones((6, 3, 2)), act=np.zeros((5, 3, 1)), rew=np.ones((5, 3)))
    with pytest.raises(BmrlError, match=says):
        run(tmp_path, MAPPING + f'axes = "{axes}"')


MINARI = """
observations = "observations"
actions = "actions"
rewards = "rewards"
terminations = "none"
groups = "episode_*"
"""
BOX = {"type": "Box", "low": [-1], "high": [1]}


def minari_dataset(place, arrays, **spaces):
    """The directory of a dataset of one episode."""
    data = place / "it-v0" / "data"
    data.mkdir(parents=True)
    (data / "metadata.json").write_text(json.dumps({name: json.dumps(space) for name, space in spaces.items()}))
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for name, values in {**arrays, "rewards": np.ones(2)}.items():
            file[f"episode_0/{name}"] = values


@pytest.mark.parametrize("kind", ["Discrete", "MultiDiscrete", "MultiBinary"])
def test_actions_that_are_choices(tmp_path, kind):
    """Those of Minari's datasets say so. What is left out of them does not matter."""
    arrays = {"observations": np.ones((3, 2)), "actions/mode": np.arange(2), "actions/heat": np.full(2, 0.5)}
    observed = {"type": "MultiBinary", "n": 2}
    decided = {"type": "Dict", "subspaces": {"mode": {"type": kind}, "heat": BOX}}
    minari_dataset(tmp_path, arrays, observation_space=observed, action_space=decided)
    says = rf"line 3 \(actions\): 'actions/mode' of .*main_data.hdf5 is {kind}: choices, and no learner of bmrl"
    with pytest.raises(BmrlError, match=says):
        run(tmp_path, MINARI.replace('"actions"', '"actions/mode"') + "low = 0\nhigh = 2", "it-v0")
    _, (batch,) = run(tmp_path, MINARI.replace('"actions"', '"actions/heat"'), "it-v0")
    assert batch.actions.ravel().tolist() == [0.5, 0.5]


SPACE = {"type": "Dict", "subspaces": {"room": {"type": "Discrete", "n": 3}, "pose": {"type": "Box"}}}


@pytest.mark.parametrize(
    ("space", "names"),
    [
        ({"type": "Discrete", "n": 3}, []),
        (SPACE, ["room"]),
        ({"type": "Tuple", "subspaces": [{"type": "MultiDiscrete"}]}, ["_index_0"]),
    ],
)
def test_observations_that_are_choices(tmp_path, space, names):
    """Those of Minari's datasets say so. What is left out of them does not matter."""
    name = "/".join(["observations", *names])
    pose = {"observations/pose" if names else "pose": np.ones((3, 2))}
    arrays = {**pose, name: np.arange(3), "actions": np.full(2, 0.5)}
    minari_dataset(tmp_path, arrays, observation_space=space, action_space=BOX)
    mapping = MINARI.replace('"observations"', f'"{name}"')
    says = rf"line 2 \(observations\): '{name}' of .*main_data.hdf5 is (Multi)?Discrete: choices"
    with pytest.raises(BmrlError, match=says):
        run(tmp_path, mapping, "it-v0")
    other = "observations/pose" if names else "pose"
    drafted = tomllib.loads(suggest(str(tmp_path / "it-v0")))["observations"]
    assert drafted == ([other] if names else "?")
    _, (batch,) = run(tmp_path, mapping.replace(f'"{name}"', f'"{other}"'), "it-v0")
    assert batch.size == 2


def test_a_column_that_names_no_mdps(table, monkeypatch):
    path = table / "log.parquet"
    pq.write_table(pq.read_table(path).append_column("row", [[1.5, 2.5, 3.5, 4.5]]), path)
    with monkeypatch.context() as few:
        few.setattr("bmrl.data.intake.MAX_MDPS", 3)
        with pytest.raises(BmrlError, match=r"line 7 \(mdp\): there are more than 3 MDPs: .* names them\?$"):
            run(table, MAPPING + 'mdp = "row"\n')
    monkeypatch.setattr("bmrl.data.intake.raise_open_files_limit", lambda: 104)
    with pytest.raises(BmrlError, match=r"more than 2 MDPs: .*; if so, let processes hold more files open \(ulimit"):
        run(table, MAPPING + 'mdp = "row"\n')
