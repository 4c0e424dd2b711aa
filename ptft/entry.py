"""Where a process begins: signals are in hand before anything is imported that takes time."""

from typing import NoReturn

from ptft.distributed.place import end_with_launcher
from ptft.stop import end_on_signals


def main() -> NoReturn:
    """Entry point of the `ptft` command."""
    end_on_signals()
    end_with_launcher()
    from ptft.cli import main

    main()
