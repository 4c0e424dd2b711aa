"""Muon: momentum whose matrices are made orthogonal before they move the weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.sgd import sgd

from ptft.models.classifier import Classifier
from ptft.models.whitening import Whitening

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_EPSILON = 1e-7


def orthogonalized(matrices: Tensor, iterations: int) -> Tensor:
    """Brings all singular values near 1 and leaves the singular vectors: a quintic Newton-Schulz iteration.

    Jordan 2024 ("Muon: an optimizer for hidden layers in neural networks"): X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X from
    X = G / ‖G‖. The coefficients are chosen for speed: it does not converge, five iterations bring what is above 0.003
    of the norm into [0.68, 1.21].

    We iterate on the small matrix A = X Xᵀ, which every iteration maps to Q A Q, Q = a I + b A + c A², and multiply by
    G once: for 3 × 3 kernels half of the arithmetic, and in float32 as fast as the original in bfloat16. Rounding makes
    eigenvalues of A slightly negative, and each iteration 12 times as large: at most 5 iterations.

    Args:
        matrices: float32 (N, R, C), each by itself.
        iterations: in [1, 5].

    Returns:
        float32 (N, R, C); zero for a matrix of zeros.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalized(matrices.mT, iterations).mT
    a, b, c = _COEFFICIENTS
    scaled = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + _EPSILON)
    gram = scaled @ scaled.mT
    product = factor = _polynomial(gram, a, b, c)
    for _ in range(iterations - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram, a, b, c)
        product = factor @ product
    result: Tensor = product @ scaled
    return result


def _polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """a I + b A + c A² of each matrix A, (N, R, R)."""
    result = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal(dim1=1, dim2=2).add_(a)
    return result


def hidden_parameters(model: nn.Module) -> set[Parameter]:
    """Kernels and matrices, except the head's and those that whiten; none of those of a single row or column."""
    others: set[Tensor] = {*model.head.parameters()} if isinstance(model, Classifier) else set()
    others |= {part.weight for part in model.modules() if isinstance(part, Whitening)}
    return {one for one in model.parameters() if one.ndim > 1 and 1 < len(one) < one.numel() and one not in others}


class Muon(Optimizer):
    """Moves kernels and hidden matrices by orthogonalised momentum, all else by SGD; both with Nesterov's look-ahead.

    Kernels are matrices (out, in · height · width). Each step moves them by lr · max(1, rows / columns)^½ times a
    nearly orthogonal matrix, so that lr is the size of an update beside weights of row norm 1. Weight decay is
    decoupled.

    As of torch's fused optimizers, `found_inf`, float (), forbids a step where it is 1; this is decided on the device.

    Args:
        groups: besides `params` each has `lr`, `lr_factor` on it, `weight_decay`, `momentum` and `is_hidden`: whether
            its parameters are moved by orthogonalised momentum.
        iterations: of Newton-Schulz.
        normalize: every kernel is scaled to row norm 1 (root mean square) before it is moved.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], *, iterations: int, normalize: bool) -> None:
        super().__init__(groups, {})
        self._iterations = iterations
        self._normalize = normalize
        # GradScaler then leaves it to us to obey `found_inf`; gradients come unscaled.
        self._step_supports_amp_scaling = True
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves every parameter that has a gradient."""
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            lr, momentum = group["lr"] * group["lr_factor"], group["momentum"]
            stays = torch.zeros((), dtype=torch.bool, device=moved[0].device) if found_inf is None else found_inf.bool()
            if group["weight_decay"]:
                torch._foreach_mul_(moved, torch.where(stays, 1.0, 1 - lr * group["weight_decay"]))
            if not group["is_hidden"]:
                self._move_others(moved, lr, momentum, found_inf)
                continue
            for alike in _by_shape(moved):
                self._move_hidden(alike, lr, momentum, stays)

    def _move_others(self, parameters: list[Tensor], lr: float, momentum: float, found_inf: Tensor | None) -> None:
        buffers: list[Tensor | None] = [*self._buffers(parameters)] if momentum else [None] * len(parameters)
        sgd(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            buffers,
            fused=True,
            found_inf=found_inf,
            weight_decay=0.0,
            momentum=momentum,
            lr=lr,
            dampening=0.0,
            nesterov=momentum > 0,
            maximize=False,
        )

    def _move_hidden(self, kernels: list[Tensor], lr: float, momentum: float, stays: Tensor) -> None:
        """One step of kernels of the same shape; where `stays`, bool (), they and their buffers are what they were."""
        gradients = torch.stack([kernel.grad for kernel in kernels if kernel.grad is not None])
        gradients = torch.where(stays, 0.0, gradients)
        buffers = self._buffers(kernels)
        torch._foreach_mul_(buffers, torch.where(stays, 1.0, momentum))
        torch._foreach_add_(buffers, gradients.unbind())
        updates = gradients.add_(torch.stack(buffers), alpha=momentum).flatten(2)
        _, rows, columns = updates.shape
        if self._normalize:
            norms = torch.stack(torch._foreach_norm(kernels)).clamp_(min=_EPSILON)
            torch._foreach_mul_(kernels, torch.where(stays, 1.0, rows**0.5 / norms).unbind())
        size = torch.where(stays, 0.0, lr * max(1.0, rows / columns) ** 0.5)
        updates = orthogonalized(updates, self._iterations).mul_(-size)
        torch._foreach_add_(kernels, updates.view(gradients.shape).unbind())

    def _buffers(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        return [self.state[parameter]["momentum_buffer"] for parameter in parameters]


def _by_shape(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Those of the same shape together: one call does them all."""
    found: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        found.setdefault(parameter.shape, []).append(parameter)
    return list(found.values())
