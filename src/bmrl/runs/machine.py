"""What a computation runs on."""

import functools
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path


@functools.cache
def machine() -> str:
    """Processor and the cores that this process may use."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.processor()}, {cores} core{'s' if cores > 1 else ''}"


@functools.cache
def arithmetic() -> str:
    """What the last bits of a result depend on: the machine, JAX's devices and its version."""
    import jax

    devices = f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}"
    return f"{machine()}, {devices}, JAX {version('jax')}"
