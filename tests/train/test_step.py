"""A step, its loss, its schedule and its averages, against closed forms and naive code."""

import itertools
import math
import signal
from collections.abc import Sequence
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from ptft.augment import NoAugment
from ptft.config.components import members
from ptft.config.durations import Duration
from ptft.data.batches import Batch, Batches, Order
from ptft.data.images import ResidentImages
from ptft.data.labelling import Scale
from ptft.data.task import Examples, Format
from ptft.distributed.agreement import Agreement
from ptft.distributed.place import Place
from ptft.distributed.ranks import ALONE, Ranks
from ptft.errors import StoppedError
from ptft.models import SmallCnn, TorchvisionCnn
from ptft.models.outline import outline
from ptft.objectives import Supervised
from ptft.objectives.binary_cross_entropy import BinaryCrossEntropy
from ptft.objectives.cross_entropy import CrossEntropy
from ptft.objectives.mixing import Mixing
from ptft.objectives.squared_error import SquaredError
from ptft.runtime import seed_draws
from ptft.stop import Stop
from ptft.train.elastic import Elastic
from ptft.train.optim import AdamW, Muon, Optim, Sgd, decay_groups
from ptft.train.regime import Regime
from ptft.train.schedule import Constant, Cosine, Linear, StepDecay
from ptft.train.state import Average, Progress, State
from ptft.train.step import Stepper
from ptft.transfer.recipes import TransferConfig

CPU = torch.device("cpu")


def make_batch(count: int = 12, num_classes: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % num_classes
    images = torch.randn(count, 3, 12, 12, generator=generator) + labels[:, None, None, None]
    return Batch(images, labels, torch.arange(count))


def make_state(optim: Optim | None = None, ema: float | None = None, dropout: float = 0.0) -> State:
    torch.manual_seed(0)
    model = SmallCnn(name="small-cnn", width=4, dropout=dropout).build(3, 3)
    average = Average(model, ema) if ema else None
    return State(model, (optim or Sgd()).build(model), average, GradScaler("cpu", enabled=False))


def make_stepper(**changes: object) -> Stepper:
    kept: dict[str, object] = {
        "objective": Supervised().build([4, 4, 4], seed=0),
        "device": CPU,
        "precision": "fp32",
        "memory_format": torch.contiguous_format,
        "seed": 0,
    }
    return Stepper(**(kept | changes))  # type: ignore[arg-type]


def test_repeated_steps_overfit_one_batch() -> None:
    state, stepper, batch = make_state(), make_stepper(), make_batch()
    losses = []
    for _ in range(40):
        losses.append(stepper.step(state, batch, lr=0.1)[0].item())
        state.progress.step += 1
    assert losses[-1] < 0.05 < losses[0]


def test_sgd_is_nesterovs_formula_and_norms_and_biases_do_not_decay() -> None:
    """One step from rest: v = g + w·decay, update = lr · (v + momentum · v) (Sutskever et al. 2013 as in torch)."""
    state, batch, lr = make_state(Sgd(weight_decay=0.1)), make_batch(), 0.05
    before = {name: tensor.clone() for name, tensor in state.model.named_parameters()}
    loss = torch.nn.functional.cross_entropy(state.model.train()(batch.images), batch.labels)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(state.model.parameters())), strict=True))
    make_stepper().step(state, batch, lr)
    for name, parameter in state.model.named_parameters():
        decay = 0.1 if before[name].ndim > 1 else 0.0
        velocity = gradients[name] + decay * before[name]
        torch.testing.assert_close(parameter, before[name] - lr * 1.9 * velocity, rtol=1e-4, atol=1e-6)


def test_the_scale_of_a_layer_of_convnext_does_not_decay() -> None:
    """A number for each channel; in the authors' code, where it is (C,) and not (C, 1, 1), it does not either."""
    model = outline(TorchvisionCnn(name="convnext_tiny"), 3, 3)
    large, small = decay_groups(model, 0.05)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert (large["weight_decay"], small["weight_decay"]) == (0.05, 0.0)
    assert sum(names[parameter].endswith("layer_scale") for parameter in small["params"]) == 18
    assert not any(names[parameter].endswith("layer_scale") for parameter in large["params"])
    assert sum(parameter.ndim in (2, 4) for parameter in large["params"]) == len(large["params"])


def test_adamws_first_step_moves_every_weight_by_about_the_learning_rate() -> None:
    state = make_state(AdamW(name="adamw", weight_decay=0.0))
    before = state.model.head.weight.clone()
    make_stepper().step(state, make_batch(), lr=1e-3)
    torch.testing.assert_close(
        (state.model.head.weight - before).abs(), torch.full_like(before, 1e-3), rtol=1e-2, atol=0
    )


class Linear3(torch.nn.Module):
    """A model without batch norm, for which cutting the batch must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 3
        self.layer = torch.nn.Linear(3 * 12 * 12, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("accumulate", [2, 5, 12])
def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch(accumulate: int) -> None:
    results = []
    for parts in (1, accumulate):
        torch.manual_seed(0)
        model = Linear3()
        state = State(model, Sgd().build(model), None, GradScaler("cpu", enabled=False))  # type: ignore[arg-type]
        loss, norm = make_stepper(accumulate=parts).step(state, make_batch(), lr=0.1)
        results.append((loss, norm, model.layer.weight.detach()))
    for whole, cut in zip(*results, strict=True):
        torch.testing.assert_close(cut, whole)


def make_elastic(number: int, agreement: Agreement | None = None, **changes: object) -> Stepper:
    exchange = Elastic(agreement or Agreement(ALONE, Stop()), len(make_batch().images), number)
    return make_stepper(accumulate=number, exchange=exchange, cuts=False, **changes)


@pytest.mark.parametrize("accumulate", [2, 5])
def test_an_elastic_step_is_the_plain_one_where_batch_norm_takes_no_statistics(accumulate: int) -> None:
    results = []
    for make in (make_stepper, lambda **more: make_elastic(accumulate, **more)):
        state = make_state()
        regime = Regime.of(TransferConfig(recipe="full", bn="frozen"), state.model, num_steps=3)
        state.optimizer = Sgd().build(state.model, regime.groups(state.model))
        told = [make(regime=regime).step(state, make_batch(), lr=0.1) for _ in range(3)]
        results.append((*told, state.model.state_dict()))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)


def test_an_elastic_step_moves_the_statistics_of_batch_norm_once_by_the_mean_over_its_micro_batches() -> None:
    """Of the first layer, in front of which nothing differs, the mean over equal micro-batches is that of all."""
    whole, cut = make_state(), make_state()
    make_stepper().step(whole, make_batch(), lr=0.1)
    make_elastic(3).step(cut, make_batch(), lr=0.1)
    expected, found = (state.model.state_dict() for state in (whole, cut))
    first = "backbone.stage1.bn."
    assert expected[f"{first}running_mean"].abs().max() > 1e-3
    torch.testing.assert_close(found[f"{first}running_mean"], expected[f"{first}running_mean"])
    assert found[f"{first}num_batches_tracked"] == 1


def test_an_elastic_step_in_channels_last_is_the_contiguous_one() -> None:
    """A fused optimizer walks through memory, where a gradient in another layout is another gradient."""
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = make_state().model.to(memory_format=layout)
        state = State(model, Sgd().build(model), None, GradScaler("cpu", enabled=False))
        make_elastic(2, memory_format=layout).step(state, make_batch(), lr=0.1)
        results.append(model.state_dict())
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)


class OneOfMany(Ranks):
    """Goes the way of many ranks and meets nobody there."""

    is_alone = False  # type: ignore[assignment]

    def deal(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        return rows

    def gather(self, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
        return [tensor]


def test_elastic_ranks_hear_of_a_signal_and_of_the_time_one_step_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute passes between two steps, each of 3 micro-batches."""
    minutes = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 60.0 * next(minutes))
    monkeypatch.setattr("ptft.distributed.agreement.time", clock)
    agreement = Agreement(OneOfMany(Place()), Stop())
    stepper, state = make_elastic(3, agreement), make_state()
    for _ in range(3):
        agreement.check()
        stepper.step(state, make_batch(), lr=0.1)
        agreement.stop.signum = signal.SIGTERM
    assert agreement.clock() == 60
    with pytest.raises(StoppedError) as stopped:
        agreement.check()
    assert stopped.value.signum == signal.SIGTERM


def test_clipping_scales_the_gradient_to_the_norm_and_reports_the_one_before() -> None:
    _, norm = make_stepper().step(make_state(), make_batch(), lr=0.1)
    states = [make_state(Sgd(weight_decay=0, momentum=0)) for _ in range(2)]
    before = states[0].model.head.weight.detach().clone()
    free, clipped = make_stepper(), make_stepper(clip_norm=norm.item() / 10)
    assert free.step(states[0], make_batch(), lr=0.1)[1] == norm
    assert clipped.step(states[1], make_batch(), lr=0.1)[1] == norm
    moved = [state.model.head.weight.detach() - before for state in states]
    torch.testing.assert_close(moved[1] * 10, moved[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "optim",
    [Sgd(weight_decay=0, momentum=0), AdamW(name="adamw", weight_decay=0), Muon(name="muon", weight_decay=0)],
    ids=lambda optim: optim.name,
)
def test_l2_sp_draws_the_backbone_alone_whatever_else_of_the_start_is_kept(optim: Sgd | AdamW | Muon) -> None:
    """With an interpolation the head's start is kept too (eq. 4 of Li et al. 2018 has no w₀ for it)."""
    found = []
    for alpha in (None, 0.5):
        state = make_state()
        state.start = {name: tensor + 1.0 for name, tensor in state.model.state_dict().items()}
        regime = Regime.of(TransferConfig(recipe="full", l2_sp=alpha), state.model, num_steps=1)
        state.optimizer = optim.build(state.model, regime.groups(state.model))
        make_stepper(regime=regime).step(state, make_batch(), lr=0.1)
        found.append(state.model.state_dict())
    free, drawn = found
    assert torch.equal(drawn["head.weight"], free["head.weight"])
    assert torch.equal(drawn["head.bias"], free["head.bias"])
    kernel = "backbone.stage1.conv.weight"
    torch.testing.assert_close(drawn[kernel] - free[kernel], torch.full_like(free[kernel], 0.1 * 0.5))
    bias = "backbone.stage1.bn.bias"
    lr = 0.1 * 2 if isinstance(optim, Muon) else 0.1  # its other_lr
    torch.testing.assert_close(drawn[bias] - free[bias], torch.full_like(free[bias], lr * 0.5))


@pytest.mark.parametrize("optim", [Sgd(), AdamW(name="adamw"), Muon(name="muon")], ids=lambda optim: optim.name)
def test_l2_sp_moves_nothing_where_the_gradient_is_not_finite(optim: Sgd | AdamW | Muon) -> None:
    state = make_state()
    state.start = {name: tensor + 1.0 for name, tensor in state.model.state_dict().items()}
    regime = Regime.of(TransferConfig(recipe="full", l2_sp=0.5), state.model, num_steps=1)
    state.optimizer = optim.build(state.model, regime.groups(state.model))
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    batch = make_batch()
    batch.images[0] = torch.nan
    make_stepper(regime=regime).step(state, batch, lr=0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.model.state_dict().items())


@pytest.mark.parametrize("optim", [AdamW(name="adamw"), Muon(name="muon")], ids=lambda optim: optim.name)
def test_l2_sp_moves_nothing_where_only_the_scaled_gradient_overflows(optim: AdamW | Muon) -> None:
    """As in fp16: the loss is finite, and the scaler skips the step."""
    state = make_state()
    state.scaler = GradScaler("cpu", init_scale=2.0**127)
    state.start = {name: tensor + 1.0 for name, tensor in state.model.state_dict().items()}
    regime = Regime.of(TransferConfig(recipe="full", l2_sp=0.5), state.model, num_steps=1)
    state.optimizer = optim.build(state.model, regime.groups(state.model))
    before = {name: parameter.detach().clone() for name, parameter in state.model.named_parameters()}
    batch = make_batch()
    batch.images.mul_(100)
    loss, norm = make_stepper(regime=regime).step(state, batch, lr=0.1)
    assert loss.isfinite()
    assert norm == 0, "what stands for a gradient that overflowed"
    assert state.scaler.get_scale() < 2.0**127
    assert all(torch.equal(parameter, before[name]) for name, parameter in state.model.named_parameters())


def test_dropout_is_a_function_of_seed_step_and_rank() -> None:
    def loss_at(step: int, seed: int = 0, rank: int = 0) -> float:
        state = make_state(dropout=0.5)
        state.progress.step = step
        torch.rand(step + 3)  # whatever ran before
        return make_stepper(seed=seed, ranks=Ranks(Place(rank))).step(state, make_batch(), lr=0.1)[0].item()

    assert loss_at(4) == loss_at(4)
    assert loss_at(4) != loss_at(5)
    assert loss_at(4) != loss_at(4, seed=1)
    assert loss_at(4) != loss_at(4, rank=1)


def test_mixing_is_another_one_at_each_step() -> None:
    def loss_at(step: int) -> float:
        state = make_state()
        state.progress.step = step
        objective = Supervised(mixup=0.4).build([4, 4, 4], seed=0)
        return make_stepper(objective=objective).step(state, make_batch(), lr=0.1)[0].item()

    assert loss_at(4) == loss_at(4)
    assert loss_at(4) != loss_at(5)


@pytest.mark.parametrize("step", [0, 11, 39])
def test_each_group_has_the_learning_rate_that_its_regime_gives_it_at_the_step(step: int) -> None:
    model = make_state().model
    regime = Regime.of(TransferConfig(recipe="gradual", layer_decay=0.5, head_lr=3.0), model, num_steps=40)
    state = State(model, Sgd().build(model, regime.groups(model)), None, GradScaler("cpu", enabled=False))
    state.progress.step = step
    make_stepper(regime=regime).step(state, make_batch(), lr=0.1)
    found = {group["name"]: group["lr"] for group in state.optimizer.param_groups}
    assert found.keys() == {"stage1", "stage2", "stage3", "head"}
    assert found == {name: pytest.approx(0.1 * regime.factor(name, step)) for name in found}


def test_the_average_is_the_weighted_sum_with_warm_up() -> None:
    state = make_state(ema=0.9)
    assert state.average is not None
    expected = state.model.head.weight.detach().clone().double()
    for step in range(1, 30):
        with torch.no_grad():
            state.model.head.weight.add_(1.0)
        state.average.update(state.model, step, torch.tensor(True))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * state.model.head.weight.detach().double()
    torch.testing.assert_close(state.average.model.head.weight.double(), expected, rtol=1e-5, atol=1e-6)
    assert state.weights_to_use() is state.average.model


def test_the_counters_of_an_average_are_those_of_the_model() -> None:
    state = make_state(ema=0.9)
    assert state.average is not None
    for step in (1, 2):
        make_stepper().step(state, make_batch(), lr=0.1)
        state.average.update(state.model, step, torch.tensor(True))
    assert state.average.tensors["backbone.stage1.bn.num_batches_tracked"] == 2


def test_a_restored_state_has_the_average_and_the_start_that_were_saved() -> None:
    state, other = make_state(ema=0.9), make_state(ema=0.9)
    for each in (state, other):
        each.start = {"head.weight": torch.zeros(3, 16)}
    assert state.average is not None
    state.start["head.weight"].add_(2.0)
    for step in (1, 2):
        make_stepper().step(state, make_batch(), lr=0.1)
        state.average.update(state.model, step, torch.tensor(True))
    other.restore(state.tensors(), state.progress_dict())
    found = other.tensors()
    assert found.keys() == state.tensors().keys() >= {"ema.head.weight", "start.head.weight"}
    assert all(torch.equal(found[name], tensor) for name, tensor in state.tensors().items())
    assert not torch.equal(found["ema.head.weight"], found["head.weight"])


def test_a_restored_state_has_the_scale_of_the_loss_that_was_saved() -> None:
    state, other = make_state(), make_state()
    state.scaler, other.scaler = GradScaler("cpu", init_scale=8.0), GradScaler("cpu")
    other.restore(state.tensors(), state.progress_dict())
    assert other.scaler.get_scale() == 8.0


def test_the_best_score_of_an_older_checkpoint_is_its_top1() -> None:
    state = make_state()
    progress = state.progress_dict() | {"best_step": 4, "best_top1": 0.7}
    del progress["best_merit"], progress["best_told"]
    state.restore(state.tensors(), progress)
    assert state.progress == Progress(best_step=4, best_merit=0.7, best_told={"top1": 0.7})


def test_a_score_is_better_by_merit_and_of_equal_merit_by_less_loss() -> None:
    assert Progress().is_better(-1.0, 9.0), "the first is the best so far, an R² below 0 too"
    best = Progress(best_step=1, best_merit=0.5, best_loss=1.0)
    better = [best.is_better(*score) for score in ((0.6, 2.0), (0.5, 0.9), (0.5, 1.0), (0.5, 1.1), (0.4, 0.1))]
    assert better == [True, True, False, False, False]


def naive_loss(logits: list[list[float]], labels: list[int], smoothing: float, weights: list[float]) -> float:
    """Cross-entropy with smoothing, sample by sample, in double precision (Szegedy et al. 2016, section 7)."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        norm = math.log(sum(math.exp(value) for value in row))
        for index, value in enumerate(row):
            target = (1 - smoothing) * (index == label) + smoothing / len(row)
            total -= weights[index] * target * (value - norm)
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_equals_a_naive_one(smoothing: float, balanced: bool) -> None:
    logits, labels = torch.randn(20, 3, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 3
    counts = [10, 20, 30]
    config = Supervised(label_smoothing=smoothing, class_weights="balanced" if balanced else "none")
    weights = [20 / count for count in counts] if balanced else [1.0] * 3
    found = config.build(counts, seed=0).loss(logits, labels).item()
    assert found == pytest.approx(naive_loss(logits.tolist(), labels.tolist(), smoothing, weights), rel=1e-5)


def test_the_loss_of_a_mixed_image_is_the_mean_of_its_classes_losses_by_their_shares() -> None:
    """With smoothing and class weights too, which are linear in the targets."""
    logits, weights = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), [0.5, 1.0, 2.0]
    first, second, share = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 1, 0, 2, 0, 2]), 0.3
    targets = share * torch.eye(3)[first] + (1 - share) * torch.eye(3)[second]
    found = CrossEntropy(0.2, weights, Mixing(0.4, 0.0, 0)).loss(logits, targets).item()
    pure = [naive_loss(logits.tolist(), labels.tolist(), 0.2, weights) for labels in (first, second)]
    assert found == pytest.approx(share * pure[0] + (1 - share) * pure[1], rel=1e-5)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing_keeps_targets_in_step_with_pixels(mixup: float, cutmix: float) -> None:
    """Images of constant value 0 and 1: the mean of a mixed image is the share of the second class in its target."""
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    images = labels.float()[:, None, None, None].expand(6, 3, 16, 16).contiguous()
    objective = CrossEntropy(0.0, None, Mixing(mixup, cutmix, 0))
    shares, num_pasted = set(), 0
    for step in range(20):
        mixed, targets = objective.mix(images, labels, 2, step)
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), targets[:, 1], rtol=0, atol=1e-5)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
        shares.add(round(targets[0, 1].item(), 4))
        num_pasted += set(mixed.unique().tolist()) <= {0.0, 1.0}
    assert len(shares) > 10
    assert num_pasted == 20 if not mixup else 4 <= num_pasted <= 16 if cutmix else num_pasted == 0
    other, _ = CrossEntropy(0.0, None, Mixing(mixup, cutmix, 1)).mix(images, labels, 2, 19)
    assert not torch.equal(other, mixed)
    again, _ = CrossEntropy(0.0, None, Mixing(mixup, cutmix, 0)).mix(images, labels, 2, 19)
    assert torch.equal(again, mixed)
    assert torch.equal(images, labels.float()[:, None, None, None].expand(6, 3, 16, 16))


def test_a_pasted_box_has_the_share_that_cutmix_asks_for_and_may_touch_every_edge() -> None:
    """At so large an α it is a half of the image, less what lies outside; mixup's own α would give less and more."""
    labels = torch.tensor([0, 1])
    images = labels.float()[:, None, None, None].expand(2, 3, 16, 16).contiguous()
    objective = CrossEntropy(0.0, None, Mixing(0.5, 1000.0, 0))
    mixes = [objective.mix(images, labels, 2, step)[0][0, 0] for step in range(60)]
    boxes = [mixed for mixed in mixes if mixed.unique().tolist() == [0.0, 1.0]]
    areas = [box.mean().item() for box in boxes]
    assert all(0.1 < area < 0.6 for area in areas)
    assert max(areas) > 0.4
    for edge in ((0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1)):
        assert any(box[edge].any() for box in boxes)


def test_with_both_on_each_is_taken_for_half_of_the_batches() -> None:
    labels = torch.tensor([0, 1])
    images = labels.float()[:, None, None, None].expand(2, 1, 4, 4).contiguous()
    objective = CrossEntropy(0.0, None, Mixing(1.0, 1.0, 0))
    mixes = [objective.mix(images, labels, 2, step)[0] for step in range(400)]
    num_pasted = sum(set(mixed.unique().tolist()) <= {0.0, 1.0} for mixed in mixes)
    assert num_pasted == pytest.approx(200, abs=40)


def test_several_classes_are_mixed_as_one_is_and_anew_at_each_step() -> None:
    images, labels = make_batch().images, torch.eye(3)[make_batch().labels]
    objective = BinaryCrossEntropy(0.0, None, Mixing(0.4, 0.0, 0))
    found = [objective.mix(images, labels, 3, step) for step in (4, 5, 4)]
    expected, targets = CrossEntropy(0.0, None, Mixing(0.4, 0.0, 0)).mix(images, make_batch().labels, 3, 4)
    assert torch.equal(found[0][0], expected)
    assert torch.equal(found[0][1], targets)
    assert torch.equal(found[0][0], found[2][0])
    assert not torch.equal(found[0][0], found[1][0])


def test_numbers_are_compared_in_deviations_from_their_mean() -> None:
    objective = SquaredError(Scale((3.0, -1.0), (2.0, 0.5)))
    images, labels = torch.zeros(2, 3, 4, 4), torch.tensor([[5.0, -1.0], [3.0, -2.0]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    assert torch.equal(objective.mix(images, labels, 2, 0)[1], expected)
    assert torch.equal(objective.targets(labels, 2), expected.double())
    assert objective.loss(torch.zeros(2, 2), expected).item() == pytest.approx((1 + 4) / 2 / 2)


def test_without_mixing_labels_and_images_are_untouched() -> None:
    batch = make_batch()
    images, targets = CrossEntropy(0.1, None, Mixing(0.0, 0.0, 0)).mix(batch.images, batch.labels, 3, 0)
    assert images is batch.images
    assert targets is batch.labels
    assert not Supervised().build([4, 4, 4], seed=0).mixes


@pytest.mark.parametrize(
    ("shape", "middle", "last"),
    [
        (Cosine(), 0.5, 0.0),
        (Linear(name="linear"), 0.5, 0.0),
        (StepDecay(name="step", milestones=(0.4, 0.9), gamma=0.1), 0.1, 0.01),
        (Constant(name="constant"), 1.0, 1.0),
    ],
)
def test_schedules_have_their_values_at_start_middle_and_end(
    shape: Cosine | Linear | StepDecay | Constant, middle: float, last: float
) -> None:
    shape = shape.model_copy(update={"warmup": Duration(steps=100)})
    schedule = shape.build(num_steps=1100, num_examples=1000, batch_size=10)
    assert schedule.factor(0) == pytest.approx(0.01)
    assert schedule.factor(49) == pytest.approx(0.5)
    assert schedule.factor(100) == pytest.approx(1.0)
    assert schedule.factor(600) == pytest.approx(middle)
    assert schedule.factor(1099) == pytest.approx(last, abs=2e-3)


def test_the_default_warmup_is_a_tenth_and_at_most_five_epochs() -> None:
    assert Cosine().build(1000, num_examples=10_000, batch_size=10).warmup_steps == 100
    assert Cosine().build(1000, num_examples=100, batch_size=10).warmup_steps == 50
    assert Cosine(warmup=Duration(steps=0)).build(10, 100, 10).factor(0) == 1.0


def test_training_on_batches_of_a_tiny_task_learns_it() -> None:
    batch = make_batch(30)
    pixels = ((batch.images + 3) * 25).clamp(0, 255).to(torch.uint8)
    examples = Examples(ResidentImages(pixels), batch.labels, [""] * 30)
    order = Order(batch.labels, 10, seed=0)
    batches = Batches(examples, Format(12, 3, (0.4,) * 3, (0.1,) * 3), order, NoAugment(name="none").build(12), CPU)
    state, stepper = make_state(), make_stepper()
    for step in range(60):
        loss, _ = stepper.step(state, batches.at(step), lr=0.05)
        state.progress.step += 1
    assert loss.item() < 0.3


def everything(state: State) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "optim",
    [Sgd(), Sgd(momentum=0.0), AdamW(name="adamw"), Muon(name="muon"), Muon(name="muon", normalize=True)],
    ids=["sgd", "plain", "adamw", "muon", "normalized"],
)
@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_step_that_is_not_finite_changes_nothing(optim: Optim, steps_before: int, value: float) -> None:
    """Weights, batch-norm statistics, optimizer and average; the steps after it are as if it had not been."""
    state, twin, stepper = make_state(optim, ema=0.9), make_state(optim, ema=0.9), make_stepper()
    bad = make_batch()
    bad.images[5, 0, 3, 3] = value
    for step in range(steps_before + 4):
        for each in (state, twin):
            if each is state and step == steps_before:
                before = everything(state)
                loss, norm = stepper.step(state, bad, lr=0.1)
                assert not (loss.isfinite() and norm.isfinite())
                assert all(tensor.equal(before[name]) for name, tensor in everything(state).items() if name in before)
            stepper.step(each, make_batch(), lr=0.1)
            each.progress.step += 1
    ended = everything(twin)
    assert everything(state).keys() == ended.keys()
    assert [name for name, tensor in everything(state).items() if not tensor.equal(ended[name])] == []


def test_a_stop_while_a_micro_batch_is_compiled_leaves_nothing_of_the_step() -> None:
    state, sizes = make_state(), list[int]()

    def forward(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(sizes) == 2:
            raise StoppedError(signal.SIGINT)
        logits: torch.Tensor = network(images)
        return logits

    before = everything(state)
    with pytest.raises(StoppedError):
        make_stepper(accumulate=2, forward=forward).step(state, make_batch(5), lr=0.1)
    assert sizes == [3, 2]
    assert [name for name, tensor in everything(state).items() if not tensor.equal(before[name])] == []
    assert all(parameter.grad is None for parameter in state.model.parameters())


class Odd:
    """A loss of zero whose gradient is infinite, or an infinite one whose gradient is finite."""

    mixes = False

    def __init__(self, loss: float) -> None:
        self._loss = loss

    def mix(self, images: torch.Tensor, labels: torch.Tensor, *_: int) -> tuple[torch.Tensor, torch.Tensor]:
        return images, labels

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        total = logits.sum()
        return total + self._loss if self._loss else (total - total.detach()).sqrt()


@pytest.mark.parametrize("loss", [0.0, math.inf])
def test_a_step_changes_nothing_where_the_loss_alone_or_its_gradient_alone_is_not_finite(loss: float) -> None:
    state = make_state(ema=0.9)
    before = everything(state)
    found, norm = make_stepper(objective=Odd(loss)).step(state, make_batch(), lr=0.1)
    assert (math.isfinite(found), math.isfinite(norm)) == (not loss, bool(loss))
    assert [name for name, tensor in before.items() if not tensor.equal(everything(state)[name])] == []


@pytest.mark.parametrize("kind", members(Optim))
def test_every_optimizer_obeys_the_flag_that_forbids_a_step(kind: type[Sgd | AdamW | Muon]) -> None:
    model = make_state().model
    optimizer = kind(name=get_args(kind.model_fields["name"].annotation)[0]).build(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.nan)
    optimizer.found_inf = torch.tensor(1.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("optim", [Sgd(), AdamW(name="adamw"), Muon(name="muon")], ids=["sgd", "adamw", "muon"])
def test_a_restored_state_goes_on_with_the_same_bits_in_channels_last(optim: Optim) -> None:
    """Fused optimizers walk through memory: a buffer in another layout than its weights would be another buffer."""
    stepper, batch = make_stepper(memory_format=torch.channels_last), make_batch()
    states = []
    for _ in range(2):
        model = make_state().model.to(memory_format=torch.channels_last)
        states.append(State(model, optim.build(model), None, GradScaler("cpu", enabled=False)))
    state, other = states
    for _ in range(3):
        stepper.step(state, batch, lr=0.1)
        state.progress.step += 1
    other.restore({name: tensor.contiguous() for name, tensor in everything(state).items()}, state.progress_dict())
    for each in (state, other):
        stepper.step(each, batch, lr=0.1)
    ended = everything(state)
    assert [name for name, tensor in everything(other).items() if not tensor.equal(ended[name])] == []


@pytest.mark.parametrize("config", [SmallCnn(name="small-cnn", width=4), TorchvisionCnn(name="mobilenet_v3_small")])
def test_the_fused_step_in_channels_last_is_the_plain_one(config: SmallCnn | TorchvisionCnn) -> None:
    """Of torch's own loop over the parameters: depthwise and 1x1 kernels have layouts that are easy to confuse."""
    batch, models = make_batch(), []
    images = torch.nn.functional.interpolate(batch.images, size=32)
    for fused in (True, False):
        torch.manual_seed(0)
        model = config.build(3, 3).to(memory_format=torch.channels_last).train()
        optimizer = (
            Sgd(lr=0.1).build(model)
            if fused
            else torch.optim.SGD(decay_groups(model, 5e-4), lr=0.1, momentum=0.9, nesterov=True, foreach=False)
        )
        for step in range(3):
            torch.manual_seed(step)
            logits = model(images.contiguous(memory_format=torch.channels_last))
            torch.nn.functional.cross_entropy(logits, batch.labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        models.append(model)
    for ours, plain in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-7)


def test_draws_are_seeded_as_torch_seeds_them() -> None:
    torch.manual_seed(7)
    expected = torch.rand(5)
    seed_draws(CPU, 8)
    assert not torch.equal(torch.rand(5), expected)
    seed_draws(CPU, 7)
    assert torch.equal(torch.rand(5), expected)


def test_a_warmup_ends_with_the_run_and_a_step_decays_at_its_milestone() -> None:
    assert Cosine(warmup=Duration(steps=50)).build(20, 100, 10).warmup_steps == 20
    decay = StepDecay(name="step").build(8, 100, 10)
    assert decay.warmup_steps == 0
    assert [decay.factor(step) for step in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
