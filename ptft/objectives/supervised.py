"""The supervised objective: cross-entropy on labels, with smoothing, class weights, mixup and CutMix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ptft.config.base import Config

if TYPE_CHECKING:
    from ptft.objectives.cross_entropy import CrossEntropy


class Supervised(Config):
    """Cross-entropy on class labels."""

    name: Literal["supervised"] = "supervised"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes (Szegedy et al. 2016, section 7)."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs a class by N / (K · its count), so that rare classes count as much as common ones."""
    mixup: float = Field(0.0, ge=0)
    """α of the Beta(α, α) that blends pairs of images (Zhang et al. 2018); 0 is off."""
    cutmix: float = Field(0.0, ge=0)
    """α of the Beta(α, α) whose share of the area is pasted from another image (Yun et al. 2019); 0 is off."""

    def build(self, class_counts: Sequence[int], seed: int) -> "CrossEntropy":
        """The objective for a training part.

        Args:
            class_counts: number of training images of each class.
            seed: the run's seed, for mixup and CutMix.
        """
        from ptft.objectives.cross_entropy import CrossEntropy
        from ptft.objectives.mixing import Mixing

        weights = None
        if self.class_weights == "balanced":
            mean = sum(class_counts) / len(class_counts)
            weights = [mean / count for count in class_counts]
        return CrossEntropy(self.label_smoothing, weights, Mixing(self.mixup, self.cutmix, seed))
