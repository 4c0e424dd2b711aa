"""Linear probe."""

from collections.abc import Sequence

from ptft.transfer.recipes.base import OPTIONS, Recipe


class Probe(Recipe):
    """The backbone stays; the head is a linear model on its features: logistic regression, one for each class of a
    multi-label task, ridge regression of numbers (Alain & Bengio 2017, "Understanding intermediate layers using linear
    classifier probes"; solved by L-BFGS as in Radford et al. 2021, section A.3).

    The features of every image are computed once, without augmentation, so all of training is one step."""

    summary = "The backbone stays as it is; the head is solved on its features, computed once: seconds."
    refused = OPTIONS
    reason = "leaves the backbone alone"
    solves_head = True
    trains_network = False

    def trained(self, stages: Sequence[str], done: float) -> Sequence[str]:
        return ()
