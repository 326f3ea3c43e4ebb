import json
import logging
import os
import resource
import stat
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bmrl.errors import BmrlError, CorruptError
from bmrl.runs import checkpoint, storage
from bmrl.runs.checkpoint import latest_checkpoint, load_tree, save_arrays, save_checkpoint, save_tree


class State(NamedTuple):
    step: jax.Array
    nested: dict


TREE = State(
    step=jnp.array(3, jnp.int32),
    nested={
        "float32": jnp.linspace(-1, 1, 6).reshape(2, 3).T,
        "float64": np.array([0.1, -0.0, np.pi]),
        "strided": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
        "bool": np.array([True, False]),
        "key": jax.random.key_data(jax.random.key(7)),
        "scalar": np.float32(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "none": None,
        "list": [np.int64(2**40), (np.uint8([255]),)],
    },
)


def shapes(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_tree_comes_back_bit_for_bit(tmp_path):
    save_tree(tmp_path, TREE)
    loaded = load_tree(tmp_path, TREE)
    assert isinstance(loaded, State)
    assert_same(loaded, TREE)
    for leaf in jax.tree.leaves(loaded):
        assert type(leaf) is np.ndarray and leaf.flags.writeable


def test_the_file_is_as_readable_as_others(tmp_path):
    before = os.umask(0o027)
    try:
        save_arrays(tmp_path, {"x": np.zeros(3)})
    finally:
        os.umask(before)
    assert stat.filemode((tmp_path / "arrays.safetensors").stat().st_mode) == "-rw-r-----"


def test_like_may_be_shapes_alone(tmp_path):
    tree = {"x": jnp.ones((2, 3)), "key": jax.random.key_data(jax.random.key(0))}
    save_tree(tmp_path, tree)
    assert_same(load_tree(tmp_path, jax.eval_shape(lambda: tree)), tree)


def test_a_tree_of_one_leaf(tmp_path):
    save_tree(tmp_path, jnp.arange(3))
    assert load_tree(tmp_path, jnp.arange(3)).tolist() == [0, 1, 2]


def test_functions_of_a_module_are_no_data(tmp_path):
    one, other = (eqx.nn.MLP(2, 1, 4, 1, jax.nn.relu, key=jax.random.key(seed)) for seed in (0, 1))
    save_tree(tmp_path, one)
    loaded = load_tree(tmp_path, eqx.filter_eval_shape(lambda: other))
    assert loaded.activation is jax.nn.relu
    assert eqx.tree_equal(jax.tree.map(lambda x: x if callable(x) else jnp.asarray(x), loaded), one)


@pytest.mark.parametrize(
    ("leaf", "says"),
    [
        (1.0, "float"),
        ("x", "str"),
        (jax.random.key(0), "key<fry>"),
        (np.array("x"), "<U1"),
        (np.float16(1), "float16"),
    ],
)
def test_a_leaf_that_cannot_be_saved_is_named(tmp_path, leaf, says):
    with pytest.raises(TypeError, match=rf"leaf \"\['a'\]\[0\]\" is {says}"):
        save_tree(tmp_path, {"a": [leaf]})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("like", "says"),
    [
        ({"a": np.zeros(3, np.float32)}, "array \"['a']\" is float32[2], float32[3] is needed"),
        ({"a": np.zeros(2, np.int32)}, "array \"['a']\" is float32[2], int32[2] is needed"),
        (
            {"a": np.zeros(2, np.float32), "b": np.zeros(1)},
            "array \"['b']\" is missing, float64[1] is needed",
        ),
        ({}, "array \"['a']\" is float32[2], no such array is needed"),
    ],
)
def test_another_structure_is_refused_with_the_leaf(tmp_path, like, says):
    save_tree(tmp_path, {"a": np.zeros(2, np.float32)})
    with pytest.raises(BmrlError) as caught:
        load_tree(tmp_path, like)
    assert says in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_file_that_is_no_safetensors(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    for content in (
        b"",
        b"x" * 100,
        (2**60).to_bytes(8, "little"),
        len(header).to_bytes(8, "little") + header,
    ):
        (tmp_path / "arrays.safetensors").write_bytes(content)
        with pytest.raises(CorruptError, match=r"arrays\.safetensors cannot be read"):
            load_tree(tmp_path, {"x": np.zeros(3)})
    (tmp_path / "arrays.safetensors").unlink()
    with pytest.raises(CorruptError, match=r"arrays\.safetensors cannot be read"):
        load_tree(tmp_path, {"x": np.zeros(3)})


def test_the_newest_checkpoints_are_kept(tmp_path):
    assert latest_checkpoint(tmp_path / "none", {}) is None
    for step in (0, 5, 12345678901):
        save_checkpoint(tmp_path, step, {"x": np.full(2, step)})
    assert sorted(os.listdir(tmp_path)) == ["step-000000005", "step-12345678901"]
    step, tree = latest_checkpoint(tmp_path, {"x": np.zeros(2, int)})
    assert (step, tree["x"].tolist()) == (12345678901, [12345678901] * 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path / "arrays.safetensors"),
        lambda path: os.truncate(path / "arrays.safetensors", 20),
        lambda path: (path / "arrays.safetensors").unlink(),
        lambda path: (path / "manifest.json").unlink(),
        lambda path: flip(path / "manifest.json"),
        lambda path: path.rename(path.with_name("step-000000009")),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, caplog, damage):
    like = {"x": np.zeros(2)}
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"x": np.full(2, float(step))})
    damage(tmp_path / "step-000000002")
    with caplog.at_level(logging.INFO):
        step, tree = latest_checkpoint(tmp_path, like)
    assert (step, tree["x"].tolist()) == (1, [1.0, 1.0])
    assert "passing over" in caplog.text and "step-00000000" in caplog.text
    assert f"going on from {tmp_path / 'step-000000001'}" in caplog.text

    # Going on from there replaces the damaged one, and a reader finds the new one.
    save_checkpoint(tmp_path, 2, {"x": np.full(2, 7.0)})
    assert latest_checkpoint(tmp_path, like)[1]["x"].tolist() == [7.0, 7.0]
    assert sorted(os.listdir(tmp_path)) == ["step-000000001", "step-000000002"]


def test_all_damaged_is_none(tmp_path):
    save_checkpoint(tmp_path, 1, {"x": np.zeros(2)})
    flip(tmp_path / "step-000000001" / "arrays.safetensors")
    assert latest_checkpoint(tmp_path, {"x": np.zeros(2)}) is None


def test_a_sound_checkpoint_of_another_configuration_is_an_error(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"x": np.zeros(step)})
    with pytest.raises(BmrlError, match=r"step-000000002.* another configuration"):
        latest_checkpoint(tmp_path, {"x": np.zeros(1)})


def test_a_directory_of_another_kind_is_no_checkpoint(tmp_path):
    storage.commit_directory(tmp_path / "step-000000001", lambda _: None, {"format": "other", "version": 1})
    assert latest_checkpoint(tmp_path, {}) is None


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    """The limit on file sizes stands for the full disk: safetensors writes without Python's calls."""
    like = {"x": np.zeros(10_000)}
    save_checkpoint(tmp_path, 1, {"x": np.ones(10_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(BmrlError, match=r"step-000000002 could not be saved .*File too large"):
            save_checkpoint(tmp_path, 2, like)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["step-000000001"]
    assert latest_checkpoint(tmp_path, like)[1]["x"].sum() == 10_000


def test_going_on_elsewhere_is_told(tmp_path, caplog, monkeypatch):
    save_checkpoint(tmp_path, 1, {"x": np.zeros(2)})
    with caplog.at_level(logging.WARNING):
        latest_checkpoint(tmp_path, {"x": np.zeros(2)})
        assert caplog.text == ""
        monkeypatch.setattr(checkpoint, "arithmetic", lambda: "a pocket calculator")
        assert latest_checkpoint(tmp_path, {"x": np.zeros(2)})[0] == 1
    assert "another machine" in caplog.text and "a pocket calculator" in caplog.text
