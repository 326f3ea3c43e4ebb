"""Learners over devices: K independent learners, sharded over every device that JAX sees.

On a CPU each core is made a device of its own: many small matrix products then run side by side, which is about
1.4 times as fast as one device with two threads.
"""

import contextlib
import logging
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bmrl.errors import BmrlError

AXIS = "learner"
XLA_THREADS = "NPROC"  # XLA's name for it in the environment
UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([\w.-]+)'")  # JAX's words


def cores() -> int:
    """How many cores this process has to itself; see `set_up_jax`."""
    return int(os.environ.get(XLA_THREADS, 0)) or len(os.sched_getaffinity(0))


def set_up_jax(own_cores: int | None = None) -> None:
    """Make each CPU core a JAX device, and keep compiled programs in the user's cache for the next run.

    Call once, before any array exists; later calls change nothing. ``own_cores`` is how many this process has to
    itself, if these are not all that it may use.
    """
    if own_cores is not None:
        os.environ[XLA_THREADS] = str(own_cores)
    with contextlib.suppress(RuntimeError):  # the backend is up already: keep the devices that it has
        jax.config.update("jax_num_cpu_devices", cores())
    jax.config.update("jax_compilation_cache_dir", str(_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bmrl" / "jax"


def mend_cache() -> None:
    """From now on warnings go to the log, and compiled programs that JAX cannot read are removed from the cache.

    A kill can cut one short. JAX compiles it again and warns, but never replaces it: it would warn at every start.
    """

    def remove(record: logging.LogRecord) -> bool:
        if found := UNREADABLE.search(record.getMessage()):
            for entry in _cache().glob(f"{found[1]}-*"):
                entry.unlink(missing_ok=True)
        return True

    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addFilter(remove)


def on_cpu() -> bool:
    """Whether learners are trained on the CPU, there being no accelerator."""
    platform: str = jax.local_devices()[0].platform
    return platform == "cpu"


def on_host_alone(function: Callable) -> Callable:
    """``function`` compiled for the CPU, its results as numpy arrays: it does not wait for what an accelerator does."""
    program = jax.jit(function)

    def call(*args: Any) -> Any:
        try:
            cpu = jax.local_devices(backend="cpu")[0]
        except RuntimeError as error:
            raise BmrlError("JAX_PLATFORMS leaves out the CPU: name it behind the accelerator, as cuda,cpu") from error
        with jax.default_device(cpu):
            return on_host(program(*on_host(args)))

    return call


def mesh(learners: int) -> Mesh:
    """The local devices in one axis, no more of them than learners: the cores of the others work for these."""
    return Mesh(np.array(jax.local_devices()[:learners]), (AXIS,))


def padded(learners: int) -> int:
    """The number of learners rounded up to a multiple of their devices; the extra ones are copies of the last."""
    devices = mesh(learners).size
    return -(-learners // devices) * devices


def shard(tree: Any) -> Any:
    """Put arrays [K, ...] on the devices, the leading axis divided among them, padded with copies of the last."""

    def put(x: Any) -> jax.Array:
        x = np.asarray(x)
        sharding = NamedSharding(mesh(len(x)), PartitionSpec(AXIS))
        extra = padded(len(x)) - len(x)
        return jax.device_put(np.concatenate([x, np.repeat(x[-1:], extra, axis=0)]) if extra else x, sharding)

    return jax.tree.map(put, tree)


def unshard(tree: Any, learners: int) -> Any:
    """Back to numpy arrays [K, ...] without the padding."""
    return jax.tree.map(lambda x: x[:learners], on_host(tree))


def on_host(tree: Any) -> Any:
    """As numpy arrays. Raises JaxRuntimeError where the program that makes them failed, e.g. as the memory was full.

    (Where nobody waits for it first, NumPy's conversion of what failed ends the process.)
    """
    return jax.tree.map(np.asarray, jax.block_until_ready(tree))


def out_of_memory(error: Exception) -> bool:
    """Whether JAX raised this because a device has no memory left."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def over_learners(
    function: Callable, replicated: int = 0, donate: tuple[int, ...] = (), at_once: int | None = None
) -> Callable:
    """``function``, written for one learner, over the K learners [K, ...] of its arguments, as one compiled program.

    The last ``replicated`` arguments are the same for every learner. ``donate`` names arguments whose memory may be
    reused for the result. Each device takes so many of its learners ``at_once`` (``vmap``), all of them if None, and
    group after group (``lax.map``): with 1, loops of large matrix products are fastest on a CPU, where a batched
    product is slower than the products one after the other (docs/benchmarks.md). An accelerator takes all at once: one
    learner's products do not fill it.
    """

    def program(*args: Any) -> Any:
        def body(*args: Any) -> Any:
            mapped, shared = (args[:-replicated], args[-replicated:]) if replicated else (args, ())
            if at_once is None or not on_cpu():
                return jax.vmap(lambda *one: function(*one, *shared))(*mapped)
            size = at_once if at_once > 1 else None  # a group of one would be a batched product again
            return jax.lax.map(lambda one: function(*one, *shared), mapped, batch_size=size)

        mapped = len(args) - replicated
        specs = (PartitionSpec(AXIS),) * mapped + (PartitionSpec(),) * replicated
        devices = mesh(len(jax.tree.leaves(args)[0]))
        return jax.shard_map(body, mesh=devices, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False)(*args)

    return jax.jit(program, donate_argnums=donate)


def learner_keys(seed: int, stage: str, learners: int, first: int = 0) -> jax.Array:
    """One random key a learner, from ``first`` on, a function of (seed, stage, learner) alone: raw uint32 [K, 2]."""
    stage_key = jax.random.fold_in(jax.random.PRNGKey(seed), zlib.crc32(stage.encode()))
    return jax.vmap(lambda i: jax.random.fold_in(stage_key, i))(first + jnp.arange(learners))
