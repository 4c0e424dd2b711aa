"""The processes that torchrun starts for one run, called ranks: who they are, what they sum, how they end together.

A command that was started without torchrun is a single rank, for which everything here costs nothing.
"""
