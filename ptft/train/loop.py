"""The loop: steps, and at their times a line of metrics, an evaluation, a checkpoint."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ptft.data.batches import Batches
from ptft.errors import NotFiniteError, StoppedError
from ptft.models.classifier import Classifier
from ptft.train.metrics import Scores
from ptft.train.schedule import Schedule
from ptft.train.state import Progress, State
from ptft.train.step import Stepper

_Step = tuple[int, float, Tensor, Tensor]
"""A completed step whose numbers are still on the device: its count, lr, loss and gradient norm."""


@dataclass(frozen=True)
class Plan:
    """When things happen, all in steps.

    Attributes:
        num_steps: of the whole run.
        evaluate_every: validation scores; also at the end.
        save_every: `last.pt`; also at the end.
        log_every: a line of training loss.
        peak_lr: learning rate at factor 1.
        schedule: factor on it.
        patience: stop after this many evaluations without a better score; None never does.
        max_seconds: stop when this much time was spent in training; None never does.
    """

    num_steps: int
    evaluate_every: int
    save_every: int
    log_every: int
    peak_lr: float
    schedule: Schedule
    patience: int | None = None
    max_seconds: float | None = None


class Journal(Protocol):
    """Where the loop's news goes."""

    def train(self, step: int, loss: float, lr: float, grad_norm: float) -> None:
        """Mean training loss of the steps since the last line; learning rate and gradient norm of `step`."""
        ...

    def validation(self, step: int, scores: Scores, is_best: bool) -> None:
        """Scores of one evaluation."""
        ...


class Saver(Protocol):
    """Where the loop's states go."""

    def save_last(self, state: State) -> None:
        """Makes this state the one to resume from."""
        ...

    def save_best(self, state: State) -> None:
        """Makes this state the best so far."""
        ...


def fit(
    state: State,
    stepper: Stepper,
    batches: Batches,
    plan: Plan,
    *,
    evaluate: Callable[[Classifier], Scores] | None,
    journal: Journal,
    saver: Saver,
    check_stop: Callable[[], None],
) -> str:
    """Trains until the plan is fulfilled.

    Args:
        state: where to go on from; changed in place.
        stepper: computes one step.
        batches: the batch of every step.
        plan: when things happen.
        evaluate: validation scores of a classifier; None without a validation part.
        journal: gets every number.
        saver: gets every state worth keeping.
        check_stop: raises StoppedError when a signal asked to stop.

    Returns:
        Why training ended: `all steps done`, `early stopping`, `max_minutes reached`.

    Raises:
        NotFiniteError: loss or gradient was NaN or infinite; no checkpoint holds weights from after it.
        StoppedError: a signal arrived; the state was saved first.
    """
    progress, started = state.progress, time.monotonic()
    before = progress.seconds
    pending: list[_Step] = []
    try:
        while True:
            progress.seconds = before + time.monotonic() - started
            reason = _why_end(state, plan)
            if reason:
                _settle(state, pending, plan, journal)
            if evaluate is not None and (reason or progress.step % plan.evaluate_every == 0):
                _evaluate(state, evaluate, journal, saver)
                reason = reason or _why_end(state, plan)
            if progress.step and (reason or progress.step % plan.save_every == 0):
                saver.save_last(state)
            if reason:
                return reason
            check_stop()
            lr = plan.peak_lr * plan.schedule.factor(progress.step)
            loss, norm = stepper.step(state, batches.at(progress.step), lr)
            progress.step += 1
            pending.append((progress.step, lr, loss, norm))
            if stepper.device.type == "cpu" or _is_due(progress.step, plan):
                _settle(state, pending, plan, journal)
    except StoppedError:
        _settle(state, pending, plan, journal)
        if progress.step:
            saver.save_last(state)
        raise


def _why_end(state: State, plan: Plan) -> str:
    progress = state.progress
    if progress.step >= plan.num_steps:
        return "all steps done"
    if plan.patience is not None and progress.num_stale >= plan.patience:
        return "early stopping"
    if plan.max_seconds is not None and progress.seconds >= plan.max_seconds and progress.step:
        return "max_minutes reached"
    return ""


def _is_due(step: int, plan: Plan) -> bool:
    """Whether the losses of the steps so far are needed; on a GPU each look at them makes the host wait."""
    every = (plan.log_every, plan.evaluate_every, plan.save_every)
    return step == plan.num_steps or any(step % period == 0 for period in every)


def _settle(state: State, pending: list[_Step], plan: Plan, journal: Journal) -> None:
    """Checks the losses of completed steps and tells their mean when a line is due."""
    progress = state.progress
    for step, lr, loss, norm in pending:
        value, grad_norm = loss.item(), norm.item()
        if not (math.isfinite(value) and math.isfinite(grad_norm)):
            raise _not_finite(progress, step, lr, what="gradient" if math.isfinite(value) else "loss")
        progress.loss_sum += value
        progress.num_losses += 1
        if step % plan.log_every == 0 or step == plan.num_steps:
            mean = progress.loss_sum / progress.num_losses
            progress.loss_sum, progress.num_losses = 0.0, 0
            journal.train(step, mean, lr, grad_norm)
    pending.clear()


def _not_finite(progress: Progress, step: int, lr: float, what: str) -> NotFiniteError:
    mean = progress.loss_sum / progress.num_losses if progress.num_losses else math.nan
    return NotFiniteError(
        f"{what} is not finite at step {step:,} (learning rate {lr:.3g}, mean loss of the steps before {mean:.4g}). "
        "In a new run folder, lower optim.lr, or set train.clip_norm or train.precision: fp32."
    )


def _evaluate(state: State, evaluate: Callable[[Classifier], Scores], journal: Journal, saver: Saver) -> None:
    progress = state.progress
    if progress.evaluated_step == progress.step:
        return
    scores = evaluate(state.weights_to_use())
    is_best = progress.is_better(scores.top1, scores.loss)
    progress.evaluated_step = progress.step
    progress.num_stale = 0 if is_best else progress.num_stale + 1
    if is_best:
        progress.best_step = progress.step
        progress.best_top1, progress.best_loss = scores.top1, scores.loss
    # The line first: a checkpoint that has these scores must never be without it.
    journal.validation(progress.step, scores, is_best)
    if is_best:
        saver.save_best(state)
