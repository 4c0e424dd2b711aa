"""Freed memory stays with the process: the kernel clears no page twice."""

import json
import os
import platform
import statistics
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from ptft import entry

def tell_faults():
    counts = []
    for _ in range(31):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16, 1 << 20)  # 64 MiB
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    print(counts)

import ptft.cli
ptft.cli.main = tell_faults
entry.main()
"""
"""The heap grows now and then; what is kept is seen in most rounds."""
PAGES = (64 << 20) // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(("tuned", "is_kept"), [({}, True), ({"MALLOC_TOP_PAD_": "131072"}, False)])
def test_a_process_keeps_what_it_freed_unless_its_user_has_tuned_the_allocator(
    tuned: dict[str, str], is_kept: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUN"))}
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, env=environment | tuned, capture_output=True, text=True, check=True, timeout=120)
    counts = json.loads(done.stdout)
    assert (statistics.median(counts) < PAGES / 100) is is_kept, counts


RELEASE = """
import re
from pathlib import Path
import torch
from ptft.allocator import keep_freed_memory, release_freed_memory

def resident():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

keep_freed_memory()
before = resident()
blocks = [torch.ones(1 << 20) for _ in range(50)]  # 200 MiB
del blocks
kept = resident()
release_freed_memory()
print(kept - before, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_was_kept_is_given_back_when_asked_for() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUN"))}
    command = [sys.executable, "-c", RELEASE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    kept, left = map(int, done.stdout.split())
    assert kept > 150
    assert left < 50
