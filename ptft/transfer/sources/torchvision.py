"""`torchvision:WEIGHTS`: weights that torchvision publishes, from its own cache or address."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any, get_args

import torch.hub

from ptft.checkpoint import read_weights
from ptft.data.task import Format
from ptft.errors import CheckpointError
from ptft.models import TorchvisionCnn
from ptft.models.zoo import TorchvisionName
from ptft.transfer.names import find_state_dict
from ptft.transfer.recognise import fit_to
from ptft.transfer.source import SourceWeights
from ptft.transfer.sources.preprocessing import statistics_of


def read_torchvision(name: str) -> SourceWeights:
    """Reads weights by torchvision's name, for example `ResNet18_Weights.IMAGENET1K_V1`; class names included.

    Raises:
        CheckpointError: no such weights, not of a CNN classifier, or neither in the cache nor to be fetched.
    """
    weights = _look_up(name)
    model = TorchvisionCnn.model_validate({"name": _model_name(weights, name)})
    path = _fetched(weights.url, name)
    content = read_weights(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not what torchvision publishes: it is a ptft checkpoint.")
    fit = fit_to(model, find_state_dict(content, str(path)).tensors)
    prepare = weights.transforms()
    size, mean, std = prepare.crop_size[0], tuple(prepare.mean), tuple(prepare.std)
    mean, std = statistics_of(model.name, mean, std)
    classes = tuple(weights.meta.get("categories") or ())
    said = (
        f"torchvision:{name}: {fit.sentence()}",
        f"{size} pixels, mean {mean}, std {std} and {len(classes)} class names from torchvision's record of them.",
    )
    return SourceWeights(fit.tensors, classes, Format(size, 3, mean, std), model, (), 3, said)


def _look_up(name: str) -> Any:
    from ptft.vision import torchvision

    try:
        return torchvision.models.get_weight(name)
    except (ValueError, KeyError, AttributeError):
        pass
    try:
        choices = [str(choice) for choice in torchvision.models.get_model_weights(name)]
    except ValueError:
        choices = ["ResNet18_Weights.IMAGENET1K_V1"]
    told = " or ".join(f"torchvision:{choice}" for choice in choices)
    raise CheckpointError(f"torchvision:{name}: torchvision has no weights of this name. Write for example {told}.")


def _model_name(weights: Any, name: str) -> str:
    from ptft.vision import torchvision

    for model in get_args(TorchvisionName):
        if isinstance(weights, torchvision.models.get_model_weights(model)):
            return str(model)
    raise CheckpointError(f"torchvision:{name}: not weights of a CNN classifier that ptft knows (`ptft list models`).")


def _fetched(url: str, name: str) -> Path:
    """The file in torchvision's cache, fetched when it is not there, its SHA-256 held against its name."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    prefix = (re.findall(r"-([0-9a-f]{8,})\.", path.name) or [""])[-1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), prefix or None, progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"torchvision:{name} is not in the cache and could not be fetched ({reason}). "
                f"Fetch {url} where there is a network, and put it into {path.parent}/."
            ) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(prefix):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 begins with {digest[:8]}, its name says {prefix}. Remove it and try again."
        )
    return path
