"""Random weights: no transfer at all."""

from ptft.transfer.recipes.full import Full


class RandomWeights(Full):
    """All weights are trained from random ones; of the source only the architecture and the image format are kept.

    On a target far from its source, with enough labels, nothing is gained by pretraining (He et al. 2019, "Rethinking
    ImageNet pre-training"), and weights that have settled elsewhere can stand in the way."""
