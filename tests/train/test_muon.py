"""Muon against a singular value decomposition and a naive loop in double precision."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from ptft.models import SmallCnn, SmallVgg, TorchvisionCnn
from ptft.models.classifier import Classifier
from ptft.train.muon import hidden_parameters, orthogonalized
from ptft.train.optim import Group, Muon
from ptft.train.state import State

A, B, C = 3.4445, -4.7750, 2.0315


def quintic(values: Tensor, iterations: int) -> Tensor:
    """What the iteration makes of singular values: the polynomial of Jordan 2024, applied to numbers."""
    for _ in range(iterations):
        values = A * values + B * values**3 + C * values**5
    return values


def reference(matrix: Tensor, iterations: int) -> Tensor:
    """By singular value decomposition, in double precision."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return left @ torch.diag(quintic(values / values.norm(), iterations)) @ right


def conditioned(rows: int, columns: int, weakest: float) -> Tensor:
    """A random matrix whose singular values fall from 1 to `weakest`."""
    generator = torch.Generator().manual_seed(rows + columns)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns, generator=generator).double(), full_matrices=False)
    return (left @ torch.diag(torch.logspace(0, math.log10(weakest), min(rows, columns))).double() @ right).float()


@pytest.mark.parametrize(("rows", "columns"), [(16, 144), (30, 20), (24, 24), (2, 50)])
@pytest.mark.parametrize("iterations", [1, 3, 5])
@pytest.mark.parametrize("weakest", [0.05, 1e-9])
def test_orthogonalized_is_the_quintic_of_the_singular_values(
    rows: int, columns: int, iterations: int, weakest: float
) -> None:
    """Also of matrices that are as good as singular, where rounding must not grow; each of a batch by itself."""
    matrices = torch.stack([conditioned(rows, columns, weakest), 1e3 * conditioned(rows, columns, 0.5)])
    expected = torch.stack([reference(matrix, iterations) for matrix in matrices])
    torch.testing.assert_close(orthogonalized(matrices, iterations).double(), expected, rtol=0, atol=2e-3)


def test_five_iterations_bring_singular_values_into_their_band_and_fewer_do_not() -> None:
    matrix = conditioned(32, 288, 0.02)[None]
    values = torch.linalg.svdvals(orthogonalized(matrix, 5)[0])
    assert values.min() > 0.68
    assert values.max() < 1.21
    assert torch.linalg.svdvals(orthogonalized(matrix, 2)[0]).min() < 0.4


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert torch.equal(orthogonalized(torch.zeros(2, 3, 4), 5), torch.zeros(2, 3, 4))


def make_model() -> Classifier:
    torch.manual_seed(0)
    return SmallCnn(name="small-cnn", width=4).build(3, 3)


def give_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))


class Naive:
    """Muon parameter by parameter in double precision, after Jordan 2024 and SGD as of Sutskever et al. 2013."""

    def __init__(self, model: Classifier, config: Muon) -> None:
        self.config = config
        self.weights = {name: weight.detach().double().clone() for name, weight in model.named_parameters()}
        self.velocities = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    def step(self, gradients: dict[str, Tensor], lr: float, other_lr: float) -> None:
        for name, gradient in gradients.items():
            is_hidden = gradient.ndim > 1 and not name.startswith("head.")
            momentum = self.config.momentum if is_hidden else self.config.other_momentum
            rate = lr if is_hidden else other_lr
            velocity = self.velocities[name] = momentum * self.velocities[name] + gradient
            update, weight = gradient + momentum * velocity, self.weights[name]
            if gradient.ndim > 1:
                weight = weight * (1 - rate * self.config.weight_decay)
            if is_hidden:
                rows, columns = len(update), update[0].numel()
                update = reference(update.reshape(rows, columns), self.config.iterations).reshape(update.shape)
                update = update * math.sqrt(max(1, rows / columns))
                if self.config.normalize:
                    weight = weight * math.sqrt(rows) / weight.norm()
            self.weights[name] = weight - rate * update


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "config",
    [
        Muon(name="muon", lr=0.1, other_lr=0.3, weight_decay=0.1),
        Muon(name="muon", lr=0.24, momentum=0.6, other_momentum=0.0, iterations=3, normalize=True),
    ],
    ids=["plain", "normalized"],
)
def test_three_steps_are_those_of_a_naive_loop(config: Muon, memory_format: torch.memory_format) -> None:
    """At half the peak learning rate, which halves that of all else too."""
    model = make_model().to(memory_format=memory_format)
    naive, optimizer = Naive(model, config), config.build(model)
    lr, other_lr = config.lr or 0, config.other_lr or 2 * (config.lr or 0)
    for step in range(3):
        give_gradients(model, step)
        for group in optimizer.param_groups:
            group["lr"] = lr / 2
        naive.step({name: one.grad.double() for name, one in model.named_parameters()}, lr / 2, other_lr / 2)
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.double(), naive.weights[name], rtol=1e-4, atol=1e-4, msg=name)


def test_kernels_and_hidden_matrices_are_orthogonalised_and_nothing_else() -> None:
    """Of ConvNeXt also no layer scale, whose shape is (C, 1, 1)."""
    model = TorchvisionCnn(name="convnext_tiny").build(3, 3)
    hidden = hidden_parameters(model)
    names = {name: parameter for name, parameter in model.named_parameters() if parameter in hidden}
    modules = {name: module for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert names.keys() == {f"{name}.weight" for name in modules if name != "head"}


@pytest.mark.parametrize("whiten", [True, False])
def test_filters_that_whiten_are_not_orthogonalised(whiten: bool) -> None:
    model = SmallVgg(name="small-vgg", width=4, whiten=whiten).build(3, 3)
    assert (model.backbone.stem.weight in hidden_parameters(model)) is not whiten


def test_what_has_no_gradient_stays_as_it_is() -> None:
    model = make_model()
    frozen, *_ = hidden_parameters(model)
    before = frozen.detach().clone()
    optimizer = Muon(name="muon", normalize=True).build(model)
    give_gradients(model, 0)
    frozen.grad = None
    optimizer.step()
    assert torch.equal(frozen, before)


def test_the_learning_rate_of_a_group_is_that_of_all_its_parts() -> None:
    """Two groups alike but for the learning rate of one: what is moved in it is moved by the factor."""
    moves = []
    for factor in (1.0, 0.25):
        model = make_model()
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        groups = [Group("near", [*model.backbone.parameters()]), Group("head", [*model.head.parameters()])]
        optimizer = Muon(name="muon", lr=0.1, weight_decay=0.0).build(model, groups)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (factor if group["name"] == "near" else 1.0)
        give_gradients(model, 0)
        optimizer.step()
        moves.append({name: weight.detach() - before[name] for name, weight in model.named_parameters()})
    for name, move in moves[0].items():
        factor = 1.0 if name.startswith("head.") else 0.25
        torch.testing.assert_close(moves[1][name], factor * move, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_overflow_that_the_scaler_finds_leaves_weights_and_buffers_as_they_were(value: float) -> None:
    """And without one the step is made: the scaler leaves it to the optimizer."""
    model = make_model()
    optimizer, scaler = Muon(name="muon", normalize=True).build(model), GradScaler("cpu", init_scale=2.0)
    state = State(model, optimizer, None, scaler)
    for step, is_bad in enumerate((False, True, False)):
        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        give_gradients(model, step)
        if is_bad:
            next(model.parameters()).grad.view(-1)[3] = value
        scaler.scale(torch.zeros(()))  # the scaler begins with the first loss
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        changed = {name for name, tensor in state.tensors().items() if not tensor.equal(before[name])}
        trained = {f"optimizer.{name}.momentum_buffer" for name, _ in model.named_parameters()}
        trained |= {name for name, _ in model.named_parameters()}
        assert changed == (set() if is_bad else trained)
