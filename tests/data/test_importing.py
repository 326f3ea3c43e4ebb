"""Files as people have them, each with a mapping of at most 15 lines."""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.data import arrays, importing, readers, tables, write_batch
from bmrl.data.mapping import NONE
from bmrl.data.suggest import suggest
from bmrl.errors import BmrlError
from tests.data.logs import PLAIN, csv, problems, run

ARRAYS = """
observations = ["observations"]
actions = ["actions"]
rewards = "rewards"
terminations = "terminations"
"""


def flat(episodes, length, seed=0):
    """Observations [E, T + 1, 2], actions [E, T, 1], rewards, terminations, all float32 and full of noise."""
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.normal(size=(episodes, length + 1, 2)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (episodes, length, 1)).astype(np.float32),
        "rewards": rng.normal(size=(episodes, length)).astype(np.float32),
        "terminations": np.arange(episodes * length).reshape(episodes, length) % (2 * length) == length - 1,
    }


def assert_holds(batch, data):
    """The batch has all episodes [E, T + 1, ...], bit for bit."""
    episodes, length = data["rewards"].shape
    assert (batch.episodes, batch.size) == (episodes, episodes * length)
    np.testing.assert_array_equal(batch.observations, data["observations"].reshape(-1, 2))
    np.testing.assert_array_equal(batch.actions, data["actions"].reshape(-1, 1))
    np.testing.assert_array_equal(batch.rewards, data["rewards"].reshape(-1))
    np.testing.assert_array_equal(batch.terminations, data["terminations"].reshape(-1))


# ---------------------------------------------------------------------- made by Minari


class Walk(gymnasium.Env):
    """A walk on a line that ends beyond 2 or after 9 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-3, 3, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t, self._x = 0, 0.0
        return np.array([0, 0], np.float32), {"t": 0}

    def step(self, action):
        self._t, self._x = self._t + 1, self._x + float(action[0])
        seen = np.array([self._x, self._t], np.float32)
        return seen, -abs(self._x), abs(self._x) > 2, self._t == 9, {"t": self._t}


def collect():
    """A dataset of 8 episodes, by Minari's own collector."""
    collector = minari.DataCollector(Walk(), record_infos=True)
    collector.action_space.seed(0)
    for seed in range(8):
        collector.reset(seed=seed)
        while not any(collector.step(collector.action_space.sample())[2:4]):
            pass
    made = collector.create_dataset("me/walk-v0")
    collector.close()
    return made


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # Minari's own temporary directories
@pytest.mark.filterwarnings("ignore::UserWarning:minari")  # it asks for an author, a link ...
def test_a_dataset_that_minari_collected(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    made = collect()
    imported, (batch,) = run(
        tmp_path,
        ARRAYS + 'truncations = "truncations"\ngroups = "episode_*"\ninfos = ["infos/t"]\nlow = -3\nhigh = 3',
        "minari/me/walk-v0",
    )
    assert batch.episodes == 8 and imported.mdps["walk-v0"]["unused"] == 0
    for number, episode in enumerate(made):
        part = slice(batch.episode_starts[number], batch.episode_ends[number])
        rows = slice(part.start + number, part.stop + number + 1)
        np.testing.assert_array_equal(batch.observations[rows], episode.observations)
        np.testing.assert_array_equal(batch.rewards[part], episode.rewards.astype(np.float32))
        np.testing.assert_array_equal(batch.terminations[part], episode.terminations)
        np.testing.assert_array_equal(batch.truncations[part], episode.truncations)
        np.testing.assert_allclose(batch.actions[part], episode.actions / 3, rtol=1e-6)
        np.testing.assert_array_equal(batch.infos["t"][part], np.arange(1, len(episode.rewards) + 1))


# ---------------------------------------------------------------------- D4RL, OGBench, robomimic


def d4rl(data, following=False):
    """Rows one after the other; without next observations, the last one of each episode is lost."""
    found = {name: values.reshape(-1, *values.shape[2:]) for name, values in data.items() if name != "observations"}
    found["observations"] = data["observations"][:, :-1].reshape(-1, 2)
    if following:
        found["next_observations"] = data["observations"][:, 1:].reshape(-1, 2)
    ends = np.arange(data["rewards"].size) % data["rewards"].shape[1] == data["rewards"].shape[1] - 1
    found["terminals"] = found.pop("terminations")
    return found | {"timeouts": ends & ~found["terminals"]}


D4RL = ARRAYS.replace('terminations"', 'terminals"') + 'truncations = "timeouts"\n'


def test_d4rl_with_next_observations(tmp_path):
    data = flat(6, 5)
    with h5py.File(tmp_path / "halfcheetah.hdf5", "w") as file:
        for name, values in d4rl(data, following=True).items():
            file[name] = values
        file["metadata/algorithm"] = "SAC"
    _, (batch,) = run(tmp_path, D4RL + 'next_observations = "next_observations"')
    assert_holds(batch, data)


def test_d4rl_without_next_observations(tmp_path):
    """Of an episode that was cut, the last row is an observation; of one that terminated, its transition is kept."""
    data = flat(4, 5)
    with h5py.File(tmp_path / "antmaze.hdf5", "w") as file:
        for name, values in d4rl(data).items():
            file.create_dataset(name, data=values, compression="gzip", chunks=True)
    mapping = D4RL + 'outcome_of = "this action"\nterminal_observation = "repeat"'
    imported, (batch,) = run(tmp_path, mapping)
    assert (batch.episode_ends - batch.episode_starts).tolist() == [5, 4, 5, 4]
    assert batch.terminations.sum() == 2 and imported.mdps["antmaze"]["observations"] == 2
    np.testing.assert_array_equal(batch.observations[:5], data["observations"][0, :5])
    np.testing.assert_array_equal(batch.observations[5], data["observations"][0, 4])  # repeated
    np.testing.assert_array_equal(batch.observations[6:11], data["observations"][1, :5])


def test_ogbench_whose_last_rows_are_observations_alone(tmp_path):
    data = flat(3, 4)
    rows = {
        "observations": data["observations"].reshape(-1, 2),
        "actions": np.pad(data["actions"], ((0, 0), (0, 1), (0, 0))).reshape(-1, 1),
        "rewards": np.pad(data["rewards"], ((0, 0), (0, 1))).reshape(-1),
        "masks": np.pad(~data["terminations"], ((0, 0), (0, 1)), constant_values=True).reshape(-1).astype(np.float32),
        "terminals": np.tile([0, 0, 0, 1, 1], 3).astype(np.float32),
        "valids": np.tile([1, 1, 1, 1, 0], 3).astype(np.float32),
    }
    np.savez_compressed(tmp_path / "cube.npz", **rows)
    mapping = ARRAYS.replace('"terminations"', '"not masks"') + 'truncations = "terminals"\nvalids = "valids"\n'
    _, (batch,) = run(tmp_path, mapping + 'outcome_of = "this action"')
    assert_holds(batch, data)
    assert batch.truncations[3::4].all()


def test_groups_within_a_group(tmp_path):
    data = flat(12, 3)
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for number in range(12):
            group = file.create_group(f"data/demo_{number}")
            group["obs/x"], group["obs/v"] = data["observations"][number, :-1].T
            group["next/x"], group["next/v"] = data["observations"][number, 1:].T
            for name in ("actions", "rewards", "terminations"):
                group[name] = data[name][number]
    mapping = ARRAYS.replace('["observations"]', '["obs/x", "obs/v"]') + 'groups = "data/demo_*"\n'
    _, (batch,) = run(tmp_path, mapping + 'next_observations = ["next/x", "next/v"]')
    assert_holds(batch, data)


def test_an_end_within_a_group_loses_nothing(tmp_path):
    """What was seen after it is known, and is where the next episode begins."""
    data = flat(1, 5)
    with h5py.File(tmp_path / "log.h5", "w") as file:
        for name, values in data.items():
            file[f"episode_0/{name}"] = values[0]
        file["episode_0/terminations"][2] = True
    _, (batch,) = run(tmp_path, ARRAYS + 'groups = "episode_*"')
    assert batch.episode_ends.tolist() == [3, 5] and batch.terminations.tolist() == [False, False, True, False, True]
    seen = data["observations"][0]
    np.testing.assert_array_equal(batch.observations, np.concatenate([seen[:4], seen[3:]]))


def test_episodes_are_numbered_as_they_come(tmp_path):
    np.savez(tmp_path / "log.npz", s=np.arange(6.0), a=np.full(6, 0.5), r=np.arange(6.0), e=[5, 5, 3, 3, 4, 4])
    _, (batch,) = run(tmp_path, PLAIN + 'episode = "e"')
    assert batch.rewards.tolist() == [0, 2, 4]


# ---------------------------------------------------------------------- stacked arrays


@pytest.mark.parametrize("chunk", [1, 1 << 23])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, "hdf5"])
def test_stacked_arrays(tmp_path, monkeypatch, chunk, save):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", chunk)
    both = [flat(3, 4, seed) for seed in range(2)]
    stacked = {name: np.stack([data[name] for data in both]) for name in both[0]}
    if save == "hdf5":
        with h5py.File(tmp_path / "all.h5", "w") as file:
            for name, values in stacked.items():
                file[name] = values
    else:
        save(tmp_path / "all.npz", **stacked)
    imported, batches = run(tmp_path, ARRAYS + 'axes = "mdp, episode, time"')
    assert list(imported.mdps) == ["all/0", "all/1"]
    for batch, data in zip(batches, both, strict=True):
        assert_holds(batch, data)


def test_one_npz_an_mdp_and_parts_of_arrays(tmp_path):
    for number in (10, 9):
        data = flat(1, 6, number)
        table = np.concatenate([data["observations"][0, :-1], data["actions"][0], data["rewards"][0][:, None]], axis=1)
        np.savez(tmp_path / f"house{number}.npz", table=np.asfortranarray(table))
    mapping = 'observations = "table[0:2]"\nactions = "table[2]"\nrewards = "r"\noutcome_of = "this action"\n'
    mapping += 'terminations = "none"\nfiles = "house{mdp}.npz"'
    with pytest.raises(BmrlError, match=r"line 3 \(rewards\): .*house10.npz has no column 'r'; it has table"):
        run(tmp_path, mapping)
    with pytest.raises(BmrlError, match=r"the array 'table' .*: .* has 4 columns|table\[2:9\]"):
        run(tmp_path, mapping.replace('"r"', '"table[3]"').replace("table[2]", "table[2:9]"))
    (tmp_path / "reward.py").write_text("def paid(s, a, n):\n    return s[:, 0] + a[:, 0] + n[:, 1]\n")
    imported, batches = run(tmp_path, mapping.replace('rewards = "r"\n', ""), reward=f"{tmp_path / 'reward.py'}:paid")
    assert list(imported.mdps) == ["9", "10"]
    data = flat(1, 6, 9)
    np.testing.assert_array_equal(batches[0].observations, data["observations"][0, :-1])
    expected = data["observations"][0, :5, 0] + data["actions"][0, :5, 0] + data["observations"][0, 1:6, 1]
    np.testing.assert_array_equal(batches[0].rewards, expected)
    assert batches[0].manifest["provenance"]["reward"].endswith("reward.py:paid")


def test_lengths_that_do_not_fit_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", **{**d4rl(flat(2, 5)), "rewards": np.zeros(7)})
    with pytest.raises(
        BmrlError, match=r"axes.*x.npz: arrays of unequal length \(observations 10, actions 10, rewards 7"
    ):
        run(tmp_path, D4RL + 'outcome_of = "this action"')


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


def building(start, rows, leave_out=()):
    """What a local clock showed every quarter of an hour, with what was logged then."""
    begin = datetime.fromisoformat(start).replace(tzinfo=VIENNA).astimezone(ZoneInfo("UTC"))
    lines = []
    for row in range(rows):
        if row not in leave_out:
            shown = (begin + timedelta(minutes=15 * row)).astimezone(VIENNA)
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


# ---------------------------------------------------------------------- CSV of strangers


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
    with pytest.raises(BmrlError, match="batches already holds mdp-000: remove it"):
        run(tmp_path, PLAIN, "log.csv")


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [("log.csv", "pyarrow", "tables"), ("log.h5", "h5py", "arrays"), ("log.h5", "h5py", "hdf5")],
)
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, name, package, module):
    csv(tmp_path, "s,a,r\n1,.5,1\n2,.5,2\n", name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "bmrl.data.hdf5")
    monkeypatch.delattr("bmrl.data.hdf5")
    monkeypatch.delitem(sys.modules, f"bmrl.data.{module}", raising=False)
    with pytest.raises(BmrlError, match=f"{package} is not installed: pip install 'bmrl.data.'"):
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


# ---------------------------------------------------------------------- files made to do harm


def test_nothing_outside_an_hdf5_file_is_read(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        for name, values in d4rl(flat(2, 5)).items():
            file[name] = values
    mapping = D4RL + 'outcome_of = "this action"\nterminal_observation = "repeat"'
    spoil = {
        "rewards is a link": lambda file: file.__setitem__("rewards", h5py.ExternalLink("secret.h5", "rewards")),
        "soft": lambda file: file.__setitem__("rewards", h5py.SoftLink("/actions")),
        "virtual": lambda file: file.create_virtual_dataset("rewards", virtual_layout(tmp_path)),
        "raw": lambda file: file.create_dataset(
            "rewards", (10,), "f4", external=[(str(tmp_path / "secret.h5"), 0, 80)]
        ),
        "objects": lambda file: file.create_dataset("rewards", (10,), h5py.string_dtype()),
        "huge": lambda file: file.create_dataset("rewards", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip"),
        "chunks": lambda file: file.create_dataset("rewards", (1 << 28,), "f4", chunks=(1 << 28,)),
    }
    says = {
        "rewards is a link": "'rewards' is a link to another file",
        "soft": "no column 'rewards'",
        "virtual": "has its data in other files",
        "raw": "has its data in other files",
        "objects": "dtype object",
        "huge": "declares 4398046511104 bytes but holds 0",
        "chunks": "has chunks of more than 64 MiB",
    }
    for what, change in spoil.items():
        with h5py.File(tmp_path / "log.h5", "w") as file:
            for name, values in d4rl(flat(2, 5)).items():
                if name != "rewards":
                    file[name] = values
            change(file)
        with pytest.raises(BmrlError) as caught:
            run(tmp_path, mapping, "log.h5")
        assert says[what] in str(caught.value), what


def virtual_layout(place):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource(str(place / "secret.h5"), "rewards", (10,))
    return layout


def test_no_pickle_in_an_npz_is_opened(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    data = d4rl(flat(2, 5))
    np.savez(tmp_path / "log.npz", **{**data, "rewards": np.array([Payload()] * 10)})
    with pytest.raises(BmrlError, match=r"array 'rewards' cannot be read: dtype object"):
        run(tmp_path, D4RL + 'outcome_of = "this action"')
    assert not (tmp_path / "executed").exists()


def test_minari_does_not_make_the_environment_that_a_dataset_names(tmp_path):
    """Minari's own reader would, where the dataset leaves out its spaces."""
    (tmp_path / "evil-v0" / "data").mkdir(parents=True)
    spec = json.dumps({"id": "x-v0", "entry_point": "os:mkdir", "kwargs": {"path": str(tmp_path / "executed")}})
    metadata = {"total_episodes": 1, "data_format": "hdf5", "env_spec": spec}
    (tmp_path / "evil-v0" / "data" / "metadata.json").write_text(json.dumps(metadata))
    data = flat(1, 5)
    with h5py.File(tmp_path / "evil-v0" / "data" / "main_data.hdf5", "w") as file:
        for name, values in data.items():
            file[f"episode_0/{name}"] = values[0]
    _, (batch,) = run(tmp_path, ARRAYS + 'groups = "episode_*"', "evil-v0")
    assert_holds(batch, data)
    assert not (tmp_path / "executed").exists()


def test_a_large_file_takes_little_memory(tmp_path):
    """A million rows of 17 columns in 8 chunks and blocks or so: 68 MB as float32, twice as much as pandas has it."""
    rows = 1 << 19
    np.savez(
        tmp_path / "log.npz",
        s=np.broadcast_to(np.float32(0.5), (rows, 32)),
        a=np.broadcast_to(np.float32(0.5), (rows, 1)),
        r=np.zeros(rows, np.float32),
    )
    (tmp_path / "mapping.toml").write_text(PLAIN)
    code = """
import resource, sys
from pathlib import Path
import bmrl.data.arrays
from bmrl.data.importing import import_logs
place = Path(sys.argv[1])
before = int(open("/proc/self/status").read().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, ((before << 10) + (60 << 20),) * 2)
assert not import_logs([place / "log.npz"], place / "mapping.toml", place / "batches").problems
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_names_are_sorted_as_people_count():
    """Whatever digits they have."""
    names = ["b", "b2", "b10", "b10c", "b" + "9" * 5000, "b²", "c01", "c2"]
    assert sorted(reversed(names), key=readers.natural) == names


def test_keys_are_named_as_people_write_them():
    key = readers.key_of([1.0, 2.5, b"x ", 7], np.arange(4))
    assert key.names == ["1", "2.5", "x", "7"]
