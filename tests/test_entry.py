"""The end of a process: whoever asked to be called is called, what was said is said, and the exit code is kept."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, os, sys
import ptft.cli
from ptft import entry

class Torn:
    def __del__(self):
        os.write(1, b"torn ")

torn = Torn()

def main():
    atexit.register(print, "asked", end=" ")
    print("said", end=" ")
    {ends}

ptft.cli.main = main
entry.main()
"""


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [("sys.exit(3)", 3, "said asked "), ("sys.exit()", 0, "said asked "), ("1 / 0", 1, "said asked torn ")],
)
def test_handlers_are_called_and_nothing_is_taken_apart_after_a_regular_end(ends: str, code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(ends=ends)], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout == said
