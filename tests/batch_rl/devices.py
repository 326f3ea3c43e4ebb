"""Learners over two devices. A process of its own: the number of devices cannot change once JAX has started."""

import jax
import jax.numpy as jnp
import numpy as np

from bmrl import parallel

jax.config.update("jax_num_cpu_devices", 2)
K, rng = 3, np.random.default_rng(0)
tree = {"x": rng.normal(size=(K, 4)).astype(np.float32), "n": np.arange(K, dtype=np.int32)}
scale = np.array([2.0], np.float32)


def step(tree, scale, offset):
    """Something of one learner."""
    return {"x": jnp.cumsum(tree["x"]) * scale[0] + offset, "n": tree["n"] + 1}


# Three learners on two devices: the fourth is a copy of the third, and not given back.
assert parallel.padded(K) == 4
sharded = parallel.shard(tree)
assert sharded["x"].shape == (4, 4)
assert len(sharded["x"].sharding.device_set) == 2
np.testing.assert_array_equal(sharded["x"][3], tree["x"][2])
jax.tree.map(np.testing.assert_array_equal, parallel.unshard(sharded, K), tree)

for at_once in (None, 1, 2):
    many = parallel.over_learners(step, replicated=2, donate=(0,), at_once=at_once)
    out = many(parallel.shard(tree), scale, 1)
    before = parallel.unshard(out, K)
    for k in range(K):
        expected = step({name: x[k] for name, x in tree.items()}, scale, 1)
        jax.tree.map(np.testing.assert_allclose, {name: x[k] for name, x in before.items()}, expected)
    # What was read stays as it was when its memory is donated to the next step.
    kept = jax.tree.map(np.copy, before)
    many(out, scale, 1)
    jax.tree.map(np.testing.assert_array_equal, before, kept)

# A learner's key is a function of the seed, the stage and its number.
keys = {(seed, stage): parallel.learner_keys(seed, stage, 5) for seed in (0, 1) for stage in ("teach", "pooled")}
assert len(np.unique(np.concatenate(list(keys.values())), axis=0)) == 20
np.testing.assert_array_equal(parallel.learner_keys(0, "teach", 2), keys[0, "teach"][:2])

# What failed as the memory was full is an error, not the end of the process.
too_much = jax.jit(lambda x: jnp.cumsum(jnp.full((1 << 16, (1 << 31) - 1), x), axis=1) + x)
try:
    parallel.on_host(too_much(1.0))
    raise AssertionError("as much memory as this is nowhere")
except jax.errors.JaxRuntimeError as error:
    assert parallel.out_of_memory(error), error
print("passed")
