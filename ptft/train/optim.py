"""Optimizers a config can name, and which parameters they decay."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ptft.config.base import Config

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class Sgd(Config):
    """SGD with (Nesterov) momentum; the default."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(0.1, gt=0)
    """Peak learning rate, reached after the warmup."""
    weight_decay: float = Field(5e-4, ge=0)
    """Added to the gradient of weights; never of biases and norms."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """0 for plain gradient descent."""
    nesterov: bool = True
    """Nesterov's look-ahead (Sutskever et al. 2013); without effect when momentum is 0."""

    def build(self, model: "nn.Module") -> "Optimizer":
        """SGD over the parameters of `model` that are to be trained, laid out in memory as they will stay."""
        import torch
        from torch.optim import SGD

        groups, nesterov = decay_groups(model, self.weight_decay), self.nesterov and self.momentum > 0
        optimizer = SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov, fused=True)
        # torch leaves the first buffer unwritten when `found_inf` forbids the first step; from zeros the first step
        # is the same: momentum * 0 + gradient.
        for group in optimizer.param_groups if self.momentum else ():
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


class AdamW(Config):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    name: Literal["adamw"]
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate, reached after the warmup."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled, multiplied by the learning rate; never on biases and norms."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the gradient's running mean."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the squared gradient's running mean."""

    def build(self, model: "nn.Module") -> "Optimizer":
        """AdamW over the parameters of `model` that are to be trained, laid out in memory as they will stay."""
        from torch.optim import AdamW

        groups = decay_groups(model, self.weight_decay)
        return AdamW(groups, lr=self.lr, betas=(self.beta1, self.beta2), fused=True)


Optim = Annotated[Sgd | AdamW, Field(discriminator="name")]
"""All are torch's fused implementations: those that leave weights and state alone when their `found_inf` is 1."""


def decay_groups(model: "nn.Module", weight_decay: float) -> list[dict[str, object]]:
    """Two parameter groups: matrices and kernels with weight decay; biases and norm parameters without.

    Parameters that are frozen (`requires_grad` is false) are in neither.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
