"""A classifier: a backbone that turns images into features and a linear head for the logits."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """Backbone, dropout and linear head; the state dict has names `backbone.*` and `head.*` only.

    Backbone and head are apart because a transfer keeps one and replaces the other: a new task assigns a new
    `head`, and `num_classes` follows.

    Args:
        backbone: maps images (B, C, H, W), float32, to features (B, D); without randomness in eval mode.
        head: `nn.Linear(D, K)`.
        in_channels: C, the channels that the backbone takes.
        dropout: probability of zeroing a feature before the head while training, in [0, 1).
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear, *, in_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.in_channels = in_channels
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    @property
    def feature_dim(self) -> int:
        """D, the length of one feature vector."""
        return self.head.in_features

    @property
    def num_classes(self) -> int:
        """K, the classes of the task."""
        return self.head.out_features

    def features(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W), float32, to features (B, D), before dropout."""
        features: Tensor = self.backbone(images)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Maps features (B, D) to logits (B, K); all it takes to train a head on a frozen backbone."""
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W), float32, to logits (B, K)."""
        return self.classify(self.features(images))
