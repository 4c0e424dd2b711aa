"""One optimizer step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import SGD

from ptft.data.batches import Batch
from ptft.distributed.ranks import ALONE, Ranks
from ptft.errors import OutOfMemoryError, StoppedError
from ptft.models.classifier import Classifier
from ptft.objectives.base import BatchLoss
from ptft.runtime import Precision, autocast, derive_seed, first_line, is_out_of_memory, seed_draws
from ptft.train.co_tuning import co_tuning_loss
from ptft.train.compiled import Forward, forward
from ptft.train.exchange import Exchange, Local
from ptft.train.regime import Regime
from ptft.train.state import State

_NUM_REHEARSALS = 2
"""The first step allocates what the optimizer keeps, the second has to do beside it."""


@dataclass(frozen=True)
class Stepper:
    """How a step is computed.

    Attributes:
        objective: mixing and loss.
        device: of model and batches.
        precision: of the forward pass.
        memory_format: of model and images.
        seed: the run's seed; dropout is a function of (seed, step, rank).
        accumulate: least number of micro-batches the global batch is cut into.
        clip_norm: the gradient's L2 norm is scaled down to at most this; None leaves it.
        regime: which parts are trained, and how fast; None trains everything at one learning rate.
        co_tuning: λ of Co-Tuning, whose tensors are in the state's `start`; None is off.
        ranks: all that compute the step.
        exchange: what makes one gradient of theirs.
        forward: calls the network.
        cuts: whether micro-batches become smaller when memory runs out.
        say: told when they did.
    """

    objective: BatchLoss
    device: torch.device
    precision: Precision
    memory_format: torch.memory_format
    seed: int
    accumulate: int = 1
    clip_norm: float | None = None
    regime: Regime | None = None
    co_tuning: float | None = None
    ranks: Ranks = ALONE
    exchange: Exchange = field(default_factory=Local)
    forward: Forward = forward
    cuts: bool = True
    say: Callable[[str], None] = lambda _: None
    _rehearsed: list[int] = field(default_factory=list, repr=False)  # sides of the images

    def step(self, state: State, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """Computes the gradient of one global batch and, when it and the loss are finite, moves the weights.

        When memory runs out the batch is cut into smaller micro-batches, in this step and all later ones. The loss
        and the gradient are then the same up to rounding, except that batch norm takes its statistics from each
        micro-batch, and dropout draws other units. Of many ranks, one whose memory runs out would leave the others
        waiting: so the first two steps of a session, and of each new size of batch or images, are rehearsed by each
        rank for itself, and all cut alike. Memory that runs out in a later step ends the run.

        Args:
            state: its model, optimizer and average are changed; its step is not counted up.
            batch: this rank's images and labels.
            lr: learning rate of this step, before the factors of the regime.

        Returns:
            The mean loss over the global batch and the gradient's L2 norm before clipping, detached scalars. When
            either is NaN or infinite, model, optimizer and average are what they were before; this is decided on the
            device, without waiting for it.

        Raises:
            OutOfMemoryError: even for the smallest micro-batches.
            StoppedError: a signal has ended torch's compiler; model and gradient are what they were.
        """
        self._set_out(state, lr)
        buffers = [buffer.clone() for buffer in state.model.buffers()]
        images, targets = self.objective.mix(batch.images, batch.labels, state.model.num_classes, state.progress.step)
        own = Batch(images[: batch.num_own], targets[: batch.num_own], batch.indices, global_size=batch.size)
        try:
            loss = self._gradient(state, own, buffers)
        except StoppedError:  # while a micro-batch of another size was compiled: what is saved has none of this step
            self._take_back(state, buffers)
            raise
        state.scaler.unscale_(state.optimizer)
        norm = self._clip(state)
        is_finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._draw_back(state, is_finite)
        if state.scaler.is_enabled():  # in fp16 an overflow is ordinary: the scaler skips the step, lowers its scale
            norm = norm.nan_to_num(0, 0, 0)
            is_finite = torch.isfinite(loss)
        self._move(state, is_finite, buffers)
        state.optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def _set_out(self, state: State, lr: float) -> None:
        """Modes, what needs a gradient, and learning rates, all for this step."""
        step = state.progress.step
        if self.regime is None:
            state.model.train()
        else:
            self.regime.set(state.model, step)
        for group in state.optimizer.param_groups:
            group["lr"] = lr if self.regime is None else lr * self.regime.factor(group["name"], step)

    def _gradient(self, state: State, own: Batch, buffers: Sequence[Tensor]) -> Tensor:
        """The mean loss; its gradient is left in the parameters. The labels of `own` may be mixed targets."""
        if self.cuts and self.ranks.is_alone:
            return self._fit_memory(state, own, buffers)
        side = own.images.shape[-1]
        if self.cuts and self._rehearsed.count(side) < _NUM_REHEARSALS:
            self._fit_memory(state, own, buffers)
            self._take_back(state, buffers)
            self._rehearsed.append(side)
        try:
            return self._add_up(state, own, buffers, self.exchange)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            advice = ", which tries smaller micro-batches" if self.cuts else " and a higher train.accumulate"
            raise OutOfMemoryError(
                f"out of memory at step {state.progress.step + 1:,} ({first_line(error)}). Go on with --resume{advice}."
            ) from error

    def _fit_memory(self, state: State, own: Batch, buffers: Sequence[Tensor]) -> Tensor:
        """The loss of this rank's share, in micro-batches for which the memory of every rank is enough."""
        while True:
            loss, reason = None, "another rank's memory"
            try:
                loss = self._add_up(state, own, buffers, Local(self.ranks.rank))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            if not self.ranks.any(loss is None) and loss is not None:
                return loss
            # Only here, past the error whose traceback holds the activations, can their memory be had again.
            self._take_back(state, buffers)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self._cut_finer(state, own.size, reason)
            self._rehearsed.clear()

    def _take_back(self, state: State, buffers: Sequence[Tensor]) -> None:
        """No gradient, and the buffers of before the step."""
        state.optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(state.model.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _add_up(self, state: State, own: Batch, buffers: Sequence[Tensor], exchange: Exchange) -> Tensor:
        """Forward and backward pass of each micro-batch; the mean loss and its gradient, as `exchange` has them."""
        exchange.begin(state.model, buffers)
        sizes = exchange.sizes(len(own.images), max(self.accumulate, state.progress.accumulate))
        for place, (part, target) in enumerate(zip(own.images.split(sizes), own.labels.split(sizes), strict=True)):
            if (drawer := exchange.drawer(place)) is not None:
                seed_draws(self.device, derive_seed("dropout", self.seed, state.progress.step, drawer))
            with exchange.part(state.model, is_last=place == len(sizes) - 1) as network:
                mean = self._loss(state, network, part.contiguous(memory_format=self.memory_format), target)
                loss = mean * (len(part) / own.size * exchange.factor)
                state.scaler.scale(loss).backward()
            exchange.add(state.model, loss.detach())
        return exchange.finish(state.model)

    def _loss(self, state: State, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Mean over a micro-batch; `network` is the model, as the ranks call it."""
        if self.co_tuning is None:
            with autocast(self.device, self.precision):
                logits = self.forward(network, images)
            return self.objective.loss(logits.float(), targets)
        with autocast(self.device, self.precision):
            features = self.forward(state.model.backbone, images)
            logits = state.model.classify(features)
        loss = self.objective.loss(logits.float(), targets)
        return loss + self.co_tuning * co_tuning_loss(features.float(), targets, state.start)

    def _cut_finer(self, state: State, batch_size: int, reason: str) -> None:
        """Twice as many micro-batches, as far as that goes."""
        number = max(self.accumulate, state.progress.accumulate)
        share = batch_size // self.ranks.world_size
        smallest, step = _smallest_micro_batch(state.model), state.progress.step + 1
        if number >= share // smallest:
            raise OutOfMemoryError(
                f"out of memory at step {step:,} with micro-batches of {-(-share // number)}, the smallest "
                f"possible ({reason}). In a new run folder, lower data.image_size or take a smaller model; or give the "
                "process more memory and go on with --resume."
            )
        finer = state.progress.accumulate = min(2 * number, share // smallest)
        self.say(
            f"out of memory at step {step:,}: micro-batches of {-(-share // finer)} images instead of "
            f"{-(-share // number)} from now on, still {batch_size} a step ({reason})."
        )

    def _clip(self, state: State) -> Tensor:
        gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        norm = get_total_norm(gradients)
        if self.clip_norm is not None:
            trained = [parameter for parameter in state.model.parameters() if parameter.grad is not None]
            clip_grads_with_norm_(trained, self.clip_norm, norm)
        return norm

    @torch.no_grad()
    def _draw_back(self, state: State, is_finite: Tensor) -> None:
        """Draws the backbone's trained weights w to their start w₀, as the optimizer decays weights, in place of that.

        SGD gets α (w − w₀) added to the gradient, after clipping: eq. 4 of Li et al. 2018 ("Explicit inductive bias
        for transfer learning with convolutional networks"), whose β is the head's weight decay. Others would rescale
        it with the gradient (Loshchilov & Hutter 2019, section 2): w moves by lr α (w₀ − w), unless `is_finite`, bool
        (), is false.
        """
        if self.regime is None or not self.regime.l2_sp:
            return
        names = {parameter: name for name, parameter in state.model.named_parameters() if name.startswith("backbone.")}
        for group in state.optimizer.param_groups:
            share = is_finite * (group["lr"] * group.get("lr_factor", 1.0) * self.regime.l2_sp)
            for parameter in group["params"]:
                if parameter.grad is None or parameter not in names:
                    continue
                start = state.start[names[parameter]]
                if isinstance(state.optimizer, SGD):
                    parameter.grad.add_(parameter - start, alpha=self.regime.l2_sp)
                else:
                    parameter.lerp_(start, share)

    def _move(self, state: State, is_finite: Tensor, buffers: Sequence[Tensor]) -> None:
        """The optimizer's step and all that follows from it, or nothing where `is_finite`, bool (), is false."""
        if not state.scaler.is_enabled():  # the scaler finds out for itself
            state.optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if self.device.type != "cpu" or not is_finite:  # a CPU need not wait for the answer
            for buffer, before in zip(state.model.buffers(), buffers, strict=True):
                buffer.copy_(torch.where(is_finite, buffer, before))
        if state.average is not None:
            state.average.update(state.model, state.progress.step + 1, is_finite)


def _smallest_micro_batch(model: Classifier) -> int:
    """Images: two where batch norm takes statistics of them."""
    return 2 if any(isinstance(part, _BatchNorm) and part.training for part in model.modules()) else 1
