import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmrl.data import Batch, checks, read_batch, read_batches, write_batch
from bmrl.data.npy import SMALL
from bmrl.errors import BmrlError, CorruptError
from bmrl.runs import storage


def example(**changed):
    """Two episodes, of 3 transitions (terminal) and of 2 (cut)."""
    arrays = {
        "observations": np.arange(14, dtype=np.float32).reshape(7, 2),
        "actions": np.linspace(-1, 1, 5, dtype=np.float32)[:, None],
        "rewards": np.arange(5, dtype=np.float32) / 2,
        "terminations": np.array([0, 0, 1, 0, 0], bool),
        "truncations": np.array([0, 0, 0, 0, 1], bool),
        "infos": {"x_velocity": np.arange(5, dtype=np.float32), "contact": np.ones((5, 2, 3), np.float32)},
    }
    return {**arrays, **changed}


def write(path, **changed):
    given = {"mdp": {"goal": 1.5}, "family": "toy", "provenance": {"seed": 0}, **example(), **changed}
    write_batch(path, **given)


def rewrite(path, change=lambda manifest: None, **files):
    """Commits other files, and another manifest, in the place of a batch: damage that its hashes do not show."""
    manifest = storage.verify_directory(path)
    contents = {name: (path / name).read_bytes() for name in manifest["files"]}
    for name, content in files.items():
        contents[f"{name}.npy"] = content
    contents = {name: content for name, content in contents.items() if content is not None}
    change(manifest)

    def fill(directory):
        for name, content in contents.items():
            (directory / name).write_bytes(content)

    storage.commit_directory(path, fill, manifest)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "mdp-000")
    return tmp_path / "mdp-000"


def test_what_is_written_is_read(path):
    batch = read_batch(path)
    for field, array in example().items():
        if field != "infos":
            found = getattr(batch, field)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)
    assert set(batch.infos) == {"x_velocity", "contact"}
    for name, array in example()["infos"].items():
        np.testing.assert_array_equal(batch.infos[name], array)
    assert (batch.name, batch.size, batch.episodes) == ("mdp-000", 5, 2)
    assert (batch.observation_dim, batch.action_dim) == (2, 1)
    manifest = batch.manifest
    assert manifest["format"] == "bmrl-batch" and manifest["version"] == 1
    assert manifest["mdp"] == {"goal": 1.5} and manifest["family"] == "toy" and manifest["mdp_id"] == "mdp-000"
    assert manifest["provenance"] == {"seed": 0}
    assert manifest["counts"] == {"transitions": 5, "episodes": 2}
    entry = manifest["files"]["observations.npy"]
    assert (entry["dtype"], entry["shape"]) == ("float32", [7, 2])


def test_rows_lead_from_transitions_to_observations(path):
    batch = read_batch(path)
    assert batch.rows(np.arange(5)).tolist() == [0, 1, 2, 4, 5]
    assert batch.episode_starts.tolist() == [0, 3]
    assert batch.episode_ends.tolist() == [3, 5]
    assert batch.observations[batch.rows(np.arange(5)), 0].tolist() == [0, 2, 4, 8, 10]
    assert batch.observations[batch.rows(np.arange(5)) + 1, 0].tolist() == [2, 4, 6, 10, 12]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_rows_of_any_episodes(tmp_path_factory, episodes):
    observations, terminations, truncations = [], [], []
    for number, (length, terminated, truncated) in enumerate(episodes):
        observations += [[number, t] for t in range(length + 1)]
        terminations += [False] * (length - 1) + [terminated]
        truncations += [False] * (length - 1) + [truncated or not terminated]
    size = len(terminations)
    path = tmp_path_factory.mktemp("any") / "mdp-000"
    write_batch(
        path,
        observations=observations,
        actions=np.zeros((size, 1)),
        rewards=np.zeros(size),
        terminations=terminations,
        truncations=truncations,
        provenance={},
    )
    batch = read_batch(path)
    rows = batch.rows(np.arange(batch.size))
    here, there = batch.observations[rows], batch.observations[rows + 1]
    assert (here[:, 0] == there[:, 0]).all()
    assert (here[:, 1] + 1 == there[:, 1]).all()
    assert (here[batch.episode_starts, 1] == 0).all()
    assert (batch.episode_ends - batch.episode_starts).tolist() == [length for length, *_ in episodes]


@pytest.mark.parametrize(("small", "mapped"), [(0, True), (SMALL, False)])
def test_arrays_are_read_only_and_large_ones_are_mapped(path, monkeypatch, small, mapped):
    monkeypatch.setattr("bmrl.data.npy.SMALL", small)
    batch = read_batch(path)
    for array in (batch.observations, batch.actions, batch.infos["contact"]):
        assert not array.flags.writeable and not array.flags.owndata
        assert isinstance(array.base, np.memmap) == mapped
    with pytest.raises(AttributeError):
        batch.size = 3


def test_what_may_not_be_mapped_is_named(path, monkeypatch):
    def full(*args, **rest):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("bmrl.data.npy.SMALL", 0)
    monkeypatch.setattr(np, "memmap", full)
    with pytest.raises(
        BmrlError, match=r"mdp-000/\w+.npy cannot be mapped \(.*\): allow more open files \(ulimit -n\)"
    ):
        read_batch(path)


def test_plain_numbers_of_any_kind_are_taken(tmp_path):
    write_batch(
        tmp_path / "mine",
        observations=[[0], [1], [2]],
        actions=np.array([[1], [-1]], np.int64),
        rewards=np.array([0.1, 1e-300]),
        terminations=[0, 1],
        truncations=np.zeros(2),
        provenance={},
    )
    batch = read_batch(tmp_path / "mine")
    assert batch.observations.dtype == batch.actions.dtype == batch.rewards.dtype == np.float32
    assert batch.terminations.dtype == batch.truncations.dtype == bool
    assert batch.rewards.tolist() == [np.float32(0.1), 0.0]
    assert batch.terminations.tolist() == [False, True]
    assert batch.infos == {} and batch.manifest["mdp"] is None and batch.manifest["family"] is None


def test_strided_and_fortran_arrays_are_stored_as_they_look(tmp_path):
    observations = np.asfortranarray(np.arange(28.0).reshape(7, 4))[:, ::2]
    write(tmp_path / "mdp-000", observations=observations, terminations=np.array([0, 9, 0, 9, 1, 9, 0, 9, 0, 9])[::2])
    batch = read_batch(tmp_path / "mdp-000")
    np.testing.assert_array_equal(batch.observations, observations)
    assert batch.terminations.tolist() == [False, False, True, False, False]


def test_numpy_reads_the_files_itself(path):
    np.testing.assert_array_equal(np.load(path / "observations.npy", allow_pickle=False), example()["observations"])


def test_a_batch_is_replaced_whole(path):
    write(path, infos=None, mdp=None)
    batch = read_batch(path)
    assert batch.infos == {} and batch.manifest["mdp"] is None
    assert os.listdir(path.parent) == ["mdp-000"]


def at(field, row, value, *column):
    array = example()[field].astype(np.float64)
    array[(row, *column)] = value
    return {field: array}


BAD_ARRAYS = [
    (at("observations", 4, np.nan, 1), "observations has nan at row 4, column 1; a finite float32 is needed"),
    (at("rewards", 3, -np.inf), "rewards has -inf at row 3; a finite"),
    (at("rewards", 3, 1e39), "rewards has 1e+39 at row 3; a finite float32 is needed"),
    (at("observations", 4, 3e38, 1), "observations has 3e+38 at row 4, column 1; a size of at most 1.1e+12 is needed"),
    (at("rewards", 3, -1.2e12), "rewards has -1200000000000.0 at row 3; a size of at most 1.1e+12 is needed"),
    (at("actions", 2, 3e38, 0), "actions has 3e+38 at row 2, column 0; actions must be scaled to [-1, 1]"),
    (at("actions", 2, 1.00001, 0), "actions has 1.00001 at row 2, column 0; actions must be scaled to [-1, 1]"),
    (at("actions", 2, np.nan, 0), "actions has nan at row 2, column 0; a finite"),
    (at("terminations", 1, 2), "terminations has 2.0 at row 1; 0 (no) or 1 (yes) is needed"),
    (at("truncations", 1, np.nan), "truncations has nan at row 1; 0 (no)"),
    ({"infos": {"v": [0, 0, np.inf, 0, 0]}}, "infos.v has inf at row 2; a finite"),
    ({"infos": {"v": np.full((5, 2, 2), np.nan)}}, "infos.v has nan at row 0, column 0, 0; a finite"),
    ({"infos": {"v": [0, 0]}}, "infos.v has shape [2], actions [5, 1]; both need one row a transition"),
    ({"infos": {"v": 3.0}}, "infos.v has shape [], [N, ...] is needed"),
    ({"infos": {"v": np.zeros((5, 0))}}, "infos.v is empty (shape [5, 0]), [N, ...] is needed"),
    ({"infos": {"../v": np.zeros(5)}}, "'infos.../v' cannot name an array"),
    ({"rewards": np.zeros(4)}, "rewards has shape [4], actions [5, 1]; both need one row a transition"),
    ({"rewards": np.zeros((5, 1))}, "rewards has shape [5, 1], [N] is needed"),
    ({"actions": np.zeros(5)}, "actions has shape [5], [N, d_a] is needed"),
    ({"actions": np.zeros((0, 1))}, "actions is empty (shape [0, 1]), [N, d_a] is needed"),
    ({"actions": np.zeros((5, 0))}, "actions is empty (shape [5, 0])"),
    ({"observations": np.zeros(7)}, "observations has shape [7], [N + E, d_s] is needed"),
    (
        {"observations": np.zeros((5, 2))},
        "observations has 5 rows, 7 are needed: 5 transitions and the last observation of 2 episodes",
    ),
    ({"truncations": np.zeros(5)}, "the last transition (row 4) ends no episode; if the data was cut there, set"),
    ({"terminations": np.zeros(5), "truncations": np.zeros(5)}, "the last transition (row 4) ends no episode"),
    ({"rewards": ["a"] * 5}, "rewards has dtype <U1, numbers are needed"),
    ({"rewards": [None] * 5}, "rewards has dtype object, numbers are needed"),
    ({"rewards": np.zeros(5, complex)}, "rewards has dtype complex128, numbers are needed"),
    ({"rewards": [[1], [1, 2]]}, "rewards is no array"),
    ({"mdp": {"goal": np.nan}}, "the MDP's parameter 'goal' is nan, a finite number is needed"),
    ({"mdp": {"goal": 10**400}}, "the MDP's parameter 'goal' is 1000"),
    ({"mdp": {"goal": "far"}}, "the MDP's parameter 'goal' is 'far', a finite number is needed"),
    ({"provenance": {"seed": np.nan}}, "manifest.json cannot be written as JSON"),
]


@pytest.mark.parametrize(("changed", "says"), BAD_ARRAYS)
def test_bad_arrays_are_not_written(path, changed, says):
    with pytest.raises(BmrlError) as caught:
        write(path, **changed)
    assert says in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_batch(path).manifest["mdp"] == {"goal": 1.5}
    assert os.listdir(path.parent) == ["mdp-000"]


def test_actions_may_be_off_by_rounding(tmp_path):
    write(tmp_path / "mdp-000", **at("actions", 0, np.nextafter(np.float32(1), np.float32(2)), 0))
    assert read_batch(tmp_path / "mdp-000").actions[0, 0] > 1


def test_the_largest_values_are_taken(tmp_path):
    """What else was logged is not trained on: its size does not matter."""
    changed = {**at("rewards", 0, 2.0**40), **at("observations", 0, -(2.0**40), 0), "infos": {"v": np.full(5, 3e38)}}
    write(tmp_path / "mdp-000", **changed)
    assert read_batch(tmp_path / "mdp-000").rewards[0] == 2.0**40


def test_the_row_is_right_beyond_the_first_chunk(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "BLOCK_BYTES", 16)
    write(tmp_path / "mdp-000")
    np.testing.assert_array_equal(read_batch(tmp_path / "mdp-000").observations, example()["observations"])
    with pytest.raises(BmrlError, match="observations has nan at row 5, column 1"):
        write(tmp_path / "mdp-000", **at("observations", 5, np.nan, 1))


def set_entry(file, **values):
    return lambda manifest: manifest["files"][file].update(values)


WRONG = bytearray(npy(example()["terminations"]))
WRONG[-2] = 7


@pytest.mark.parametrize(
    ("change", "files", "says"),
    [
        (lambda m: None, {"rewards": None}, "rewards.npy is missing"),
        (lambda m: None, {"extra": npy(np.zeros(5))}, "extra.npy is no array of a batch"),
        (lambda m: None, {"infos.a.b": npy(np.zeros(5))}, "infos.a.b.npy is no array of a batch"),
        (lambda m: None, {"rewards": npy(np.zeros(5))}, "rewards.npy has dtype float64, float32 is needed"),
        (lambda m: None, {"rewards": npy(np.zeros(5, ">f4"))}, "rewards.npy has dtype >f4, float32 is needed"),
        (lambda m: None, {"terminations": npy(np.zeros(5, np.uint8))}, "has dtype uint8, bool is needed"),
        (lambda m: None, {"terminations": bytes(WRONG)}, "terminations has 7 at row 3; 0 (no) or 1 (yes)"),
        (
            lambda m: None,
            {"observations": npy(np.asfortranarray(example()["observations"]))},
            "observations.npy has dtype float32 in Fortran order",
        ),
        (lambda m: None, {"rewards": npy(np.zeros(4, np.float32))}, "rewards.npy has shape [4], the manifest says"),
        (set_entry("rewards.npy", shape=[6]), {}, "rewards.npy has shape [5], the manifest says"),
        (set_entry("rewards.npy", dtype="float64"), {}, "rewards.npy has shape [5], the manifest says"),
        (
            set_entry("rewards.npy", shape=[4]),
            {"rewards": npy(np.zeros(4, np.float32))},
            "rewards has shape [4], actions [5, 1]",
        ),
        (
            set_entry("rewards.npy", shape=[2**60]),
            {"rewards": npy(np.zeros(5, np.float32)).replace(b"(5,), }" + b" " * 18, b"(1152921504606846976,), }")},
            "rewards.npy declares 4611686018427387904 bytes of data but has 20",
        ),
        (
            set_entry("actions.npy", shape=[-5, -1]),
            {"actions": npy(np.zeros((5, 1), np.float32)).replace(b"(5, 1), }  ", b"(-5, -1), }")},
            "actions.npy declares 20 bytes of data but has 20",
        ),
        (
            set_entry("rewards.npy", shape=[0]),
            {"rewards": npy(np.zeros(0, np.float32))},
            "rewards is empty (shape [0])",
        ),
        (lambda m: None, {"rewards": b""}, "rewards.npy has no valid .npy header"),
        (lambda m: None, {"rewards": b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16}, "rewards.npy has no valid .npy"),
        (lambda m: None, {"rewards": b"\x93NUMPY\x02\x00\x10\x00" + b"(" * 16}, "rewards.npy has no valid .npy"),
        (
            set_entry("rewards.npy", shape=[5]),
            {"rewards": npy(np.array([0, 1, np.nan, 3, 4], np.float32))},
            "rewards has nan at row 2",
        ),
        (lambda m: m["counts"].update(transitions=6), {}, "the arrays hold {'transitions': 5, 'episodes': 2}"),
        (lambda m: m.pop("counts"), {}, "the manifest says None"),
        (lambda m: m.update(counts="many"), {}, "the manifest says many"),
        (lambda m: m.update(format="other"), {}, "has format 'other' 1, 'bmrl-batch' 1 is needed"),
        (lambda m: m.update(version=2), {}, "has format 'bmrl-batch' 2"),
        (lambda m: m.pop("family"), {}, "'family' is missing or of a wrong type"),
        (lambda m: m.update(family=3), {}, "'family' is missing or of a wrong type"),
        (lambda m: m.update(mdp={"goal": "x"}), {}, "'mdp' is missing or of a wrong type"),
        (lambda m: m.update(mdp={"goal": 10**400}), {}, "'mdp' is missing or of a wrong type"),
        (lambda m: m.update(mdp={"goal": True}), {}, "'mdp' is missing or of a wrong type"),
        (lambda m: m.update(provenance=None), {}, "'provenance' is missing or of a wrong type"),
    ],
)
def test_bad_batches_are_not_read(path, change, files, says):
    rewrite(path, change, **files)
    with pytest.raises(BmrlError) as caught:
        read_batch(path)
    assert says in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_too_wide_is_refused_before_a_row_is_read(path, monkeypatch):
    """Its 64 GiB are a hole; only the header and the manifest are true. Nothing is hashed."""
    width = 1 << 31
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (7, width)})
    rewrite(path, set_entry("observations.npy", shape=[7, width]), observations=header.getvalue())
    size = len(header.getvalue()) + 28 * width
    os.truncate(path / "observations.npy", size)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["observations.npy"]["bytes"] = size
    manifest["manifest_sha256"] = storage._digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(storage.hashlib, "file_digest", None)
    with pytest.raises(BmrlError, match=r"2147483659 numbers \(2147483648 of them observations\), at most 65536"):
        read_batch(path)


def test_as_wide_as_may_be(tmp_path):
    wide = {"observations": np.zeros((7, (1 << 16) - 4)), "infos": None}
    write(tmp_path / "mdp-000", **wide)
    assert read_batch(tmp_path / "mdp-000").observation_dim == 65532
    with pytest.raises(BmrlError, match="65537 numbers"):
        write(tmp_path / "mdp-001", **wide | {"infos": {"v": np.zeros(5)}})


def test_no_pickle_is_opened(path, tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    rewrite(path, rewards=npy(np.array([Payload()] * 5)))
    with pytest.raises(BmrlError, match=r"rewards\.npy has dtype object"):
        read_batch(path)
    assert not (tmp_path / "executed").exists()


def test_a_flipped_byte_is_found_unless_told_not_to_look(path):
    content = bytearray((path / "rewards.npy").read_bytes())
    content[-2] ^= 1
    (path / "rewards.npy").write_bytes(content)
    with pytest.raises(CorruptError, match=r"rewards\.npy was altered"):
        read_batch(path)
    assert isinstance(read_batch(path, verify=False), Batch)


def test_a_link_in_a_batch_is_not_followed(path, tmp_path):
    (path / "rewards.npy").rename(tmp_path / "elsewhere.npy")
    (path / "rewards.npy").symlink_to(tmp_path / "elsewhere.npy")
    for verify in (True, False):
        with pytest.raises(CorruptError, match=r"rewards\.npy is a symbolic link"):
            read_batch(path, verify)


def test_batches_come_in_the_order_of_their_numbers(tmp_path):
    for number in reversed(range(3)):
        write(tmp_path / f"mdp-{number:03d}", mdp={"goal": number})
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".mdp-003.tmp-01234567").mkdir()
    batches = read_batches(str(tmp_path))
    assert [batch.name for batch in batches] == ["mdp-000", "mdp-001", "mdp-002"]
    assert [batch.manifest["mdp"]["goal"] for batch in batches] == [0, 1, 2]


def test_a_predecessor_counts_where_a_replacement_was_cut_short(path):
    path.rename(path.with_name(".mdp-000.old"))
    (batch,) = read_batches(path.parent)
    assert batch.name == "mdp-000"


def test_numbers_are_not_left_out(path, tmp_path):
    write(tmp_path / "mdp-002")
    with pytest.raises(BmrlError, match="holds mdp-002 but not mdp-001; number the MDPs from mdp-000 on"):
        read_batches(tmp_path)
    (tmp_path / "mdp-002").rename(tmp_path / "mdp-1")
    with pytest.raises(BmrlError, match="holds mdp-1 but not mdp-001"):
        read_batches(tmp_path)


def test_what_is_named_like_a_batch_and_is_none_is_not_passed_over(path, tmp_path):
    (tmp_path / "mdp-001.zip").touch()
    with pytest.raises(BmrlError, match=r"mdp-001\.zip is named like a batch, which is a directory; unpack it"):
        read_batches(tmp_path)


def test_no_batches(tmp_path):
    with pytest.raises(BmrlError, match="holds no batches: directories named mdp-000"):
        read_batches(tmp_path)
    with pytest.raises(BmrlError, match="none: no such directory"):
        read_batches(tmp_path / "none")
    with pytest.raises(BmrlError, match="none: no such directory"):
        read_batch(tmp_path / "none")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"observations": np.zeros((7, 3))}, "mdp-000 and mdp-001 differ in observation dimension: 2 and 3"),
        ({"actions": np.zeros((5, 4))}, "mdp-000 and mdp-001 differ in action dimension: 1 and 4"),
        ({"family": "other"}, "mdp-000 and mdp-001 differ in family: 'toy' and 'other'"),
        ({"family": None}, "mdp-000 and mdp-001 differ in family: 'toy' and None"),
    ],
)
def test_mdps_that_differ_are_refused(path, tmp_path, changed, says):
    write(tmp_path / "mdp-001", **changed)
    with pytest.raises(BmrlError, match=says):
        read_batches(tmp_path)


def imported(low, columns, actions=("u", "v"), **more):
    """What `bmrl data import` notes."""
    high = [1.0] * len(low)
    return {"observations": list(columns), "actions": {"names": list(actions), "low": low, "high": high}, **more}


@pytest.mark.parametrize(
    ("provenances", "says"),
    [
        ([imported([0.0], "ab"), {}, imported([0.5], "ab")], "mdp-000 and mdp-002 differ in the actions' low and high"),
        ([imported([0.0], "ab"), imported([0.0], "ba")], "differ in the order of the observations' columns"),
        ([imported([0.0], "ab"), imported([0.0], "ab", "vu")], "differ in the order of the actions' columns"),
        ([imported([0.0], "ab"), imported([0.0], "xy", "wz")], None),  # another vendor's names
        ([imported([0.0], "ab"), imported([-1.0], "ab", exported=True)], None),  # in [-1, 1] already
    ],
)
def test_logs_that_were_imported_otherwise_are_refused(tmp_path, provenances, says):
    for number, provenance in enumerate(provenances):
        write(tmp_path / f"mdp-{number:03d}", provenance=provenance)
    if says is None:
        assert len(read_batches(tmp_path)) == 2
    else:
        with pytest.raises(BmrlError, match=says):
            read_batches(tmp_path)


def test_a_damaged_batch_among_others_is_named(path, tmp_path):
    write(tmp_path / "mdp-001")
    (tmp_path / "mdp-001" / "manifest.json").write_text("{")
    with pytest.raises(CorruptError, match=r"mdp-001/manifest\.json is not valid JSON"):
        read_batches(tmp_path)


def test_a_large_batch_takes_little_memory(tmp_path):
    """64 MiB of observations are written from a file, checked and sampled in a process that may not hold them."""
    code = """
import resource, sys
import numpy as np
from bmrl.data import read_batch, write_batch
rows = 1 << 20
source = np.lib.format.open_memmap(sys.argv[1] + "/source.npy", "w+", np.float32, (rows + 1, 16))
ends = np.zeros(rows, bool)
ends[-1] = True
source.flush()
before = int(open("/proc/self/status").read().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, ((before << 10) + (60 << 20),) * 2)
write_batch(sys.argv[1] + "/mdp-000", observations=source, actions=np.zeros((rows, 1), np.int8),
            rewards=np.zeros(rows, np.int8), terminations=ends, truncations=~ends & False, provenance={})
assert read_batch(sys.argv[1] + "/mdp-000").observations[[5, rows]].sum() == 0
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_manifest_can_be_read_by_eye(path):
    text = (path / "manifest.json").read_text()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert '\n  "family": "toy",\n' in text


def test_a_relative_path_has_a_name(path, monkeypatch):
    monkeypatch.chdir(path)
    assert read_batch(Path(".")).name == "mdp-000"
