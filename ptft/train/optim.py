"""Optimizers a config can name, and which parameters they decay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from ptft.config.base import Config

if TYPE_CHECKING:
    from torch import nn
    from torch.nn import Parameter
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate.

    Attributes:
        name: kept in the optimizer's group as `name`.
        parameters: in any order.
        decays: whether weight decay applies to its matrices and kernels.
    """

    name: str
    parameters: "Sequence[Parameter]"
    decays: bool = True


class Sgd(Config):
    """SGD with (Nesterov) momentum; the default."""

    usual_lr: ClassVar[float] = 0.1
    finetune_lr: ClassVar[float] = 0.02

    name: Literal["sgd"] = "sgd"
    lr: Annotated[float, Field(gt=0, examples=[0.1])] | None = None
    """Peak learning rate, reached after the warmup. Default: 0.1; for finetune 0.02, or what recipe auto chooses."""
    weight_decay: float = Field(5e-4, ge=0)
    """Added to the gradient of weights; never of biases, norms and layer scales."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """0 for plain gradient descent."""
    nesterov: bool = True
    """Nesterov's look-ahead (Sutskever et al. 2013); without effect when momentum is 0."""

    def build(self, model: "nn.Module", groups: Sequence[Group] = ()) -> "Optimizer":
        """SGD over `groups`, or else all of `model`; parameters are laid out in memory as they will stay."""
        import torch
        from torch.optim import SGD

        from ptft.train.eager import eager

        nesterov = self.nesterov and self.momentum > 0
        parts = decay_groups(model, self.weight_decay, groups)
        lr = self.lr or self.usual_lr
        optimizer: Optimizer = eager(SGD)(parts, lr=lr, momentum=self.momentum, nesterov=nesterov, fused=True)
        # torch leaves the first buffer unwritten when `found_inf` forbids the first step; from zeros the first step
        # is the same: momentum * 0 + gradient.
        for group in optimizer.param_groups if self.momentum else ():
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


class AdamW(Config):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    usual_lr: ClassVar[float] = 1e-3
    finetune_lr: ClassVar[float] = 1e-3

    name: Literal["adamw"]
    lr: Annotated[float, Field(gt=0, examples=[0.001])] | None = None
    """Peak learning rate, reached after the warmup. Default: 0.001, or what recipe auto chooses."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled, multiplied by the learning rate; never on biases, norms and layer scales."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the gradient's running mean."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the squared gradient's running mean."""

    def build(self, model: "nn.Module", groups: Sequence[Group] = ()) -> "Optimizer":
        """AdamW over `groups`, or else all of `model`; parameters are laid out in memory as they will stay."""
        from torch.optim import AdamW

        from ptft.train.eager import eager

        parts = decay_groups(model, self.weight_decay, groups)
        lr = self.lr or self.usual_lr
        optimizer: Optimizer = eager(AdamW)(parts, lr=lr, betas=(self.beta1, self.beta2), fused=True)
        return optimizer


class Muon(Config):
    """Muon (Jordan 2024) for convolution kernels and hidden matrices: momentum made orthogonal. SGD for all else."""

    usual_lr: ClassVar[float] = 0.05
    finetune_lr: ClassVar[float] = 0.005

    name: Literal["muon"]
    lr: Annotated[float, Field(gt=0, examples=[0.05])] | None = None
    """Peak learning rate of kernels and hidden matrices, reached after the warmup: the size of an update beside weights
    of row norm 1. Default: 0.05; for finetune 0.005, or what recipe auto chooses."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Of kernels and hidden matrices, with Nesterov's look-ahead; short runs of large batches like 0.6."""
    other_lr: Annotated[float, Field(gt=0, examples=[0.1])] | None = None
    """Peak learning rate of all else (the head, biases, norms), which SGD trains on the same schedule. Default:
    twice lr."""
    other_momentum: float = Field(0.9, ge=0, lt=1)
    """Of all else, with Nesterov's look-ahead."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled, multiplied by the learning rate; never on biases, norms and layer scales."""
    iterations: int = Field(5, ge=1, le=5)
    """Newton-Schulz iterations; 3 cost less, and leave weak directions weaker."""
    normalize: bool = False
    """Before each step scale every kernel to row norm 1, as airbench does; weight_decay then counts for the head alone.
    It changes what a network computes where no batch norm follows: not for finetuning such networks."""

    def build(self, model: "nn.Module", groups: Sequence[Group] = ()) -> "Optimizer":
        """Muon over `groups`, or else all of `model`; parameters are laid out in memory as they will stay."""
        from ptft.train import muon
        from ptft.train.eager import eager

        lr, hidden = self.lr or self.usual_lr, muon.hidden_parameters(model)
        kinds = {
            True: {"lr": lr, "lr_factor": 1.0, "momentum": self.momentum},
            False: {"lr": lr, "lr_factor": (self.other_lr or 2 * lr) / lr, "momentum": self.other_momentum},
        }
        parts = [
            group
            | settings
            | {"params": [one for one in group["params"] if (one in hidden) == kind], "is_hidden": kind}
            for group in decay_groups(model, self.weight_decay, groups)
            for kind, settings in kinds.items()
        ]
        optimizer: Optimizer = eager(muon.Muon)(parts, iterations=self.iterations, normalize=self.normalize)
        return optimizer


Optim = Annotated[Sgd | AdamW | Muon, Field(discriminator="name")]
"""All leave weights and state alone when their `found_inf` is 1, as torch's fused implementations do."""


def decay_groups(model: "nn.Module", weight_decay: float, groups: Sequence[Group] = ()) -> list[dict[str, Any]]:
    """Two parameter groups for each of `groups`: matrices and kernels with weight decay; biases, norms, scales without.

    Args:
        model: its parameters are the one group where none is given.
        weight_decay: of groups that decay.
        groups: what is ever trained, by name.
    """
    found: list[dict[str, Any]] = []
    for group in groups or [Group("", [*model.parameters()])]:
        decay = weight_decay if group.decays else 0.0
        large = [parameter for parameter in group.parameters if _is_matrix(parameter)]
        small = [parameter for parameter in group.parameters if not _is_matrix(parameter)]
        found.append({"params": large, "weight_decay": decay, "name": group.name})
        found.append({"params": small, "weight_decay": 0.0, "name": group.name})
    return found


def _is_matrix(parameter: "Parameter") -> bool:
    """Whether it has more than a number a row, as ConvNeXt's layer scale, (C, 1, 1), has not."""
    return parameter.ndim > 1 and parameter.numel() > len(parameter)
