"""`python -m ptft`, which torchrun needs."""

from ptft.cli import main

main()
