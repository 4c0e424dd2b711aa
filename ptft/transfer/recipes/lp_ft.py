"""Linear probing, then full finetuning."""

from ptft.transfer.recipes.full import Full


class LpFt(Full):
    """The head of the probe first, then all weights from there (Kumar et al. 2022, "Fine-tuning can distort pretrained
    features and underperform out-of-distribution", LP-FT).

    A random head would send large gradients into the backbone and distort features that were good."""

    summary = "The head is solved as by `probe`, then all weights are trained from there."
    solves_head = True
