"""Drafts: import takes them as they are where a file says everything, and names each line to decide where not."""

import json
import tomllib
from datetime import datetime, timedelta

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.data.mapping import read_mapping
from bmrl.data.suggest import suggest
from bmrl.errors import BmrlError
from tests.data.logs import ARRAYS, assert_holds, csv, d4rl, flat, run
from tests.data.test_buildings import building


def drafted(place, file, **decided):
    """What the draft says, once each "?" is decided."""
    text = suggest(str(place / file))
    undecided = [key for key, value in tomllib.loads(text).items() if value == "?"]
    assert sorted(undecided) == sorted(decided)
    for key in undecided:
        (place / "mapping.toml").write_text(text)
        with pytest.raises(BmrlError, match=r"mapping.toml, line \d+ \(\w+\) is undecided"):
            read_mapping(place / "mapping.toml")
        text = text.replace(f'{key} = "?"', f"{key} = {decided[key]!r}")
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def test_d4rl(tmp_path):
    data = flat(4, 5)
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for name, values in d4rl(data, following=True).items():
            file[name] = values
    mapping = drafted(tmp_path, "log.hdf5")
    assert tomllib.loads(mapping)["truncations"] == "timeouts"
    _, (batch,) = run(tmp_path, mapping)
    assert_holds(batch, data)


def test_ogbench(tmp_path):
    rows = d4rl(flat(2, 4), following=True)
    rows["masks"], rows["terminals"] = 1.0 - rows["terminals"], rows.pop("timeouts") | rows["terminals"]
    np.savez(tmp_path / "cube.npz", **rows)
    said = tomllib.loads(drafted(tmp_path, "cube.npz"))
    assert (said["terminations"], said["truncations"]) == ("not masks", "terminals")


def test_stacked(tmp_path):
    data = flat(3, 4)
    np.savez(tmp_path / "log.npz", **data)
    _, (batch,) = run(tmp_path, drafted(tmp_path, "log.npz"))
    assert_holds(batch, data)


def test_groups(tmp_path):
    data = flat(3, 4)
    with h5py.File(tmp_path / "log.h5", "w") as file:
        for number in range(3):
            for name, values in data.items():
                file[f"episode_{number}/{name}"] = values[number]
    assert 'groups = "episode_*"  # each is an episode; if each is an MDP' in suggest(str(tmp_path / "log.h5"))
    _, (batch,) = run(tmp_path, drafted(tmp_path, "log.h5"))
    assert_holds(batch, data)


def test_next_observations_in_groups(tmp_path):
    """As robomimic has them."""
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for number in range(3):
            for name, values in {"obs/q": np.arange(4), "next_obs/q": np.arange(1, 5)}.items():
                file[f"data/demo_{number}/{name}"] = values[:, None].astype(float)
            file[f"data/demo_{number}/actions"] = np.full((4, 1), 0.5)
            for name in ("rewards", "dones"):
                file[f"data/demo_{number}/{name}"] = np.array([0.0, 0, 0, 1])
    mapping = drafted(tmp_path, "log.hdf5", terminations="dones")
    assert tomllib.loads(mapping)["next_observations"] == ["next_obs/q"]
    _, (batch,) = run(tmp_path, mapping)
    assert (batch.size, batch.episodes) == (12, 3) and batch.observations[:5].ravel().tolist() == [0, 1, 2, 3, 4]


def test_a_building(tmp_path):
    csv(tmp_path, building("2021-01-01 00:00", 20))
    decided = {"low": 16, "high": 24, "outcome_of": "last action", "terminations": "none"}
    mapping = drafted(tmp_path, "log.csv", **decided)
    said = tomllib.loads(mapping)
    assert (said["observations"], said["actions"], said["mdp"]) == (["indoor", "outdoor"], ["setpoint"], "building")
    assert (said["time"], said["step"]) == ("time", "15 min")
    _, (batch,) = run(tmp_path, mapping)
    assert (batch.size, batch.manifest["provenance"]["imported"]) == (19, "b7")


def test_a_building_of_excel_in_german(tmp_path):
    lines = [f"{1 + n // 96:02d}.01.2021 {n // 4 % 24:02d}:{n % 4 * 15:02d};{n};0,{n};nein" for n in range(20)]
    csv(tmp_path, "Zeit;Außen;action;done\n" + "\n".join(lines).replace("nein", "no"), encoding="cp1252")
    decided = {"rewards": "Außen", "outcome_of": "this action", "terminations": "none"}
    said = tomllib.loads(drafted(tmp_path, "log.csv", **decided))
    assert (said["separator"], said["decimal"], said["encoding"]) == (";", ",", "cp1252")
    assert (said["time_format"], said["step"], said["observations"]) == ("%d.%m.%Y %H:%M", "15 min", ["Außen"])
    assert "'done', if it is true in terminal states alone" in suggest(str(tmp_path / "log.csv"))


def test_many_numbered_columns_and_a_parquet_file(tmp_path):
    columns = {f"obs_{number}": np.zeros(3) for number in range(50)} | {"a0": [0.5] * 3, "a1": [0.25] * 3}
    columns |= {"reward": np.zeros(3), "terminated": [False] * 3, "task_id": ["x"] * 3}
    columns["timestamp"] = [datetime(2021, 1, 1) + timedelta(seconds=10 * n) for n in range(3)]
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    said = tomllib.loads(drafted(tmp_path, "log.parquet", outcome_of="this action"))
    assert (said["observations"], said["actions"]) == (["obs_0:obs_49"], ["a0", "a1"])
    assert (said["mdp"], said["time"], said["step"]) == ("task_id", "timestamp", "10 s")


def numbered(*stems):
    """Six columns of each stem."""
    return {f"{stem}_{number}": np.linspace(-0.5, 0.5, 3) for stem in stems for number in range(6)}


@pytest.mark.parametrize("file", ["log.csv", "log.npz"])
def test_many_numbered_actions(tmp_path, file):
    columns = {"ep": np.zeros(3), **numbered("obs", "act"), "rew": np.zeros(3), "done": np.zeros(3)}
    np.savez(tmp_path / "log.npz", **columns)
    lines = [columns, *zip(*columns.values(), strict=True)]
    csv(tmp_path, "\n".join(",".join(map(str, line)) for line in lines))
    text = suggest(str(tmp_path / file))
    said = tomllib.loads(text)
    assert (said["observations"], said["actions"]) == (["obs_0:obs_5"], ["act_0:act_5"])
    assert "low" not in said and "high" not in said


def test_numbered_actions_are_no_observations(tmp_path):
    """And where other columns lie between those of a kind, a range would take these, too."""
    act = numbered("act")
    pairs = [*zip(act.items(), numbered("x").items(), strict=True)]
    np.savez(tmp_path / "log.npz", rewards=np.zeros(3), **dict(pair for both in pairs for pair in both))
    said = tomllib.loads(suggest(str(tmp_path / "log.npz")))
    assert (said["actions"], said["observations"]) == ([*act], [f"x_{number}" for number in range(6)])


def minari_dataset(place, space):
    """A dataset's directory with an action space."""
    (place / "it-v0" / "data").mkdir(parents=True)
    (place / "it-v0" / "data" / "metadata.json").write_text(json.dumps({"action_space": space}))
    with h5py.File(place / "it-v0" / "data" / "main_data.hdf5", "w") as file:
        for name, values in flat(1, 4).items():
            file[f"episode_0/{name}"] = values[0]


def test_bounds_of_a_minari_dataset(tmp_path):
    minari_dataset(tmp_path, '{"type": "Box", "low": [-2.5], "high": [2.5]}')
    said = tomllib.loads(drafted(tmp_path, "it-v0"))
    assert said["groups"] == "episode_*" and (said["low"], said["high"]) == ([-2.5], [2.5])


def test_discrete_actions_of_a_minari_dataset(tmp_path):
    minari_dataset(tmp_path, '{"type": "Discrete", "n": 3, "start": 0}')
    assert "no learner of bmrl has discrete actions" in suggest(str(tmp_path / "it-v0"))
    drafted(tmp_path, "it-v0", low=0, high=2)


def test_names_that_would_break_a_draft(tmp_path):
    """Quotes, backslashes and line breaks in names stay names."""
    name = 'a "b" \\ c\n = 1'
    pq.write_table(pa.table({name: [0.5, 1.5], "x": [1.5, 2.5]}), tmp_path / "log.parquet")
    assert tomllib.loads(suggest(str(tmp_path / "log.parquet")))["observations"] == [name, "x"]


@pytest.mark.parametrize("name", ["log.csv", "log.npz", "log.parquet", "log.h5", "log.zip", "none.csv"])
def test_no_file_to_draft_from(tmp_path, name):
    if name != "none.csv":
        (tmp_path / name).touch()
    with pytest.raises(BmrlError, match=name):
        suggest(str(tmp_path / name))


def test_mapping_for_arrays_is_short():
    assert len(ARRAYS.strip().splitlines()) == 4
