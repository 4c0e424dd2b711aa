"""One optimizer step."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ptft.data.batches import Batch
from ptft.objectives.cross_entropy import CrossEntropy
from ptft.runtime import Precision, autocast, derive_seed
from ptft.train.state import State


@dataclass(frozen=True)
class Stepper:
    """How a step is computed.

    Attributes:
        objective: mixing and loss.
        device: of model and batches.
        precision: of the forward pass.
        memory_format: of model and images.
        seed: the run's seed; dropout is a function of (seed, step).
        accumulate: number of micro-batches the global batch is cut into.
        clip_norm: the gradient's L2 norm is scaled down to at most this; None leaves it.
        frozen_backbone: the backbone stays in eval mode: its batch-norm statistics do not move.
    """

    objective: CrossEntropy
    device: torch.device
    precision: Precision
    memory_format: torch.memory_format
    seed: int
    accumulate: int = 1
    clip_norm: float | None = None
    frozen_backbone: bool = False

    def step(self, state: State, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """Computes the gradient of one global batch and moves the weights.

        Args:
            state: its model and optimizer are changed; its step is not counted up.
            batch: B images and labels.
            lr: learning rate of this step.

        Returns:
            The mean loss over the batch and the gradient's L2 norm before clipping, detached scalars.
        """
        step = state.progress.step
        torch.manual_seed(derive_seed("dropout", self.seed, step, 0))
        state.model.train()
        if self.frozen_backbone:
            state.model.backbone.eval()
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        images, targets = self.objective.mix(batch.images, batch.labels, state.model.num_classes, step)
        loss = self._accumulate_gradient(state, images, targets)
        state.scaler.unscale_(state.optimizer)
        norm = self._clip(state)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update(state.model, step + 1)
        return loss, norm

    def _accumulate_gradient(self, state: State, images: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), device=self.device)
        parts = zip(images.tensor_split(self.accumulate), targets.tensor_split(self.accumulate), strict=True)
        for part, target in parts:
            with autocast(self.device, self.precision):
                logits = state.model(part.contiguous(memory_format=self.memory_format))
            loss = self.objective.loss(logits.float(), target) * (len(part) / len(images))
            state.scaler.scale(loss).backward()
            total += loss.detach()
        return total

    def _clip(self, state: State) -> Tensor:
        gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        norm = get_total_norm(gradients)
        if self.clip_norm is not None:
            trained = [parameter for parameter in state.model.parameters() if parameter.grad is not None]
            clip_grads_with_norm_(trained, self.clip_norm, norm)
        # In fp16 an overflow is ordinary: the scaler skips the step and lowers its scale.
        return norm.nan_to_num(0, 0, 0) if state.scaler.is_enabled() else norm
