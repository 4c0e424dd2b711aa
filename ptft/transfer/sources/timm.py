"""`timm:NAME`: pretrained weights by their name in timm, through timm's own loader and cache."""

import logging
from typing import Any

from torch import Tensor, nn

from ptft.data.task import Format
from ptft.errors import CheckpointError, UsageError
from ptft.models import Model
from ptft.transfer.source import SourceWeights
from ptft.transfer.sources.files import of_tensors


def read_timm(name: str, model: Model | None) -> SourceWeights:
    """Reads weights that timm fetches or has in its cache.

    Args:
        name: of a timm model, for example `resnet18.a1_in1k`.
        model: what a config says the weights are for; None to recognise it.

    Raises:
        UsageError: timm is not installed.
        CheckpointError: timm has no such model or weights, cannot fetch them, or no model of ptft is the same.
    """
    try:
        import timm
    except ImportError:
        raise UsageError(f"timm:{name} needs timm. pip install 'ptft[timm]'") from None
    # It tells of every attempt; what counts is how the last one ended.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not timm.is_model(name):
        raise CheckpointError(
            f"timm:{name}: timm has no model of this name. `timm.list_models(pretrained=True)` lists."
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:
        # timm's loader goes through several libraries, each with errors of its own.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"timm:{name} could not be fetched ({reason}). {_where(timm.get_pretrained_cfg(name))}"
        ) from error
    return of_timm(network, name, model)


def of_timm(network: nn.Module, name: str, model: Model | None) -> SourceWeights:
    """A timm network in memory as a source; its preprocessing is what timm records for its weights."""
    found = of_tensors(network.state_dict(), f"timm:{name}", model, ())
    record: dict[str, Any] = getattr(network, "pretrained_cfg", {})
    size, mean, std = record["input_size"], tuple(record["mean"]), tuple(record["std"])
    *said, _assumption = found.said
    said.append(f"{size[1]} pixels, mean {mean}, std {std} from timm's record of them.")
    network.eval()

    def features(images: Tensor) -> Tensor:
        # Without a head timm's networks give the features after pooling, as ours do.
        result: Tensor = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
        return result

    known = Format(size[1], size[0], mean, std)
    return SourceWeights(found.tensors, (), known, found.model, (), found.in_channels, tuple(said), features)


def _where(record: Any) -> str:
    repository = getattr(record, "hf_hub_id", None) or ""
    address = f"https://huggingface.co/{repository.rstrip('/')}" if repository else "its address"
    return f"Offline, fill the cache of huggingface_hub (HF_HOME) from {address} where there is a network."
