"""Where in a foreign file the weights are, and what wrappers have put into their names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ptft.errors import CheckpointError, TransferError

# Words that wrappers put anywhere into tensor names: DistributedDataParallel and DataParallel, torch.compile,
# FullyShardedDataParallel, activation checkpointing.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")

# What training tools call the weights, the better ones first: averaged before raw (timm, torchvision's references),
# teacher before student (DINO, which evaluates its teacher).
_SECTIONS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "ema",
    "teacher",
    "state_dict",
    "model_state_dict",
    "model",
    "model_state",
    "module",
    "net",
    "network",
    "weights",
    "backbone",
    "encoder",
    "student",
)
_DEPTH = 3


@dataclass(frozen=True)
class StateDict:
    """Tensors found in a foreign file.

    Attributes:
        tensors: by the file's names.
        said: where they were, and what else was there; a sentence each.
    """

    tensors: Mapping[str, Tensor]
    said: tuple[str, ...] = ()


def find_state_dict(content: Mapping[str, Any], where: str) -> StateDict:
    """The weights in what a training tool has saved.

    Args:
        content: tensors and plain values, nested.
        where: how messages name the file.

    Raises:
        CheckpointError: no state dict, or several of which none has a usual name.
    """
    found = dict(_state_dicts(content, ()))
    if not found:
        raise CheckpointError(
            f"{where} is neither a ptft checkpoint nor a state dict (names to tensors). It holds {_told(content)}."
        )
    path = _preferred(found)
    if path is None:
        places = ", ".join(".".join(place) for place in found)
        raise CheckpointError(
            f"{where} holds several state dicts ({places}) and none has a usual name. Save the one you want by itself."
        )
    tensors = {name: value for name, value in found[path].items() if isinstance(value, Tensor)}
    said = []
    if path:
        others = [".".join(place) for place in found if place != path]
        rest = f"; {', '.join(others)} in the same file stayed unused" if others else ""
        said.append(f"took the weights from {'.'.join(path)}{rest}.")
    if plain := [name for name, value in found[path].items() if not isinstance(value, Tensor)]:
        said.append(f"{', '.join(plain[:5])} among the weights is no tensor and stayed unused.")
    return StateDict(tensors, tuple(said))


def _state_dicts(
    content: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every mapping of mostly tensors with a matrix among them, with its place; optimizer states have no such names."""
    tensors = [value for value in content.values() if isinstance(value, Tensor)]
    if len(tensors) > len(content) / 2 and any(tensor.ndim > 1 for tensor in tensors):
        if all(isinstance(name, str) for name in content):
            yield path, content
        return
    if len(path) < _DEPTH:
        for name, value in content.items():
            if isinstance(name, str) and isinstance(value, Mapping) and "optim" not in name:
                yield from _state_dicts(value, (*path, name))


def _preferred(found: Mapping[tuple[str, ...], Any]) -> tuple[str, ...] | None:
    if len(found) == 1:
        return next(iter(found))
    ranks = {
        path: min(_SECTIONS.index(word) for word in path if word in _SECTIONS)
        for path in found
        if any(word in _SECTIONS for word in path)
    }
    best = [path for path, rank in ranks.items() if rank == min(ranks.values())]
    return best[0] if len(best) == 1 else None


def _told(content: Mapping[str, Any]) -> str:
    keys = [str(key) for key in content]
    return f"the keys {', '.join(keys[:12])}" if keys else "nothing"


def unwrap(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Source tensors without wrapper words in their names, and the words taken off.

    Raises:
        TransferError: two tensors would have the same name.
    """
    stripped: dict[str, None] = {}
    source: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        words = name.split(".")
        stripped |= {f"{word}.": None for word in words if word in _WRAPPERS}
        plain = ".".join(word for word in words if word not in _WRAPPERS)
        if plain in source:
            raise TransferError(f"the source has {plain} twice, with and without a wrapper prefix.")
        source[plain] = tensor
    return source, list(stripped)
