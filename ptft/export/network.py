"""The network of a checkpoint from pixels to answers, and what another program must know beside it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import ptft
from ptft.checkpoint import Checkpoint
from ptft.data.images import ResidentImages
from ptft.data.labelling import Scale
from ptft.data.task import Examples, Format
from ptft.data.views import views_of
from ptft.inference import load_classifier, task_of
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.runtime import derive_seed
from ptft.tasks import Answers, MultiLabel, TaskConfig
from ptft.train.evaluate import predictions_of
from ptft.transfer.facts import Facts
from ptft.transfer.source import format_of, model_of, scale_of

TOLERANCE = 1e-5
"""Largest difference accepted between what a file and the checkpoint say, see `Exported.difference`."""
_NUM_IMAGES = 4


class Network(nn.Module):
    """Images as they are decoded, to what `ptft predict` says of them: normalisation, views and activation inside.

    Args:
        classifier: images to logits, in eval mode, on the CPU.
        format_: how it is given images.
        answers: what is made of its logits.
        is_regression: whether these are numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: nn.Module, format_: Format, answers: Answers, is_regression: bool) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_views = format_.num_views
        self.answers = answers
        self.is_regression = is_regression
        self.register_buffer("mean", 255 * torch.tensor(format_.mean).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(format_.std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps images uint8 (B, C, S, S) to answers (B, K) and logits, float32 (B, K).

        The answers are probabilities, float32, or numbers in the targets' own units, float64: a year, in seconds, has
        more digits than float32.
        """
        weights, views = zip(*views_of((images.to(torch.float32) - self.mean) / self.std, self.num_views), strict=True)
        # One pass for all views: the network is in the file once.
        logits = self.classifier(torch.cat(views)).unflatten(0, (len(views), -1))
        logits = torch.einsum("v,vbk->bk", torch.tensor(weights), logits)
        return self.answers.values(logits.double() if self.is_regression else logits), logits


@dataclass(frozen=True)
class Exported:
    """A checkpoint on its way into a file.

    Attributes:
        found: the checkpoint.
        task: its kind.
        model: its architecture.
        classifier: with the weights to use (averaged ones, where there are), in eval mode on the CPU.
        format: of its images.
        scale: of a regression's targets.
    """

    found: Checkpoint
    task: TaskConfig
    model: Model
    classifier: Classifier
    format: Format
    scale: Scale | None

    @classmethod
    def of(cls, found: Checkpoint) -> "Exported":
        """Reads it out of a checkpoint.

        Raises:
            CheckpointError: its model or its task is not known here.
        """
        return cls(found, task_of(found), model_of(found), load_classifier(found), format_of(found), scale_of(found))

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the answers; of a regression its targets' names."""
        return self.found.metadata.classes

    def network(self, classifier: nn.Module | None = None) -> Network:
        """From pixels to answers, with the checkpoint's own network from images to logits, or another."""
        net = classifier or self.classifier
        return Network(net, self.format, self.answers(), self.scale is not None).eval()

    def answers(self) -> Answers:
        """What is made of the network's logits."""
        return self.task.answers(self.classes, self.scale, top=1)

    def images(self) -> Tensor:
        """Fixed images on which a file is compared with the checkpoint, uint8 (4, C, S, S)."""
        generator = torch.Generator().manual_seed(derive_seed("export"))
        shape = (_NUM_IMAGES, self.format.in_channels, self.format.image_size, self.format.image_size)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def difference(self, images: Tensor, answers: Tensor, logits: Tensor) -> float:
        """Largest difference between what a file says of images and what the checkpoint says, `ptft predict`'s way.

        Logits are compared, as a share of the largest or of 1: of a network that is sure of an image the probabilities
        are all near 0 or 1, whatever it is given. The file's answers must be those of the file's logits.

        Args:
            images: uint8 (B, C, S, S).
            answers, logits: of the file, as `Network` gives them.
        """
        examples = Examples(ResidentImages(images), torch.zeros(len(images), dtype=torch.int64), [""] * len(images))
        expected = predictions_of(self.classifier, examples, self.format, torch.device("cpu")).logits
        meant = self.answers().values(logits.double())
        if self.scale is not None:
            answers, meant = self.scale.standardize(answers.double()), logits.double()
        pairs = (logits, expected), (answers, meant)
        shares = [(ours - theirs).abs().max() / theirs.abs().max().clamp_min(1.0) for ours, theirs in pairs]
        return torch.stack([share.double() for share in shares]).max().item()  # NaN, where there is one

    def facts(self) -> Facts:
        """What goes into every file beside the weights."""
        return Facts(
            ptft=ptft.__version__,
            digest=self.found.digest,
            task=self.task.name,
            model=self.model.name,
            classes=self.classes,
            image_size=self.format.image_size,
            in_channels=self.format.in_channels,
            threshold=self.task.threshold if isinstance(self.task, MultiLabel) else None,
        )
