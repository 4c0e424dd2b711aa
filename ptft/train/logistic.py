"""Multinomial logistic regression by L-BFGS."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_MOST_ITERATIONS = 1_000
_MEMORY = 20


@dataclass(frozen=True)
class Logistic:
    """A solution.

    Attributes:
        weight: float64 (K, D).
        bias: float64 (K,).
        loss: cross-entropy in nats at the solution, without the penalty.
        grad_norm: L2 norm of the whole objective's gradient there, in the units of the search; 0 at the exact minimum.
    """

    weight: Tensor
    bias: Tensor
    loss: float
    grad_norm: float


def fit_logistic(
    rows: Tensor,
    targets: Tensor,
    penalty: float,
    start: Logistic | None = None,
    tolerance: float = 1e-7,
    check_stop: Callable[[], None] = lambda: None,
) -> Logistic:
    """Minimises mean cross-entropy + penalty / 2 · ‖weight‖², the bias free of it.

    This is scikit-learn's `LogisticRegression(C=1 / (penalty · N))`. The objective is convex, and strictly so in the
    weights for a positive penalty; L-BFGS (Liu & Nocedal 1989) with a strong-Wolfe line search, torch's. Each column's
    weights are searched for in units in which their curvature is about 1, which takes a fraction of the iterations
    where columns are uncorrelated.

    Args:
        rows: float64 (N, D); standardised, so that one penalty suits all, no column zero throughout unless the
            penalty is positive.
        targets: float64 (N, K), the weights of −log p: one-hot rows, or smoothed and weighted ones.
        penalty: not negative.
        start: where to begin; zeros by default.
        tolerance: the largest entry of the gradient, in those units, to stop at.
        check_stop: called before each evaluation; raises when a signal asked to stop.
    """
    # The curvature of a class's loss is at most p (1 - p) <= 1/4 times the column's mean square.
    unit = (rows.square().mean(dim=0) / 4 + penalty).rsqrt()
    scaled = start.weight / unit if start else rows.new_zeros(targets.shape[1], rows.shape[1])
    bias = start.bias.clone() if start else rows.new_zeros(targets.shape[1])
    parameters = [scaled.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=_MOST_ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=1e-12,
        history_size=_MEMORY,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        check_stop()
        optimizer.zero_grad()
        weight = scaled * unit
        objective = cross_entropy(rows, targets, weight, bias) + penalty / 2 * weight.square().sum()
        objective.backward()
        return objective

    optimizer.step(closure)
    closure()
    norm = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]).norm()
    weight, bias = (scaled * unit).detach(), bias.detach()
    return Logistic(weight, bias, cross_entropy(rows, targets, weight, bias).item(), norm.item())


def cross_entropy(rows: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Mean over the rows of −Σ targets · log p, a scalar; arguments as `fit_logistic`."""
    logits = functional.linear(rows, weight, bias)
    return -(targets * logits.log_softmax(dim=1)).sum() / len(rows)
