"""What the loop tells and keeps, and when, with steps of known losses and scores, and a clock of known times."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.amp import GradScaler

from ptft.data.batches import Batch
from ptft.errors import NotFiniteError, StoppedError
from ptft.models import SmallCnn
from ptft.models.classifier import Classifier
from ptft.train.loop import Plan, fit
from ptft.train.metrics import Scores
from ptft.train.optim import Sgd
from ptft.train.schedule import Linear
from ptft.train.state import Average, Progress, State

Told = list[tuple[Any, ...]]


class Batches:
    """The batch of a step is its number."""

    def at(self, step: int) -> Batch:
        return Batch(torch.tensor([float(step)]), torch.tensor([0]), torch.tensor([step]))


class Steps:
    """Steps that move nothing, with a loss for each; notes the learning rates."""

    device = torch.device("cpu")

    def __init__(self, losses: Callable[[int], float]) -> None:
        self._losses = losses
        self.lrs: dict[int, list[float]] = {}

    def step(self, state: State, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        place = int(batch.indices)
        self.lrs.setdefault(place, []).append(lr)
        return torch.tensor(self._losses(place)), torch.tensor(1.0)


class Kept:
    """Journal and saver: what was told and saved, in order."""

    newest = Path("last.pt")

    def __init__(self) -> None:
        self.told: Told = []
        self._saved: dict[str, Any] | None = None

    def train(self, step: int, loss: float, lr: float, grad_norm: float) -> None:
        self.told.append(("train", step, pytest.approx(loss)))

    def validation(self, step: int, scores: Any, is_best: bool) -> None:
        self.told.append(("validation", step, is_best))

    def say(self, text: str) -> None:
        self.told.append(("say", text))

    def rewind(self, progress: Progress) -> None:
        self.told.append(("rewind", progress.step))

    def save_last(self, state: State) -> None:
        self.told.append(("last", state.progress.step))
        self._saved = state.progress_dict()

    def save_best(self, state: State) -> None:
        self.told.append(("best", state.progress.step))
        self._saved = state.progress_dict()

    def restore(self, state: State) -> None:
        assert self._saved is not None
        state.progress = Progress(**{key: value for key, value in self._saved.items() if key != "scaler"})


def make_state(ema: float | None = None) -> State:
    model = SmallCnn(name="small-cnn", width=4).build(2, 3)
    return State(model, Sgd().build(model), Average(model, ema) if ema else None, GradScaler("cpu", enabled=False))


def make_plan(**changes: Any) -> Plan:
    times: dict[str, Any] = {"num_steps": 6, "evaluate_every": 100, "save_every": 100, "log_every": 100}
    return Plan(**(times | {"peak_lr": 1.0, "schedule": Linear(name="linear").build(6, 6, 1)} | changes))


def scores(right: int) -> Scores:
    """Of ten images."""
    return Scores(torch.tensor([[right, 10 - right], [0, 0]]), 1.0, None)


def train(
    plan: Plan,
    state: State | None = None,
    losses: Callable[[int], float] = float,
    rights: Iterable[int] = (),
    **changes: Any,
) -> tuple[str, Told, Steps]:
    kept, steps, found = Kept(), Steps(losses), iter(rights)
    calls: dict[str, Any] = {
        "evaluate": (lambda _: scores(next(found))) if rights else None,
        "check_stop": lambda: None,
        "clock": lambda: 0.0,
    }
    calls |= changes
    reason = fit(state or make_state(), steps, Batches(), plan, journal=kept, saver=kept, **calls)  # type: ignore[arg-type]
    return reason, kept.told, steps


def test_a_line_tells_the_mean_loss_of_the_steps_since_the_one_before() -> None:
    _, told, _ = train(make_plan(log_every=2, num_steps=5))
    assert [line for line in told if line[0] == "train"] == [("train", 2, 0.5), ("train", 4, 2.5), ("train", 5, 4.0)]


def test_each_step_has_the_learning_rate_of_the_steps_before_it() -> None:
    _, _, steps = train(make_plan(peak_lr=3.0))
    assert [steps.lrs[step] for step in range(6)] == [[pytest.approx(3.0 * (6 - step) / 6)] for step in range(6)]


def test_states_are_saved_at_their_times_and_at_the_end_and_the_best_after_its_line() -> None:
    _, told, _ = train(make_plan(save_every=2, evaluate_every=3, num_steps=5), rights=(4, 7, 6, 7))
    assert told[:-1] == [
        ("last", 2),
        ("validation", 3, True),
        ("best", 3),
        ("last", 4),
        ("train", 5, 2.0),
        ("validation", 5, True),
        ("best", 5),
    ]
    assert told[-1] == ("last", 5)


def test_training_ends_after_as_many_evaluations_without_a_better_score_as_patience_allows() -> None:
    state = make_state()
    reason, _, _ = train(make_plan(num_steps=9, evaluate_every=1, patience=2), state, rights=(5, 4, 6, 6, 3, 9))
    assert (reason, state.progress.step) == ("early stopping", 5)
    assert (state.progress.best_step, state.progress.best_merit, state.progress.num_stale) == (3, 0.6, 2)
    assert state.progress.best_told["top1"] == 0.6


def test_it_is_the_average_that_is_judged() -> None:
    state, judged = make_state(ema=0.9), []

    def evaluate(model: Classifier) -> Scores:
        judged.append(model)
        return scores(5)

    train(make_plan(num_steps=1), state, evaluate=evaluate)
    assert state.average is not None
    assert judged == [state.average.model]


def ticks(seconds: float) -> Callable[[], float]:
    """A clock that is read once at the start and once before each step."""
    times: Iterator[int] = count()
    return lambda: max(0, next(times) - 1) * seconds


def test_the_time_of_earlier_sessions_counts_and_one_step_is_always_made() -> None:
    plan, state = make_plan(num_steps=9, max_seconds=30.0), make_state()
    assert train(plan, state, clock=ticks(10.0))[0] == "max_minutes reached"
    assert (state.progress.step, state.progress.seconds) == (3, 30.0)
    assert train(make_plan(num_steps=9, max_seconds=50.0), state, clock=ticks(10.0))[0] == "max_minutes reached"
    assert (state.progress.step, state.progress.seconds) == (5, 50.0)
    fresh = make_state()
    train(make_plan(num_steps=9, max_seconds=0.0), fresh)
    assert fresh.progress.step == 1


def test_a_signal_saves_what_is_done_and_nothing_before_the_first_step() -> None:
    for done, saved in ((0, []), (3, [("last", 3)])):
        calls, kept = count(), Kept()

        def check_stop(calls: Iterator[int] = calls, done: int = done) -> None:
            if next(calls) == done:
                raise StoppedError(15)

        with pytest.raises(StoppedError):
            fit(
                make_state(),
                Steps(float),
                Batches(),  # type: ignore[arg-type]
                make_plan(),
                evaluate=None,
                journal=kept,
                saver=kept,
                check_stop=check_stop,
            )
        assert kept.told == saved


def test_the_losses_that_a_gpu_still_holds_are_looked_at_before_the_last_save() -> None:
    steps, kept = Steps(lambda step: math.nan if step == 1 else 1.0), Kept()
    steps.device = torch.device("cuda")
    with pytest.raises(NotFiniteError, match="at step 2"):
        fit(
            make_state(),
            steps,
            Batches(),  # type: ignore[arg-type]
            make_plan(num_steps=9, max_seconds=30.0),
            evaluate=None,
            journal=kept,
            saver=kept,
            check_stop=lambda: None,
            clock=ticks(10.0),
        )
    assert kept.told == []


def test_going_back_leaves_the_step_out_and_keeps_the_time_and_the_halved_learning_rate() -> None:
    spoilt = {3: math.nan, 4: math.inf}
    state = make_state()
    plan = make_plan(save_every=2, on_nonfinite="rollback", max_nonfinite=2)

    def loss_of(step: int) -> float:
        if step == 3:
            state.progress.accumulate = 4  # as where memory ran out
        return spoilt.get(step, 1.0)

    reason, told, steps = train(plan, state, loss_of, clock=ticks(10.0))
    assert reason == "all steps done"
    assert [line for line in told if line[0] in ("last", "rewind")] == [
        ("last", 0),
        ("last", 2),
        ("rewind", 2),
        ("last", 2),  # what was learnt by going back
        ("last", 4),
        ("rewind", 4),
        ("last", 4),
        ("last", 6),
    ]
    assert [len(steps.lrs[step]) for step in range(6)] == [1, 1, 2, 1, 1, 1]
    assert steps.lrs[2][1] == pytest.approx(steps.lrs[2][0] / 2)
    assert steps.lrs[5] == [pytest.approx(1 / 6 / 4)]
    assert (state.progress.left_out, state.progress.num_nonfinite, state.progress.lr_factor) == ([3, 4], 2, 0.25)
    assert state.progress.accumulate == 4
    assert state.progress.seconds == 90.0


@pytest.mark.parametrize("mode", ["skip", "rollback"])
def test_a_run_ends_when_more_steps_are_not_finite_than_allowed(mode: str) -> None:
    plan = make_plan(on_nonfinite=mode, max_nonfinite=1)
    assert train(plan, losses=lambda step: math.nan if step == 2 else 1.0)[0] == "all steps done"
    with pytest.raises(NotFiniteError, match="allows no more"):
        train(plan, losses=lambda step: math.nan if step in (2, 4) else 1.0)
