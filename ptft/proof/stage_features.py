"""Features of all stages of a backbone: finetuning can put to use what its end alone does not show."""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from ptft.transfer.stages import stages_of


class StageFeatures(nn.Module):
    """A frozen backbone that gives what each stage hands to the next, pooled, beside its features; a context manager.

    Intermediate features predict how well finetuning will go better than the last ones alone, and a linear classifier
    on all of them comes near it (Evci et al. 2022, Head2Toe, ICML, section 3). We differ: means over places instead of
    pooled patches, one value a channel, and no choice among them; the ridge penalty of the probe takes that part.

    Args:
        backbone: maps images (B, C, H, W) to features (B, D). Hooks are on it inside the `with` block alone.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._stages = [stage.modules[0] for stage in stages_of(backbone)[1:]]
        self._handles: list[Any] = []
        self._handed: dict[int, Tensor] = {}

    def __enter__(self) -> "StageFeatures":
        for number, stage in enumerate(self._stages):
            self._handles.append(stage.register_forward_pre_hook(self._noting(number)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _noting(self, number: int) -> Any:
        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            maps = inputs[0] if inputs else None
            if isinstance(maps, Tensor) and maps.ndim == 4:
                self._handed[number] = maps.mean(dim=(2, 3))

        return note

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W), float32, to (B, E): E is D and the channels that each later stage is given."""
        self._handed.clear()
        features = self.backbone(images)
        return torch.cat([*(self._handed[number] for number in sorted(self._handed)), features], dim=1)
