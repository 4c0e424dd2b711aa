"""How images were brought to a foreign network: what is assumed where its file does not say."""

from dataclasses import replace

from ptft.data.task import Format
from ptft.models import Model, TorchvisionCnn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# torchvision normalises with ImageNet's statistics and these networks turn that into (x - 0.5) / 0.5 themselves
# (`transform_input`), which ours leave out.
_HALF = ("googlenet", "inception_v3")
_PHOTO_PIXELS, _SMALL_PIXELS = 224, 32
_PIXELS = {"inception_v3": 299}


def statistics_of(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Mean and std that our network of a torchvision name needs, from those torchvision's weights state."""
    return ((0.5,) * 3, (0.5,) * 3) if name in _HALF else (mean, std)


def assumed(model: Model, in_channels: int) -> tuple[Format | None, str]:
    """The image format to assume for a state dict that records none, and a sentence that says so.

    Args:
        model: the architecture.
        in_channels: that the source takes.

    Returns:
        ImageNet's statistics for a torchvision network of 3 channels; None, to be measured, for any other.
    """
    if not isinstance(model, TorchvisionCnn) or in_channels != 3:
        return None, (
            "how its images were normalised is not recorded: mean and std are measured on the target's images, "
            "unless data.mean and data.std say it."
        )
    mean, std = statistics_of(model.name, IMAGENET_MEAN, IMAGENET_STD)
    size = _SMALL_PIXELS if model.small_stem else _PIXELS.get(model.name, _PHOTO_PIXELS)
    return Format(size, 3, mean, std), (
        f"how its images were prepared is not recorded: assumed {size} pixels, mean {_told(mean)}, std {_told(std)}, "
        "unless data.image_size, data.mean and data.std say it."
    )


def adapted_format(format_: Format, in_channels: int) -> Format:
    """The format for another number of channels: each gets the mean of the source's means and stds."""
    mean, std = (sum(values) / len(values) for values in (format_.mean, format_.std))
    return replace(format_, in_channels=in_channels, mean=(mean,) * in_channels, std=(std,) * in_channels)


def _told(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
