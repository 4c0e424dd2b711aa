"""`python -m ptft`, which torchrun needs."""

from ptft.entry import main

if __name__ == "__main__":  # a worker process of `ptft compare` imports this module again
    main()
