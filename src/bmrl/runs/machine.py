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
def machine_and_accelerators() -> str:
    """The machine, and those devices of JAX's that are not its processor."""
    import jax

    first, count = jax.local_devices()[0], jax.local_device_count()
    return machine() if first.platform == "cpu" else f"{machine()}, {count} x {first.device_kind}"


@functools.cache
def arithmetic() -> str:
    """What the last bits of a result depend on: the machine, JAX's devices and its version."""
    import jax

    devices = f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}"
    return f"{machine()}, {devices}, JAX {version('jax')}"


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the machine's, or less where a control group limits it.

    ``root`` is where the system's files are.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    listed = root / "proc/self/cgroup"
    for line in listed.read_text().splitlines() if listed.exists() else ():
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):  # version 2 and version 1
            top, file = root / "sys/fs/cgroup" / controllers, "memory.limit_in_bytes" if controllers else "memory.max"
            # Each group limits those below it. In a container the top is its own, whatever it is called outside.
            inside = Path(group.lstrip("/"))
            texts = [
                (top / place / file).read_text() for place in (inside, *inside.parents) if (top / place / file).exists()
            ]
            limits += [int(text) for text in texts if text.strip() != "max"]
    return min(limits)
