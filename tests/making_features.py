"""Features that tell classes apart as well as asked."""

import numpy as np


def make_features(
    num_images: int = 120, num_dims: int = 10, num_classes: int = 3, signal: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Normal features around a mean for each class, `signal` from the origin; and labels, not equally many."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, num_images - num_classes)])
    means = rng.normal(0, 1, (num_classes, num_dims))
    means *= signal / np.linalg.norm(means, axis=1, keepdims=True)
    return 2.0 + means[labels] + rng.normal(0, 1, (num_images, num_dims)), labels
