"""Randomness that a finetuning adds to a network or takes from it: dropout, stochastic depth."""

from torch import nn

from ptft.models.classifier import Classifier
from ptft.models.small_nets import Residual


def set_dropout(classifier: Classifier, probability: float) -> None:
    """Sets the dropout before the head, in place.

    Args:
        classifier: of any family.
        probability: of zeroing a feature while training, in [0, 1); 0 for none.
    """
    classifier.dropout = nn.Dropout(probability) if probability else nn.Identity()


def set_drop_path(classifier: Classifier, rate: float) -> int:
    """Sets the stochastic depth of all residual blocks that have it, in place (Huang et al. 2016, "Deep networks with
    stochastic depth").

    Block l of L is left out, image by image, with probability rate * l / L while training (their linear rule, section
    3); what stays is scaled by the inverse, as torchvision does it.

    Args:
        classifier: of a family whose blocks have it: small-resnet, and torchvision's ConvNeXt and EfficientNet.
        rate: of the last block, in [0, 1).

    Returns:
        L, 0 where no block has it.
    """
    from ptft.vision import torchvision

    for block in classifier.backbone.modules():
        if isinstance(block, Residual):
            block.drop = torchvision.ops.StochasticDepth(0.0, "row")
    depths = [part for part in classifier.backbone.modules() if isinstance(part, torchvision.ops.StochasticDepth)]
    for place, depth in enumerate(depths, 1):
        depth.p = rate * place / len(depths)
    return len(depths)
