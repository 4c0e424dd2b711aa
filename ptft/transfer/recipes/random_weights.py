"""Random weights: no transfer at all."""

from ptft.transfer.recipes.base import OF_THE_SOURCE
from ptft.transfer.recipes.full import Full


class RandomWeights(Full):
    """All weights are trained from random ones; of the source only the architecture and the image format are kept.

    On a target far from its source, with enough labels, nothing is gained by pretraining (He et al. 2019, "Rethinking
    ImageNet pre-training"), and weights that have settled elsewhere can stand in the way."""

    summary = "All weights are trained from random ones; the source's are set aside."
    refused = OF_THE_SOURCE
    reason = "has nothing of the source"
