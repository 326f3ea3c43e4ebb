"""The same machine for every test: two cores, JAX as strict as is practical, no display."""

import os

# Before JAX starts its threads. MuJoCo's, NumPy's and those of processes that tests start follow.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
os.environ["MPLBACKEND"] = "agg"
# Most of the time of these small programs is their compilation.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

import hypothesis
import jax

# Set here, so that a developer's JAX_* variables change no result.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", False)
jax.config.update("jax_numpy_dtype_promotion", "standard")
jax.config.update("jax_numpy_rank_promotion", "allow")

# An example's first run compiles, so no deadline; the same examples every time.
hypothesis.settings.register_profile("bmrl", deadline=None, derandomize=True)
hypothesis.settings.load_profile("bmrl")
