"""The same machine for every test: two cores, JAX as strict as is practical, no display."""

import os

# Before JAX starts its threads. MuJoCo's, NumPy's and those of processes that tests start follow.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
os.environ["MPLBACKEND"] = "agg"
# Most of the time of these small programs is their compilation.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"

import hypothesis
import jax
import pytest

# Set here, so that a developer's JAX_* variables change no result.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", False)
jax.config.update("jax_numpy_dtype_promotion", "standard")
jax.config.update("jax_numpy_rank_promotion", "allow")

# An example's first run compiles, so no deadline; the same examples every time.
hypothesis.settings.register_profile("bmrl", deadline=None, derandomize=True)
hypothesis.settings.load_profile("bmrl")


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory: pytest.TempPathFactory):
    """Programs compiled by one command are reused by the next, as on a user's machine: also by the other worker's."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        yield
