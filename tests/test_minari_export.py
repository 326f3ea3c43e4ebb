"""Batches as Minari datasets: read back by Minari itself and by import, equal to the bit."""

import subprocess
import sys
from pathlib import Path

import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.namespace import get_namespace_metadata, list_local_namespaces

from bmrl import minari_export
from bmrl.data import read_batches, write_batch
from bmrl.data.importing import import_logs
from bmrl.errors import BmrlError
from bmrl.families import FAMILIES, LOADED, get_family
from bmrl.families.own import load_family
from bmrl.minari_export import export_minari

FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
MAPPING = """
observations = "observations"
actions = "actions"
rewards = "rewards"
terminations = "terminations"
truncations = "truncations"
groups = "episode_*"
infos = ["infos/force"]
low = -1
high = 1
"""


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def write(path, lengths=(3, 2), seed=0, **changed):
    rng = np.random.default_rng(seed)
    size, ends = sum(lengths), np.cumsum(lengths) - 1
    flags = np.zeros((2, size), bool)
    flags[rng.integers(2, size=len(ends)), ends] = True
    write_batch(
        path,
        **{
            "observations": rng.normal(size=(size + len(lengths), 2)),
            "actions": rng.uniform(-1, 1, (size, 2)),
            "rewards": rng.normal(size=size),
            "terminations": flags[0],
            "truncations": flags[1],
            "infos": {"force": rng.normal(size=(size, 2, 3))},
            "family": "point-goal",
            "mdp": {"goal_angle": 0.1 + seed},
            "provenance": {"seed": seed},
            **changed,
        },
    )


def test_minari_reads_the_bits_and_recovers_the_mdp(tmp_path, datasets):
    for number in range(2):
        write(tmp_path / "run" / "batches" / f"mdp-{number:03d}", seed=number)
    names = export_minari(tmp_path / "run", "me/point-goal")
    assert names == [f"me/point-goal/train/mdp-00{number}-v0" for number in range(2)]
    assert list(minari.list_local_datasets()) == names
    for name, batch in zip(names, read_batches(tmp_path / "run" / "batches"), strict=True):
        dataset = minari.load_dataset(name)
        assert (dataset.total_episodes, dataset.total_steps) == (batch.episodes, batch.size)
        for field in FIELDS:
            found = np.concatenate([getattr(episode, field) for episode in dataset])
            assert found.dtype == getattr(batch, field).dtype
            np.testing.assert_array_equal(found, getattr(batch, field))
        forces = np.concatenate([episode.infos["force"] for episode in dataset])
        np.testing.assert_array_equal(forces, batch.infos["force"])
        metadata = dataset.storage.metadata
        assert (metadata["family"], metadata["mdp_id"], metadata["split"]) == ("point-goal", batch.name, "train")
        assert metadata["mdp_params"] == batch.manifest["mdp"]
        env = dataset.recover_environment()
        assert env.observation_space == dataset.observation_space and env.action_space == dataset.action_space
        assert_steps_like(env, get_family("point-goal"), batch.manifest["mdp"])


def assert_steps_like(env, family, mdp):
    """One step of a recovered environment pays what the family's own pays for this MDP, and for no other."""
    own = family.make_env(**mdp)
    action = np.full(family.action_dim, 0.5, np.float32)
    env.reset(seed=3), own.reset(seed=3)
    found, expected = env.step(action), own.step(action)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1:4] == expected[1:4]
    assert env.unwrapped._mdp == mdp and env.spec.max_episode_steps == family.horizon


def test_every_family_is_recovered(tmp_path, datasets):
    for name, family in FAMILIES.items():
        mdp = family.test_mdps()[-1]
        observations = np.zeros((6, family.observation_dim))
        changed = {"observations": observations, "actions": np.zeros((5, family.action_dim)), "lengths": (5,)}
        write(tmp_path / name / "mdp-000", family=name, mdp=mdp, **changed)
        (dataset,) = export_minari(tmp_path / name, f"me/{name}", "test")
        assert_steps_like(minari.load_dataset(dataset).recover_environment(), family, mdp)


def test_the_family_is_described_in_its_namespace(tmp_path, datasets):
    write(tmp_path / "a" / "mdp-000")
    write(tmp_path / "b" / "mdp-000", seed=1)
    export_minari(tmp_path / "a", "lab/me/point-goal")
    export_minari(tmp_path / "b", "lab/me/point-goal", "test")
    assert {"lab", "lab/me", "lab/me/point-goal", "lab/me/point-goal/train"} <= set(list_local_namespaces())
    described = get_namespace_metadata("lab/me/point-goal")
    assert (described["family"], described["horizon"]) == ("point-goal", 20)
    assert described["parameters"] == {"goal_angle": [0.0, np.pi]}
    (train,), (test,) = described["train"], described["test"]
    (batch,) = read_batches(tmp_path / "a")
    assert (train["id"], train["mdp"], train["transitions"]) == (
        "lab/me/point-goal/train/mdp-000-v0",
        {"goal_angle": 0.1},
        5,
    )
    assert train["sha256"] == batch.manifest["manifest_sha256"] and train["reference_returns"]["standing"] == -200
    assert test["mdp"] == {"goal_angle": 1.1}


OWN = """
import gymnasium, numpy as np
from bmrl.families import GymnasiumFamily
class Tap(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(0, 2, (1,), np.float32)
    def __init__(self, mark): self.mark = mark
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level = self.np_random.uniform(0, 1, 1).astype(np.float32)
        return self.level, {}
    def step(self, action):
        self.level = self.level + action.astype(np.float32) - 1
        return self.level, -abs(float(self.level[0]) - self.mark), False, False, {}
TAPS = GymnasiumFamily("taps", {"mark": (0.0, 1.0)}, ({"mark": 0.1},), (), ({"mark": 0.9},), 5, 1, 1, Tap)
"""


SMALL = {"observations": np.zeros((6, 1)), "actions": np.zeros((5, 1)), "lengths": (5,)}


def test_a_family_of_ones_own_is_recovered_where_its_file_is_loaded(tmp_path, datasets, request):
    request.addfinalizer(LOADED.clear)
    path, mdp = tmp_path / "taps.py", {"mark": 0.9}
    path.write_text(OWN)
    write(tmp_path / "logs" / "mdp-000", family="taps", mdp=mdp, **SMALL)
    (unknown,) = export_minari(tmp_path / "logs", "me/unknown")
    assert minari.load_dataset(unknown).env_spec is None
    (dataset,) = export_minari(tmp_path / "logs", "me/taps", "test", f"{path}:TAPS")
    dataset = minari.load_dataset(dataset)
    LOADED.clear()
    with pytest.raises(BmrlError, match=r"taps\.py:TAPS is of a file of yours.*own\.load_family"):
        dataset.recover_environment()
    family = load_family(f"{path}:TAPS").family
    assert_steps_like(dataset.recover_environment(), family, mdp)
    another = tmp_path / "elsewhere" / "taps.py"
    another.parent.mkdir()
    another.write_text(OWN.replace("- 1", "- 2"))
    load_family(f"{another}:TAPS")
    with pytest.raises(BmrlError, match=r"load_family\('PATH/taps\.py:TAPS'\) with the file as it was"):
        dataset.recover_environment()
    write(tmp_path / "others" / "mdp-000")
    with pytest.raises(BmrlError, match=r"it is the family 'taps', the batches are of 'point-goal'"):
        export_minari(tmp_path / "others", "me/others", "test", f"{path}:TAPS")
    write(tmp_path / "none" / "mdp-000", family=None, mdp=None)
    with pytest.raises(BmrlError, match=r'the batches in .*none are of no family; .* the line family = "taps"$'):
        export_minari(tmp_path / "none", "me/none", "test", f"{path}:TAPS")


def test_an_environment_of_other_actions_goes_into_no_dataset(tmp_path, datasets, request):
    """low and high of the mapping are those of the family's actions, or the dataset's actions mean others there."""
    request.addfinalizer(LOADED.clear)
    (tmp_path / "taps.py").write_text(OWN)
    word = f"{tmp_path / 'taps.py'}:TAPS"
    for high in (2.0, 4.0):
        noted = {"provenance": {"actions": {"names": ["tap"], "low": [0.0], "high": [high]}}}
        write(tmp_path / str(high) / "mdp-000", family="taps", mdp={"mark": 0.9}, **SMALL, **noted)
    with pytest.raises(
        BmrlError, match=r"mdp-000 was imported with low = \[0.0\] and high = \[4.0\].*high = \[2.0\] in"
    ):
        export_minari(tmp_path / "4.0", "me/wrong", family=word)
    assert not minari.list_local_datasets()
    export_minari(tmp_path / "2.0", "me/right", family=word)
    # What bmrl exported has actions of -1 to 1 already, whatever the environment's are.
    (tmp_path / "mapping.toml").write_text(MAPPING.replace('"infos/force"', ""))
    import_logs([datasets / "me" / "right" / "train"], tmp_path / "mapping.toml", tmp_path / "again")
    assert export_minari(tmp_path / "again", "me/again", family=word)


def test_an_unknown_family_has_no_environment(tmp_path, datasets):
    write(tmp_path / "mdp-000", family=None, mdp=None)
    (name,) = export_minari(tmp_path, "me/mine")
    assert minari.load_dataset(name).env_spec is None


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=12), min_size=1, max_size=3), st.integers(0, 99))
def test_out_and_in_again_keeps_every_bit(tmp_path_factory, lengths, seed):
    place = tmp_path_factory.mktemp("trip")
    for number, each in enumerate(lengths):
        write(place / "out" / f"mdp-{number:03d}", each, seed + number, mdp={"goal_angle": number / 3})
    (place / "mapping.toml").write_text(MAPPING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(place / "datasets"))
        export_minari(place / "out", "me/it")
    imported = import_logs([place / "datasets" / "me" / "it" / "train"], place / "mapping.toml", place / "in")
    assert not imported.problems
    pairs = list(zip(read_batches(place / "out"), read_batches(place / "in"), strict=True))
    for one, other in pairs:
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        np.testing.assert_array_equal(one.infos["force"], other.infos["force"])
        assert (one.manifest["mdp"], one.manifest["family"]) == (other.manifest["mdp"], other.manifest["family"])


def test_what_is_there_stays(tmp_path, datasets):
    write(tmp_path / "mdp-000")
    export_minari(tmp_path, "me/it")
    with pytest.raises(BmrlError, match="train is already there: remove it, or export under another name"):
        export_minari(tmp_path, "me/it")


@pytest.mark.parametrize("name", ["me", "me/it.v1", "../it", "me/../it", "/me/it", "me//it", "", "me/it/"])
def test_names_that_minari_does_not_take(tmp_path, datasets, name):
    write(tmp_path / "mdp-000")
    with pytest.raises(BmrlError, match="NAMESPACE/FAMILY is needed"):
        export_minari(tmp_path, name)
    assert not datasets.exists()


def test_nothing_is_left_of_an_export_that_failed(tmp_path, datasets, monkeypatch):
    write(tmp_path / "mdp-000")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bmrl.minari_export._episodes", fail)
    with pytest.raises(BmrlError, match="could not be written"):
        export_minari(tmp_path, "me/it")
    assert not list(datasets.rglob("*.hdf5"))


def test_the_commands(tmp_path, datasets):
    """Out, a draft, in, looked at; JAX is not needed, and an undecided or refused import has exit code 2."""
    write(tmp_path / "out" / "mdp-000")

    def bmrl(*words):
        code = "from bmrl.cli import main; import sys; main(); assert 'jax' not in sys.modules"
        return subprocess.run(
            [sys.executable, "-c", code, "data", *map(str, words)], capture_output=True, text=True, timeout=60
        )

    done = bmrl("export", tmp_path / "out", "--minari", "me/it")
    assert (done.returncode, done.stdout) == (0, "me/it/train/mdp-000-v0\n"), done.stderr
    dataset = datasets / "me" / "it" / "train"
    done = bmrl("suggest", dataset)
    assert done.returncode == 0, done.stderr
    draft = tmp_path / "mapping.toml"
    draft.write_text(done.stdout)
    done = bmrl("import", dataset, "--mapping", draft, "--out", tmp_path / "in")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:4] for line in done.stdout.splitlines() if " mdp-000" in line] == [
        ["mdp-000", "mdp-000", "7", "5"]
    ]
    (one,), (other,) = read_batches(tmp_path / "out"), read_batches(tmp_path / "in")
    np.testing.assert_array_equal(one.observations, other.observations)

    (tmp_path / "log.csv").write_text("s,a,r,t\n1,.5,1,0\n2,.5,2,10\n3,.5,3,25\n")
    draft.write_text(
        'observations = "s"\nactions = "a"\nrewards = "r"\noutcome_of = "this action"\nterminations = "none"\n'
        'time = "t"\nstep = 10\n'
    )
    done = bmrl("import", tmp_path / "log.csv", "--mapping", draft, "--out", tmp_path / "no")
    assert done.returncode == 2 and not Path(tmp_path / "no").exists()
    # As words: where a cell's line breaks depends on how long the paths are.
    assert {"gaps", "(10,", "25)"} <= set(done.stdout.split())
    assert done.stderr.startswith(f"error: nothing was imported: change {draft}")


def test_metadata_of_a_namespace_that_is_none(tmp_path):
    (tmp_path / minari_export.NAMESPACE_METADATA).write_text("[]")
    with pytest.raises(BmrlError, match="is no metadata of a namespace"):
        minari_export._describe(tmp_path, "toy", None, "train", [])
