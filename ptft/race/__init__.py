"""Recipe auto: short races on the target's own images decide the recipe and its learning rate before the run begins.

They are successive halving (Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
optimization"; Li et al. 2018, "Hyperband"): many racers run a short way, the best of each kind a longer one. We differ
in that the second race begins anew, with a whole schedule of its length, as half of a longer schedule would say
nothing good of a bold learning rate; and in that a kind of start survives as long as any of it may win.
"""
