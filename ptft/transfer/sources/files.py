"""Weights in a file: a ptft checkpoint, a state dict, a training checkpoint of another tool."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ptft.checkpoint import Checkpoint, read_weights
from ptft.errors import CheckpointError, TransferError, UsageError
from ptft.models import Model
from ptft.transfer.facts import Facts
from ptft.transfer.names import find_state_dict
from ptft.transfer.recognise import Fit, describe_model, fit_to, recognise
from ptft.transfer.source import SourceWeights
from ptft.transfer.sources.preprocessing import assumed


def read_file(path: Path, model: Model | None) -> SourceWeights:
    """Reads weights from a file.

    Args:
        path: of any of the three kinds.
        model: what a config says the weights are of; None to recognise it. A ptft checkpoint says it itself.

    Raises:
        CheckpointError: none of the three, damaged, or of no model that is known.
        UsageError: a `.safetensors` file without the package.
    """
    facts: Facts | None = None
    content: Checkpoint | dict[str, Any]
    if path.suffix.lower() == ".safetensors":
        content, facts = _read_safetensors(path)
    else:
        content = read_weights(path)
    if isinstance(content, Checkpoint):
        return SourceWeights.of_checkpoint(content)
    found = find_state_dict(content, str(path))
    return of_tensors(found.tensors, str(path), model, found.said, facts)


def of_tensors(
    weights: Mapping[str, Tensor], where: str, model: Model | None, said: tuple[str, ...], facts: Facts | None = None
) -> SourceWeights:
    """Foreign tensors as a source: their model recognised, their preprocessing assumed where the file does not say it.

    Args:
        weights: by the source's names.
        where: how messages name the source.
        model: what a config says the weights are for; None when it does not.
        said: what was found on the way.
        facts: that `ptft export` wrote beside them; None for other files.

    Raises:
        CheckpointError: the facts are not those of the tensors.
        TransferError: they fit no known model, and the config names none.
    """
    fit, told = _recognised(weights, where, model)
    recognised = fit.model if fit.is_whole else None
    if facts is not None and facts.format is not None:
        _check_facts(facts, fit, where)
        told += f" Class names, image size, mean and std are those of checkpoint {facts.digest[:12]}."
        known = facts.format, recognised, (), fit.in_channels, (*said, f"{where}: {told}")
        return SourceWeights(fit.tensors, facts.classes, *known, task=facts.task, scale=facts.scale)
    format_, assumption = assumed(fit.model, fit.in_channels)
    said = (*said, f"{where}: {told}", "class names are not recorded.", assumption)
    return SourceWeights(fit.tensors, (), format_, recognised, (), fit.in_channels, said)


def _check_facts(facts: Facts, fit: Fit, where: str) -> None:
    head = fit.tensors.get("head.weight")
    for what, told, found in (
        ("input channels", facts.in_channels, fit.in_channels),
        ("as the model", facts.model, fit.model.name),
        ("classes", len(facts.classes), len(facts.classes) if head is None else len(head)),
    ):
        if told != found:
            raise CheckpointError(
                f"{where}: its metadata say {told} {what}, its weights {found}. Export it again from its checkpoint."
            )


def _recognised(weights: Mapping[str, Tensor], where: str, model: Model | None) -> tuple[Fit, str]:
    """The fit, to the model that a config names where nothing is recognised, and a sentence about it."""
    try:
        fit = recognise(weights, where)
    except TransferError:
        if model is None:
            raise
        return fit_to(model, weights), f"not recognised; fitted to {describe_model(model)} as the config says."
    return fit, fit.sentence()


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Facts | None]:
    """The tensors, and what ptft wrote beside them."""
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
    except ImportError:
        raise UsageError(f"{path}: reading .safetensors needs a package. pip install 'ptft[safetensors]'") from None
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        return dict(load_file(path)), Facts.from_text(metadata, str(path))
    except OSError as error:
        raise CheckpointError(f"{path}: no such checkpoint file ({error.strerror or error}).") from error
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error}).") from error
