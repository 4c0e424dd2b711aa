"""Optimizers a config can name, and which parameters they decay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

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
    """Added to the gradient of weights; never of biases and norms."""
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
    """Decoupled, multiplied by the learning rate; never on biases and norms."""
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


Optim = Annotated[Sgd | AdamW, Field(discriminator="name")]
"""All are torch's fused implementations: those that leave weights and state alone when their `found_inf` is 1."""


def decay_groups(model: "nn.Module", weight_decay: float, groups: Sequence[Group] = ()) -> list[dict[str, object]]:
    """Two parameter groups for each of `groups`: matrices and kernels with weight decay; biases and norms without.

    Args:
        model: its parameters are the one group where none is given.
        weight_decay: of groups that decay.
        groups: what is ever trained, by name.
    """
    found: list[dict[str, object]] = []
    for group in groups or [Group("", [*model.parameters()])]:
        decay = weight_decay if group.decays else 0.0
        large = [parameter for parameter in group.parameters if parameter.ndim > 1]
        small = [parameter for parameter in group.parameters if parameter.ndim <= 1]
        found.append({"params": large, "weight_decay": decay, "name": group.name})
        found.append({"params": small, "weight_decay": 0.0, "name": group.name})
    return found
