"""Our optimizers are torch's, without the import of its compiler."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ptft.train.eager import eager


def trained(kind: Any, **settings: Any) -> list[torch.Tensor]:
    """Weights and state after five steps."""
    torch.manual_seed(0)
    model = nn.Linear(5, 3)
    optimizer = kind(model.parameters(), **settings)
    for step in range(5):
        model(torch.full((4, 5), float(step))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return [*model.parameters(), *kept]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "fused": True}),
        (AdamW, {"lr": 0.01, "betas": (0.8, 0.95), "fused": True}),
    ],
)
def test_steps_are_those_of_torch_to_the_bit(kind: type[Optimizer], settings: dict[str, Any]) -> None:
    for ours, theirs in zip(trained(eager(kind), **settings), trained(kind, **settings), strict=True):
        assert torch.equal(ours, theirs)
    assert issubclass(eager(kind), kind)
    assert eager(kind) is eager(kind)


SOURCE = """
import sys, torch
from torch.nn import functional
from ptft.train.linear import fit_linear
from ptft.train.optim import AdamW, Muon, Sgd
for optim in (Sgd(), AdamW(name="adamw"), Muon(name="muon")):
    model = torch.nn.Linear(3, 2)
    optimizer = {optimizer}
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
rows, labels = torch.randn(20, 3, dtype=torch.float64), torch.arange(20) % 2
fit = fit_linear(rows, functional.one_hot(labels).double(), functional.cross_entropy, penalty=0.1)
print(fit.grad_norm < 1e-3, "torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(
    ("optimizer", "is_imported"),
    [("optim.build(model)", False), ("torch.optim.SGD(model.parameters())", True)],
)
def test_neither_steps_nor_linear_models_import_the_compiler(optimizer: str, is_imported: bool) -> None:
    source = SOURCE.format(optimizer=optimizer)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(is_imported)]
