"""Everything that changes while training, and how it goes into a checkpoint and comes back."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from ptft.errors import CheckpointError
from ptft.models.classifier import Classifier


class Average:
    """Exponential moving average of a model's weights, with warm-up.

    After step t the decay is min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage: early
    weights are forgotten quickly. Batch-norm statistics are averaged like weights; counters are copied.

    Args:
        model: the trained model.
        decay: in (0, 1).
    """

    def __init__(self, model: Classifier, decay: float) -> None:
        self._decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.tensors = self.model.state_dict()

    @torch.no_grad()
    def update(self, model: Classifier, step: int, is_finite: Tensor) -> None:
        """Moves the average towards `model` after `step` completed steps.

        Args:
            model: its tensors are finite.
            step: at least 1.
            is_finite: bool (), on the device of the model; where it is false the average stays.
        """
        weight = is_finite * (1 - min(self._decay, (1 + step) / (10 + step)))
        current = model.state_dict()
        floats = [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]
        averages = [self.tensors[name] for name in floats]
        torch._foreach_lerp_(averages, [current[name] for name in floats], [weight] * len(floats))
        for name in self.tensors.keys() - set(floats):
            self.tensors[name].copy_(current[name])


@dataclass
class Progress:
    """The plain numbers of a run in progress.

    Attributes:
        step: optimizer steps completed.
        evaluated_step: the last step whose validation scores are in.
        best_step: the step of the best validation score so far; 0 before the first.
        best_merit, best_loss: that score.
        best_told: what a checkpoint's lineage tells of it.
        num_stale: evaluations since.
        loss_sum, num_losses: of the steps since the last line of metrics.jsonl.
        seconds: spent in training, over all sessions.
        last_loss: of the last step where it was finite; None before the first.
        num_nonfinite: steps so far whose loss or gradient was not finite.
        left_out: such steps, counted from 0, that are not computed again after going back.
        lr_factor: on the learning rate; halved each time the run went back.
        accumulate: least number of micro-batches, grown when memory ran out.
    """

    step: int = 0
    evaluated_step: int = 0
    best_step: int = 0
    best_merit: float = 0.0
    best_loss: float = 0.0
    best_told: dict[str, Any] = field(default_factory=dict)
    num_stale: int = 0
    loss_sum: float = 0.0
    num_losses: int = 0
    seconds: float = 0.0
    last_loss: float | None = None
    num_nonfinite: int = 0
    left_out: list[int] = field(default_factory=list)
    lr_factor: float = 1.0
    accumulate: int = 1

    def is_better(self, merit: float, loss: float) -> bool:
        """Whether a validation score beats the best: more merit, or the same with a lower loss."""
        return not self.best_step or (merit, -loss) > (self.best_merit, -self.best_loss)


@dataclass
class State:
    """A run between two steps.

    Attributes:
        model: the classifier in training.
        optimizer: over its trained parameters.
        average: moving average of its weights, or None.
        scaler: loss scaling, enabled for fp16 only.
        progress: the plain numbers.
        start: what training began with, by name in the model, as far as it is needed later: for L2-SP the backbone's
            parameters, for an interpolation all tensors, for Co-Tuning the source's head and its relation.
    """

    model: Classifier
    optimizer: Optimizer
    average: Average | None
    scaler: GradScaler
    progress: Progress = field(default_factory=Progress)
    start: Mapping[str, Tensor] = field(default_factory=dict)

    def weights_to_use(self) -> Classifier:
        """The model that is evaluated: the average where there is one."""
        return self.model if self.average is None else self.average.model

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names of `ptft.checkpoint`."""
        found = dict(self.model.state_dict())
        if self.average is not None:
            found |= {f"ema.{name}": tensor for name, tensor in self.average.tensors.items()}
        found |= {f"start.{name}": tensor for name, tensor in self.start.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    found[f"optimizer.{name}.{key}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Goes back to a saved state.

        Args:
            tensors: as `tensors` gave them.
            progress: as `progress_dict` gave it.

        Raises:
            CheckpointError: the tensors are not those of this model and optimizer.
        """
        try:
            self.model.load_state_dict({name: tensors[name] for name in self.model.state_dict()})
            if self.average is not None:
                for name, tensor in self.average.tensors.items():
                    tensor.copy_(tensors[f"ema.{name}"])
            for name, tensor in self.start.items():
                tensor.copy_(tensors[f"start.{name}"])
            scaler = progress["scaler"]
            self.progress = _progress({key: value for key, value in progress.items() if key != "scaler"})
            if scaler:
                self.scaler.load_state_dict(scaler)
        except (KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"the saved state does not fit this run: {error}") from error
        self.optimizer.state.clear()
        for name, parameter in self.model.named_parameters():
            prefix = f"optimizer.{name}."
            saved = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if saved:
                # Fused optimizers walk through memory: what has the parameter's shape must have its layout too.
                self.optimizer.state[parameter] = {
                    key: torch.empty_like(parameter).copy_(value)
                    if value.shape == parameter.shape
                    else value.to(parameter.device, copy=True)
                    for key, value in saved.items()
                }

    def progress_dict(self) -> dict[str, Any]:
        """`progress` and the loss scaling as plain Python."""
        return asdict(self.progress) | {"scaler": self.scaler.state_dict()}


def _progress(saved: dict[str, Any]) -> Progress:
    """From a checkpoint; the older ones know one merit only, and call it top1."""
    if "best_top1" in saved:
        top1 = saved.pop("best_top1")
        saved |= {"best_merit": top1, "best_told": {"top1": top1}}
    return Progress(**saved)
