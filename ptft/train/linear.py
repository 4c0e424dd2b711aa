"""Linear models by L-BFGS: logistic regression, one for each class or of all, and ridge regression."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import LBFGS

from ptft.train.eager import eager

Loss = Callable[[Tensor, Tensor], Tensor]

_MOST_ITERATIONS = 1_000
_MEMORY = 20


@dataclass(frozen=True)
class LinearFit:
    """A solution.

    Attributes:
        weight: float64 (K, D).
        bias: float64 (K,).
        loss: at the solution, without the penalty.
        grad_norm: L2 norm of the whole objective's gradient there, in the units of the search; 0 at the exact minimum.
    """

    weight: Tensor
    bias: Tensor
    loss: float
    grad_norm: float


def fit_linear(
    rows: Tensor,
    targets: Tensor,
    loss: Loss,
    penalty: float,
    start: LinearFit | None = None,
    tolerance: float = 1e-7,
    check_stop: Callable[[], None] = lambda: None,
) -> LinearFit:
    """Minimises loss + penalty / 2 · ‖weight‖², the bias free of it.

    With cross-entropy this is scikit-learn's `LogisticRegression(C=1 / (penalty · N))`, with half the squared error
    `Ridge(alpha=penalty · N)`. The objective is convex, and strictly so in the weights for a positive penalty; L-BFGS
    (Liu & Nocedal 1989) with a strong-Wolfe line search, torch's. Each column's weights are searched for in units in
    which their curvature is about 1, which takes a fraction of the iterations where columns are uncorrelated.

    Args:
        rows: float64 (N, D); standardised, so that one penalty suits all, no column zero throughout unless the
            penalty is positive.
        targets: float64 (N, K), what `loss` compares with.
        loss: of logits and targets, float64 (N, K) each, to a scalar, the mean over the rows; convex in the logits.
        penalty: not negative.
        start: where to begin; zeros by default.
        tolerance: the largest entry of the gradient, in those units, to stop at.
        check_stop: called before each evaluation; raises when a signal asked to stop.
    """
    # The curvature of a class's cross-entropy is at most p (1 - p) <= 1/4 times the column's mean square, that of half
    # the squared error four times as much, in all columns alike.
    unit = (rows.square().mean(dim=0) / 4 + penalty).rsqrt()
    scaled = start.weight / unit if start else rows.new_zeros(targets.shape[1], rows.shape[1])
    bias = start.bias.clone() if start else rows.new_zeros(targets.shape[1])
    parameters = [scaled.requires_grad_(), bias.requires_grad_()]
    optimizer = eager(LBFGS)(
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
        objective = loss(functional.linear(rows, weight, bias), targets) + penalty / 2 * weight.square().sum()
        objective.backward()
        return objective

    optimizer.step(closure)
    closure()
    norm = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]).norm()
    weight, bias = (scaled * unit).detach(), bias.detach()
    return LinearFit(weight, bias, loss(functional.linear(rows, weight, bias), targets).item(), norm.item())
