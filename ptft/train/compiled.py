"""The network of a step as torch.compile makes it: forward pass and, through autograd, backward pass."""

import logging
from collections.abc import Callable

from torch import Tensor, nn

from ptft.errors import UsageError
from ptft.runtime import first_line, is_out_of_memory

Forward = Callable[[nn.Module, Tensor], Tensor]


def forward(network: nn.Module, images: Tensor) -> Tensor:
    """What the network makes of images (B, C, H, W): logits (B, K) or features (B, D)."""
    found: Tensor = network(images)
    return found


def compiled_forward(check_stop: Callable[[], None]) -> Forward:
    """`forward`, compiled anew for each network that differs in structure and each size of batch and images.

    That takes 10 to 60 s, a few where torch's own cache has it; torch then calls kernels made for these shapes. The
    values are those of `forward` up to rounding; dropout draws the same units. Weights stay where they are.

    Args:
        check_stop: called when compiling fails; raises when a signal asked to stop, which ends a compiler, too.

    Returns:
        A function that raises UsageError where torch cannot compile: for want of a compiler, for example.
    """
    import torch._dynamo.config
    from torch._dynamo.exc import TorchDynamoException

    # Past so many versions of one function torch goes on without compiling: 8 by itself, where sizes of images, sizes
    # of micro-batches and stages that thaw come to more.
    torch._dynamo.config.recompile_limit = 64
    # Else every rank tells on stderr what it leaves out of its graphs.
    torch._logging.set_logs(all=logging.ERROR)  # type: ignore[attr-defined]
    compiled = torch.compile(forward, dynamic=False, options={"fallback_random": True})

    def run(network: nn.Module, images: Tensor) -> Tensor:
        try:
            return compiled(network, images)
        except TorchDynamoException as error:
            check_stop()
            if is_out_of_memory(error):
                raise
            raise UsageError(
                f"train.compile: torch cannot compile this network here ({first_line(error)}). Install what it needs "
                "(a C++ compiler, on a GPU also Triton), or set train.compile: false."
            ) from error

    return run
