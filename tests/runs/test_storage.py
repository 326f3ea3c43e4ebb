import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bmrl.errors import BmrlError, CorruptError
from bmrl.runs import storage


def commit(path, contents, **manifest):
    def write(directory):
        for name, content in contents.items():
            (directory / name).write_bytes(content)

    storage.commit_directory(path, write, manifest)


def forge(path, change):
    """Alters a manifest as somebody would who knows how it is sealed."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    manifest["manifest_sha256"] = storage._digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def committed(tmp_path):
    path = tmp_path / "it"
    commit(path, {"a.bin": b"aaaa", "b.bin": b"bbbb"}, step=7, files={"a.bin": {"shape": (2, 2)}})
    return path


def test_manifest_says_what_was_given_and_what_was_written(committed):
    manifest = storage.verify_directory(committed)
    assert manifest["step"] == 7
    assert manifest["files"]["a.bin"] == {
        "shape": [2, 2],
        "sha256": "61be55a8e2f6b4e172338bddf184d6dbee29c98853e0a0485ecee7f27b9af0b4",
        "bytes": 4,
    }
    assert set(manifest["files"]) == {"a.bin", "b.bin"}
    assert (committed / "manifest.json").stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert committed.stat().st_mode & 0o777 == 0o777 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_replacement_leaves_nothing_of_the_old(committed):
    commit(committed, {"c.bin": b"c"}, step=8)
    assert storage.verify_directory(committed)["step"] == 8
    assert sorted(os.listdir(committed)) == ["c.bin", "manifest.json"]
    assert os.listdir(committed.parent) == ["it"]


def test_manifest_hash_identifies_the_content(tmp_path, committed):
    commit(tmp_path / "same", {"a.bin": b"aaaa", "b.bin": b"bbbb"}, step=7, files={"a.bin": {"shape": (2, 2)}})
    commit(tmp_path / "other", {"a.bin": b"aaaa", "b.bin": b"bbbc"}, step=7, files={"a.bin": {"shape": (2, 2)}})
    one, same, other = (
        storage.verify_directory(tmp_path / name)["manifest_sha256"] for name in ("it", "same", "other")
    )
    assert one == same != other


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path):
    target = path.with_name("..") / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def directory(path):
    path.unlink()
    path.mkdir()


def test_what_another_user_may_not_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.bin").touch()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BmrlError, match=r"a\.bin may not be read by this user: change its permissions") as caught:
        storage.open_regular(tmp_path / "a.bin")
    assert not isinstance(caught.value, CorruptError)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: flip(path / "a.bin"), "a.bin was altered"),
        (lambda path: os.truncate(path / "a.bin", 3), "a.bin has 3 bytes, its manifest says 4"),
        (lambda path: (path / "a.bin").write_bytes(b"aaaaa"), "a.bin has 5 bytes"),
        (lambda path: (path / "b.bin").unlink(), "b.bin cannot be opened (No such file"),
        (lambda path: (path / "c.bin").touch(), "holds 'c.bin', which manifest.json does not list"),
        (lambda path: link(path / "a.bin"), "a.bin is a symbolic link"),
        (lambda path: pipe(path / "a.bin"), "a.bin is not a regular file"),
        (lambda path: directory(path / "a.bin"), "a.bin is not a regular file"),
        (lambda path: flip(path / "manifest.json"), "manifest.json "),
        (lambda path: os.truncate(path / "manifest.json", 50), "manifest.json is not valid JSON"),
        (lambda path: (path / "manifest.json").write_text("[]"), "manifest.json was altered"),
        (lambda path: (path / "manifest.json").write_text('{"a": NaN}'), "NaN is not a finite number"),
        (lambda path: (path / "manifest.json").write_text('{"a": 1e999}'), "1e999 is not a finite number"),
        (lambda path: (path / "manifest.json").write_text('{"a": 1, "a": 2}'), "a name is there twice in one object"),
        (lambda path: (path / "manifest.json").write_bytes(b"\xff{}"), "not valid JSON"),
        (lambda path: (path / "manifest.json").write_text("[" * 10**5), "not valid JSON"),
        (lambda path: (path / "manifest.json").unlink(), "manifest.json cannot be opened"),
        (lambda path: link(path / "manifest.json"), "manifest.json is a symbolic link"),
        (lambda path: pipe(path / "manifest.json"), "manifest.json is not a regular file"),
        (lambda path: forge(path, lambda m: m.pop("files")), "does not list the files"),
        (lambda path: forge(path, lambda m: m["files"].update({"a.bin": 3})), "does not list the files"),
        (
            lambda path: forge(path, lambda m: m["files"].update({"../it/a.bin": {}})),
            "unsafe file name '../it",
        ),
        (
            lambda path: forge(path, lambda m: m["files"].update({"/etc/passwd": {}})),
            "unsafe file name '/etc",
        ),
        (lambda path: forge(path, lambda m: m["files"].update({"..": {}})), "unsafe file name '..'"),
        (lambda path: forge(path, lambda m: m["files"].update({"x\n": {}})), r"unsafe file name 'x\n'"),
        (lambda path: forge(path, lambda m: m["files"]["a.bin"].update(bytes=10**18)), "says 1000000"),
        (lambda path: forge(path, lambda m: m["files"]["a.bin"].pop("sha256")), "a.bin was altered"),
    ],
)
def test_damage_is_named(committed, damage, says):
    damage(committed)
    with pytest.raises(CorruptError) as caught:
        storage.verify_directory(committed)
    assert says in str(caught.value)
    assert str(committed) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_flipped_bit_of_a_manifest_is_found(committed):
    path = committed / "manifest.json"
    good = path.read_bytes()
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 4
        path.write_bytes(changed)
        with pytest.raises(CorruptError):
            storage.verify_directory(committed)


def test_nesting_at_the_limit_of_recursion_is_no_crash(committed):
    for depth in range(1, 1200, 7):
        (committed / "manifest.json").write_text('{"a": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(CorruptError):
            storage.verify_directory(committed)


def test_nesting_is_bounded_before_anything_walks_through_it(tmp_path):
    path = tmp_path / "x.json"
    for depth in (1, storage.MAX_JSON_DEPTH - 1):
        path.write_text('{"a":[' * (depth // 2) + "[" * (depth % 2) + "]" * (depth % 2) + "]}" * (depth // 2))
        storage.read_json(path)
    for depth in (storage.MAX_JSON_DEPTH + 1, 500):
        path.write_text("[" * depth + "]" * depth)
        with pytest.raises(CorruptError, match="nested deeper than 50 levels"):
            storage.read_json(path)


def test_without_hashes_sizes_are_still_checked(committed):
    flip(committed / "a.bin")
    storage.verify_directory(committed, hashes=False)
    os.truncate(committed / "a.bin", 3)
    with pytest.raises(CorruptError, match="has 3 bytes"):
        storage.verify_directory(committed, hashes=False)


def test_json_larger_than_any_of_ours_is_not_read(tmp_path):
    with open(tmp_path / "x.json", "wb") as file:
        file.truncate(storage.MAX_JSON_BYTES + 1)
    with pytest.raises(CorruptError, match="larger than 64 MiB"):
        storage.read_json(tmp_path / "x.json")


def test_no_such_directory(tmp_path):
    with pytest.raises(BmrlError, match="nothing: no such directory"):
        storage.verify_directory(tmp_path / "nothing")


def test_format(tmp_path, committed):
    commit(tmp_path / "x", {}, format="bmrl-x", version=1)
    manifest = storage.verify_directory(tmp_path / "x")
    storage.require_format(tmp_path / "x", manifest, "bmrl-x", 1)
    with pytest.raises(CorruptError, match="has format 'bmrl-x' 1, 'bmrl-x' 2 is needed"):
        storage.require_format(tmp_path / "x", manifest, "bmrl-x", 2)
    with pytest.raises(CorruptError, match="has format None None"):
        storage.require_format(committed, storage.verify_directory(committed), "bmrl-x", 1)


def test_json_keeps_what_it_is_given(tmp_path):
    data = {"b": [1, 2.5, None, True], "a": {"x": "é"}}
    storage.write_json(tmp_path / "deep" / "x.json", data)
    assert storage.read_json(tmp_path / "deep" / "x.json") == data
    assert (tmp_path / "deep" / "x.json").read_text().splitlines()[1].startswith('  "a": {')


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, Path("x"), {"a": 1, 2: 3}])
def test_json_refuses_what_it_cannot_keep(tmp_path, bad):
    storage.write_json(tmp_path / "x.json", "old")
    with pytest.raises(BmrlError, match=r"x\.json cannot be written as JSON"):
        storage.write_json(tmp_path / "x.json", {"value": bad})
    with pytest.raises(BmrlError, match=r"manifest\.json cannot be written as JSON"):
        commit(tmp_path / "it", {}, value=bad)
    assert storage.read_json(tmp_path / "x.json") == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_integer_keys_do_not_break_the_seal(tmp_path):
    commit(tmp_path / "it", {}, table={10: 1, 9: 2})
    assert storage.verify_directory(tmp_path / "it")["table"] == {"10": 1, "9": 2}


def test_bad_places(tmp_path, committed):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(committed)
    for path, says in [
        (tmp_path / "file", "not a directory"),
        (tmp_path / "link", "not a directory"),
        (tmp_path / "file" / "it", "could not be saved"),
        (tmp_path / ".hidden", "may hold letters"),
        (tmp_path / "new\nline", "may hold letters"),
    ]:
        with pytest.raises(BmrlError, match=says):
            commit(path, {})
    with pytest.raises(BmrlError, match="could not be saved"):
        storage.write_json(committed, {})
    assert storage.verify_directory(committed)["step"] == 7


def test_what_was_not_committed_is_not_replaced(tmp_path, committed):
    (tmp_path / "mine").mkdir()
    commit(tmp_path / "mine", {}, step=1)
    commit(tmp_path / "mine", {}, step=2)
    for name, content in [("thesis.txt", "years"), ("manifest.json", "{}"), ("manifest.json", "x")]:
        (tmp_path / name[:3]).mkdir(exist_ok=True)
        (tmp_path / name[:3] / name).write_text(content)
        with pytest.raises(BmrlError, match="holds something else, or is damaged; choose another place"):
            commit(tmp_path / name[:3], {})
        assert (tmp_path / name[:3] / name).read_text() == content
    os.truncate(committed / "a.bin", 0)
    commit(committed, {}, step=8)
    assert storage.verify_directory(committed)["step"] == 8


def test_a_failing_writer_leaves_the_old(committed):
    def write(directory):
        (directory / "a.bin").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.commit_directory(committed, write, {"step": 8})
    assert storage.verify_directory(committed)["step"] == 7
    assert os.listdir(committed.parent) == ["it"]


def test_only_plain_files_can_be_committed(tmp_path):
    with pytest.raises(CorruptError, match="sub is not a regular file"):
        storage.commit_directory(tmp_path / "it", lambda directory: (directory / "sub").mkdir(), {})
    with pytest.raises(BmrlError, match="'é' cannot name a file"):
        commit(tmp_path / "it", {"é": b""})
    with pytest.raises(BmrlError, match=r"'manifest\.json' cannot name a file"):
        commit(tmp_path / "it", {"manifest.json": b""})
    assert os.listdir(tmp_path) == []


def test_a_reader_takes_the_predecessor_between_the_two_renames(tmp_path, committed):
    committed.rename(tmp_path / ".it.old")
    (tmp_path / ".it.tmp-00000000").mkdir()
    assert storage.verify_directory(committed)["step"] == 7
    assert storage.committed_names(tmp_path) == ["it"]
    assert sorted(os.listdir(tmp_path)) == [".it.old", ".it.tmp-00000000"]
    storage.clean_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["it"]


def test_a_writer_cleans_up_after_its_own_name_only(tmp_path, committed):
    for name in (".it.tmp-00000000", ".other.tmp-00000000"):
        (tmp_path / name).mkdir()
    commit(committed, {}, step=8)
    assert sorted(os.listdir(tmp_path)) == [".other.tmp-00000000", "it"]


def test_committed_names(tmp_path, committed):
    (tmp_path / "readme").touch()
    assert storage.committed_names(tmp_path) == ["it"]
    assert storage.committed_names(tmp_path / "nothing") == []


def test_links_are_refused_wherever_they_are(tmp_path, committed):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    storage.refuse_links(tmp_path)
    for name in ("link", "deep/er/link"):
        (tmp_path / name).symlink_to(committed)
        with pytest.raises(CorruptError, match=f"{name} is a symbolic link; replace it by what it points to"):
            storage.refuse_links(tmp_path)
        (tmp_path / name).unlink()


def test_remove(tmp_path, committed):
    storage.remove_directory(committed)
    assert os.listdir(tmp_path) == []
    with pytest.raises(BmrlError, match="could not be removed"):
        storage.remove_directory(committed)


@pytest.mark.parametrize("fault", ["kill", "disk full"])
@pytest.mark.parametrize(("write", "calls"), [("commit", 20), ("checkpoint", 15), ("json", 5), ("metrics", 5)])
def test_a_fault_at_any_call_leaves_the_old_or_the_new(write, calls, fault):
    faults = Path(__file__).with_name("faults.py")
    done = subprocess.run([sys.executable, faults, write, fault], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= calls


def test_storage_and_data_do_not_load_jax():
    code = "import sys, bmrl.data, bmrl.runs.storage; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_log_is_a_plain_file_in_its_place(tmp_path):
    for _ in range(2):
        with storage.open_log(tmp_path / "log.txt") as file:
            file.write("line\n")
    assert (tmp_path / "log.txt").read_text() == "line\nline\n"
    (tmp_path / "link").symlink_to(tmp_path / "log.txt")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("link", "pipe", "directory"):
        with pytest.raises(BmrlError, match=f"{name} cannot be written"):
            storage.open_log(tmp_path / name)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BmrlError, match="pipe is not a regular file"):
        storage.open_log(tmp_path / "pipe")
    os.close(reader)
