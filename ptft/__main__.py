"""`python -m ptft`, which torchrun needs."""

from ptft.entry import main

main()
