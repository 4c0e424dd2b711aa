"""Freed memory stays with the process: the kernel clears no page twice."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from ptft import entry

def fault_count():
    for _ in range(3):
        torch.ones(16, 1 << 20)  # 64 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16, 1 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

import ptft.cli
ptft.cli.main = fault_count
entry.main()
"""
PAGES = 5 * (64 << 20) // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("tuned", "is_kept"), [({}, True), ({"MALLOC_TOP_PAD_": "131072"}, False)])
def test_a_process_keeps_what_it_freed_unless_its_user_has_tuned_the_allocator(
    tuned: dict[str, str], is_kept: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUN"))}
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, env=environment | tuned, capture_output=True, text=True, check=True, timeout=120)
    assert (int(done.stdout) < PAGES / 2) is is_kept
