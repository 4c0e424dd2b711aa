"""The loop: steps, and at their times a line of metrics, an evaluation, a checkpoint."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from ptft.data.ahead import Ahead
from ptft.data.batches import Batch, Batches
from ptft.errors import NotFiniteError, StoppedError
from ptft.models.classifier import Classifier
from ptft.train.metrics import TaskScores
from ptft.train.schedule import Schedule
from ptft.train.state import Progress, State

OnNonfinite = Literal["stop", "skip", "rollback"]

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
        on_nonfinite: what a loss or gradient that is NaN or infinite does: end the run, leave that step's update
            out, or go back to the last saved state.
        max_nonfinite: end the run after all when it happens more often.
    """

    num_steps: int
    evaluate_every: int
    save_every: int
    log_every: int
    peak_lr: float
    schedule: Schedule
    patience: int | None = None
    max_seconds: float | None = None
    on_nonfinite: OnNonfinite = "stop"
    max_nonfinite: int = 0


class Stepper(Protocol):
    """What computes a step."""

    @property
    def device(self) -> torch.device:
        """Of the model and of what `step` returns."""
        ...

    def step(self, state: State, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """Moves the weights; returns the loss and the gradient norm, scalars. Leaves the step's count alone."""
        ...


class Journal(Protocol):
    """Where the loop's news goes."""

    def train(self, step: int, loss: float, lr: float, grad_norm: float) -> None:
        """Mean training loss of the steps since the last line; learning rate and gradient norm of `step`."""
        ...

    def validation(self, step: int, scores: TaskScores, is_best: bool) -> None:
        """Scores of one evaluation."""
        ...

    def say(self, text: str) -> None:
        """News that is no number."""
        ...

    def rewind(self, progress: Progress) -> None:
        """Forgets what came after `progress`: it will come again."""
        ...


class Saver(Protocol):
    """Where the loop's states go."""

    @property
    def newest(self) -> Path | None:
        """The state to resume from; None before the first."""
        ...

    def save_last(self, state: State) -> None:
        """Makes this state the one to resume from."""
        ...

    def save_best(self, state: State) -> None:
        """Makes this state the best so far."""
        ...

    def restore(self, state: State) -> None:
        """Goes back to the newest saved state."""
        ...


def fit(
    state: State,
    stepper: Stepper,
    batches: Batches | Ahead,
    plan: Plan,
    *,
    evaluate: Callable[[Classifier], TaskScores] | None,
    journal: Journal,
    saver: Saver,
    check_stop: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
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
        clock: seconds from any beginning, the same on every rank.

    Returns:
        Why training ended: `all steps done`, `early stopping`, `max_minutes reached`.

    Raises:
        NotFiniteError: loss or gradient was NaN or infinite; no update was made from it, nothing was saved after it.
        StoppedError: a signal arrived; the state was saved first.
    """
    loop = _Loop(state, stepper, batches, plan, evaluate, journal, saver, check_stop, clock)
    if plan.on_nonfinite == "rollback" and not state.progress.step:
        saver.save_last(state)  # something to go back to
    while True:
        try:
            return loop.run()
        except NotFiniteError as error:
            if plan.on_nonfinite != "rollback":
                raise
            loop.roll_back(error)


class _Loop:
    """The arguments of `fit`, and the steps whose numbers nobody has looked at yet."""

    def __init__(
        self,
        state: State,
        stepper: Stepper,
        batches: Batches | Ahead,
        plan: Plan,
        evaluate: Callable[[Classifier], TaskScores] | None,
        journal: Journal,
        saver: Saver,
        check_stop: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._stepper = stepper
        self._batches = batches
        self._plan = plan
        self._evaluate = evaluate
        self._journal = journal
        self._saver = saver
        self._check_stop = check_stop
        self._clock = clock
        self._pending: list[_Step] = []

    def run(self) -> str:
        """Trains until the plan is fulfilled, and says why it ended."""
        progress, plan, started = self._state.progress, self._plan, self._clock()
        before = progress.seconds
        try:
            while True:
                progress.seconds = before + self._clock() - started
                reason = _why_end(self._state, plan)
                if reason:
                    self._settle()
                if self._evaluate is not None and (reason or progress.step % plan.evaluate_every == 0):
                    _evaluate(self._state, self._evaluate, self._journal, self._saver)
                    reason = reason or _why_end(self._state, plan)
                if progress.step and (reason or progress.step % plan.save_every == 0):
                    self._saver.save_last(self._state)
                if reason:
                    return reason
                self._check_stop()
                self._step()
        except StoppedError:
            self._settle()
            if progress.step:
                self._saver.save_last(self._state)
            raise

    def _step(self) -> None:
        progress, plan = self._state.progress, self._plan
        if progress.step in progress.left_out:
            progress.step += 1
            return
        lr = plan.peak_lr * plan.schedule.factor(progress.step) * progress.lr_factor
        loss, norm = self._stepper.step(self._state, self._batches.at(progress.step), lr)
        progress.step += 1
        self._pending.append((progress.step, lr, loss, norm))
        if self._stepper.device.type == "cpu" or _is_due(progress.step, plan):
            self._settle()

    def _settle(self) -> None:
        """Looks at the losses of completed steps and tells their mean when a line is due."""
        progress, plan = self._state.progress, self._plan
        pending, self._pending = self._pending, []
        for step, lr, loss, norm in pending:
            value, grad_norm = loss.item(), norm.item()
            if not (math.isfinite(value) and math.isfinite(grad_norm)):
                self._meet_nonfinite(step, lr, "gradient" if math.isfinite(value) else "loss")
                continue
            progress.last_loss = value
            progress.loss_sum += value
            progress.num_losses += 1
            if step % plan.log_every == 0 or step == plan.num_steps:
                mean = progress.loss_sum / progress.num_losses
                progress.loss_sum, progress.num_losses = 0.0, 0
                self._journal.train(step, mean, lr, grad_norm)

    def _meet_nonfinite(self, step: int, lr: float, what: str) -> None:
        """Counts a step whose update the stepper has left out; ends or goes back as planned."""
        progress, plan = self._state.progress, self._plan
        last = "none before was" if progress.last_loss is None else f"the last finite loss was {progress.last_loss:.4g}"
        sentence = f"{what} is not finite at step {step:,} (learning rate {lr:.3g}; {last})"
        if plan.on_nonfinite == "rollback":
            progress.left_out.append(step - 1)
        if plan.on_nonfinite == "skip" and progress.num_nonfinite < plan.max_nonfinite:
            progress.num_nonfinite += 1
            self._journal.say(f"{sentence}: its update is left out, {progress.num_nonfinite} so far.")
            return
        raise NotFiniteError(f"{sentence}. {self._advice()}")

    def _advice(self) -> str:
        newest, mode = self._saver.newest, self._plan.on_nonfinite
        saved = f"The last good checkpoint is {newest}." if newest else "Nothing was saved before."
        again = {
            "stop": "; or go on from that checkpoint with --resume and train.on_nonfinite: rollback or skip",
            "skip": f"; train.max_nonfinite: {self._plan.max_nonfinite} allows no more",
            "rollback": "",
        }
        return (
            f"{saved} In a new run folder, lower optim.lr, or set train.clip_norm or train.precision: "
            f"fp32{again[mode] if newest else ''}."
        )

    def roll_back(self, error: NotFiniteError) -> None:
        """Goes back to the newest saved state, with half the learning rate from there on.

        The steps that were not finite are left out the second time: randomness is a function of the step, so the
        same batch would come again with the same augmentation.
        """
        failed, state = self._state.progress, self._state
        if failed.num_nonfinite >= self._plan.max_nonfinite:
            count = failed.num_nonfinite
            raise NotFiniteError(f"{error} It went back {count} times; train.max_nonfinite allows no more.") from error
        self._saver.restore(state)
        progress, self._pending = state.progress, []
        progress.num_nonfinite, progress.left_out = failed.num_nonfinite + 1, failed.left_out
        progress.lr_factor, progress.accumulate = failed.lr_factor / 2, failed.accumulate
        progress.seconds = failed.seconds
        self._journal.rewind(progress)
        self._journal.say(
            f"{str(error).partition('. ')[0]}: back to step {progress.step:,}, from there with the learning rate "
            f"times {progress.lr_factor:g}; back {progress.num_nonfinite} times so far."
        )


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


def _evaluate(state: State, evaluate: Callable[[Classifier], TaskScores], journal: Journal, saver: Saver) -> None:
    progress = state.progress
    if progress.evaluated_step == progress.step:
        return
    scores = evaluate(state.weights_to_use())
    is_best = progress.is_better(scores.merit, scores.loss)
    progress.evaluated_step = progress.step
    progress.num_stale = 0 if is_best else progress.num_stale + 1
    if is_best:
        progress.best_step = progress.step
        progress.best_merit, progress.best_loss = scores.merit, scores.loss
        progress.best_told = scores.ancestry()
    # The line first: a checkpoint that has these scores must never be without it.
    journal.validation(progress.step, scores, is_best)
    if is_best:
        saver.save_best(state)
