"""ONNX: one file that takes pixels and gives answers, for any program that runs ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch
from torch import Tensor

from ptft.errors import UsageError
from ptft.export.network import Exported

_LARGEST = 2**31 - 2**20


def onnx_bytes(exported: Exported) -> bytes:
    """The content of an ONNX file.

    Its input `images` is uint8 (batch, C, S, S), any batch; its outputs are `probabilities`, float32 (batch, K), or
    `targets` of a regression, float64 in their own units, and `logits`, float32 (batch, K). Its metadata are those of
    `Exported.facts`.

    Raises:
        UsageError: a package is missing, or the weights are beyond the 2 GB that the format holds in one file.
    """
    _import("onnx", "onnxscript")
    network, images = exported.network(), exported.images()
    if sum(tensor.nbytes for tensor in network.state_dict().values()) > _LARGEST:
        raise UsageError("--out: an ONNX file holds 2 GB of weights, and the model has more. Write .safetensors.")
    network(images)  # what it keeps for later calls is made here, and not of the exporter's tensors without values
    with _quiet():
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=[_output(exported), "logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export(dynamo=True) gives a program")
    facts = exported.facts().as_text()
    program.model.producer_name, program.model.producer_version = "ptft", facts["ptft"]
    program.model.metadata_props.update(facts)
    content: bytes = program.model_proto.SerializeToString()
    return content


def onnx_outputs(content: bytes, images: Tensor) -> tuple[Tensor, Tensor]:
    """What ONNX Runtime makes of images with such a file: answers and logits, as `Network` gives them.

    Args:
        content: of the file.
        images: uint8 (B, C, S, S).
    """
    _import("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answers, logits = map(torch.from_numpy, session.run(None, {"images": images.numpy()}))
    return answers, logits


def use(exported: Exported) -> str:
    """What goes in and what comes out."""
    shown = exported.format
    sides = f"(batch, {shown.in_channels}, {shown.image_size}, {shown.image_size})"
    return f"images uint8 {sides} to {_output(exported)} (batch, {len(exported.classes)})"


def is_ours(start: bytes) -> bool:
    """Whether a file that begins so was written here: field 2 of the protocol buffer is the producer's name."""
    return b"\x12\x04ptft" in start[:16]


def _output(exported: Exported) -> str:
    return "probabilities" if exported.scale is None else "targets"


def _import(*packages: str) -> None:
    for package in packages:
        try:
            import_module(package)
        except ImportError:
            raise UsageError(f"writing .onnx needs {package}. pip install 'ptft[onnx]'") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own inner workings, and nothing that a user could act on: an error is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
