"""Finetunes as fastai and timm do by default; called by transfer.py in an environment of its own.

    python scripts/bench/rivals.py fastai|timm INPUT.pt

INPUT.pt holds the classifier with the source's weights and a new head, uint8 images and labels of train and test, the
normalisation, batch size and steps. Both get the same augmentation, flips and shifts of a border of 4 pixels, and the
same optimizer steps; everything else is theirs. Prints the test accuracy.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

BORDER = 4


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Normalised images, float32 (C, S, S), and labels."""

    def __init__(self, given: dict[str, Any], part: str) -> None:
        self.images, self.labels = given[f"{part}_images"], given[f"{part}_labels"]
        size = self.images.shape[-1]
        steps: list[nn.Module] = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(given["mean"], given["std"])]
        if part == "train":
            shift = v2.RandomCrop(size, padding=BORDER, padding_mode="reflect")
            steps = [v2.RandomHorizontalFlip(), shift, *steps]
        self.transform = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[row]), self.labels[row]


def with_fastai(given: dict[str, Any]) -> nn.Module:
    """`Learner.fine_tune` of the backbone under fastai's own head: one epoch of the head, then all, one-cycle."""
    from fastai.vision.all import CrossEntropyLossFlat, DataLoader, DataLoaders, Learner, create_head, params

    train, size = Images(given, "train"), given["batch_size"]
    loaders = DataLoaders(
        DataLoader(train, bs=size, shuffle=True, drop_last=False), DataLoader(Subset(Images(given, "test"), [0]), bs=1)
    )
    classifier = given["classifier"]
    head = create_head(classifier.feature_dim, classifier.num_classes, pool=False)
    learner = Learner(
        loaders,
        nn.Sequential(classifier.backbone, head),
        loss_func=CrossEntropyLossFlat(),
        splitter=lambda model: [params(model[0]), params(model[1])],
        train_bn=True,
    )
    epochs = max(1, round(given["steps"] / math.ceil(len(train) / size)) - 1)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    model: nn.Module = learner.model
    return model


def with_timm(given: dict[str, Any]) -> nn.Module:
    """The defaults of timm's train.py: SGD with 0.1 for a batch of 256, linearly scaled, cosine, smoothing 0.1."""
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    model, steps, size = given["classifier"], given["steps"], given["batch_size"]
    lr = 0.1 * size / 256
    optimizer = create_optimizer_v2(model, opt="sgd", lr=lr, weight_decay=2e-5, momentum=0.9)
    schedule = CosineLRScheduler(optimizer, steps, warmup_t=steps // 10, warmup_lr_init=1e-5, t_in_epochs=False)
    smoothed, train = LabelSmoothingCrossEntropy(0.1), Images(given, "train")
    rows: list[int] = []
    model.train()
    for step in range(steps):
        schedule.step_update(step)
        while len(rows) < size:
            rows += torch.randperm(len(train)).tolist()
        chosen, rows = [train[row] for row in rows[:size]], rows[size:]
        images, labels = torch.stack([image for image, _ in chosen]), torch.stack([label for _, label in chosen])
        optimizer.zero_grad()
        smoothed(model(images), labels).backward()
        optimizer.step()
    return model  # type: ignore[no-any-return]


KINDS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {"fastai": with_fastai, "timm": with_timm}


@torch.no_grad()
def accuracy(model: nn.Module, test: Images) -> float:
    model.eval()
    right = 0
    for start in range(0, len(test), 256):
        pairs = [test[row] for row in range(start, min(start + 256, len(test)))]
        logits = model(torch.stack([image for image, _ in pairs]))
        right += int((logits.argmax(dim=1) == torch.stack([label for _, label in pairs])).sum())
    return right / len(test)


def main() -> None:
    kind, path = sys.argv[1], Path(sys.argv[2])
    given = torch.load(path, weights_only=False)
    torch.manual_seed(given["seed"])
    print(accuracy(KINDS[kind](given), Images(given, "test")))


if __name__ == "__main__":
    main()
