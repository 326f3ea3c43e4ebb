"""Arrays as people have them, each with a mapping of at most 15 lines: Minari's, D4RL's, OGBench's, stacked ones."""

import gymnasium
import h5py
import minari
import numpy as np
import pytest

from bmrl.data import arrays
from bmrl.errors import BmrlError
from tests.data.logs import ARRAYS, D4RL, PLAIN, assert_holds, d4rl, flat, run

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


def test_a_time_that_is_missing(tmp_path):
    """NaT is no time, as an empty cell is none."""
    times = np.array(["2021-01-01T00", "NaT", "2021-01-01T02"], "M8[h]")
    np.savez(tmp_path / "log.npz", s=np.ones(3), a=np.full(3, 0.5), r=np.ones(3), t=times)
    with pytest.raises(BmrlError, match=r"\(time\): .*log.npz, row 1: the column 't' is empty or no time"):
        run(tmp_path, PLAIN + 'time = "t"\nstep = "1 h"\nunordered = "sort"')
