"""The stages of a backbone from stem to head: what recipes freeze, thaw and slow down."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn import Parameter

_FEWEST = 3


@dataclass(frozen=True)
class Stage:
    """A part of the backbone that is trained or not as a whole.

    Attributes:
        name: of its first module, as in the backbone's state dict.
        modules: in the order of the backbone.
    """

    name: str
    modules: tuple[nn.Module, ...]

    def parameters(self) -> Iterator[Parameter]:
        """All of its weights."""
        for module in self.modules:
            yield from module.parameters()


def stages_of(backbone: nn.Module) -> list[Stage]:
    """The stages, from stem to head.

    They are the backbone's children that hold tensors. Where these are fewer than three, the one with the most parts
    is opened (torchvision's `features`), until there are three or nothing is left to open. A child of nothing but
    norms and biases belongs to the one before it: conv1 and bn1 are one stage.

    Args:
        backbone: every one of its parameters is in exactly one stage.
    """
    found = _merged(_children("", backbone)) or [Stage("", (backbone,))]
    while len(found) < _FEWEST:
        opened = max(found, key=lambda stage: len(_opened(stage)))
        inner = _opened(opened)
        if len(inner) < 2:
            break
        place = found.index(opened)
        found[place : place + 1] = inner
    return found


def _children(prefix: str, module: nn.Module) -> list[Stage]:
    named = [(f"{prefix}.{name}".lstrip("."), child) for name, child in module.named_children()]
    return [Stage(name, (child,)) for name, child in named if child.state_dict()]


def _opened(stage: Stage) -> list[Stage]:
    first, *others = stage.modules
    if first._parameters:  # its own weights would be in no stage
        return []
    inner = _merged(_children(stage.name, first))
    if not inner:
        return []
    return [*inner[:-1], Stage(inner[-1].name, (*inner[-1].modules, *others))]


def _merged(stages: Sequence[Stage]) -> list[Stage]:
    """Stages of norms and biases alone put to the one before."""
    merged: list[Stage] = []
    for stage in stages:
        if merged and all(parameter.ndim <= 1 for parameter in stage.parameters()):
            merged[-1] = Stage(merged[-1].name, (*merged[-1].modules, *stage.modules))
        else:
            merged.append(stage)
    return merged
