import os

import pytest

from bmrl.runs.machine import memory_limit

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, MACHINE),
        ({"proc/self/cgroup": "0::/\n"}, MACHINE),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, MACHINE),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "4096000\n"}, 4096000),
        (  # the group above limits, too
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "4096000\n",
                "sys/fs/cgroup/a/memory.max": "1024000\n",
            },
            1024000,
        ),
        ({"proc/self/cgroup": "0::/known/outside\n", "sys/fs/cgroup/memory.max": "4096000\n"}, 4096000),  # a container
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "4096000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            4096000,
        ),
    ],
    ids=["no groups", "the top", "no limit", "a limit", "a limit above", "in a container", "version 1"],
)
def test_the_least_limit_of_the_process_and_the_groups_above_it_holds(files, limit, tmp_path):
    assert memory_limit(tree(tmp_path, files)) == limit
