"""`ptft export`: a checkpoint as one file for other programs, compared with the checkpoint before it is written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ptft import checkpoint
from ptft.errors import CheckpointError, UsageError
from ptft.export import onnx_file, safetensors_file
from ptft.export.network import TOLERANCE, Exported
from ptft.report.console import Console
from ptft.storage import check_replaceable, told_size, write_durably
from ptft.transfer.facts import Facts


@dataclass(frozen=True)
class _Format:
    """A kind of file.

    Attributes:
        title: for messages.
        is_ours: whether a file that begins with some bytes was written here.
        write: its content for a checkpoint.
        read: a program's answers and logits for images, with that content.
        reader: which program that is.
        use: what goes in and comes out, or which network it fits, in words.
        facts: that are in the file beside the weights.
    """

    title: str
    is_ours: Callable[[bytes], bool]
    write: Callable[[Exported], bytes]
    read: Callable[[bytes, Exported, Tensor], tuple[Tensor, Tensor]]
    reader: Callable[[Exported], str]
    use: Callable[[Exported], str]
    facts: Callable[[Exported], Facts]


_FORMATS = {
    ".onnx": _Format(
        "ONNX",
        onnx_file.is_ours,
        onnx_file.onnx_bytes,
        lambda content, _, images: onnx_file.onnx_outputs(content, images),
        lambda _: "ONNX Runtime",
        onnx_file.use,
        Exported.facts,
    ),
    ".safetensors": _Format(
        "safetensors",
        safetensors_file.is_ours,
        safetensors_file.safetensors_bytes,
        safetensors_file.safetensors_outputs,
        safetensors_file.reader,
        safetensors_file.use,
        safetensors_file.facts,
    ),
}


def check_export(out: Path) -> None:
    """Checks that a checkpoint may be written there.

    Raises:
        UsageError: the name ends like no format, or something else is there already.
        StorageError: what is there cannot be read.
    """
    if (format_ := _FORMATS.get(out.suffix.lower())) is None:
        raise UsageError(f"--out {out}: the name must end in {' or '.join(_FORMATS)}, which is the format.")
    check_replaceable(out, "--out", f"{format_.title} by ptft", format_.is_ours, f"model{out.suffix}")


def export(path: Path, out: Path, console: Console) -> dict[str, Any]:
    """Writes a checkpoint in the format that the end of the name says.

    Args:
        path: of the checkpoint.
        out: the file, see `check_export`.
        console: told what was written, and how near its answers are.

    Returns:
        What was written, as plain Python.

    Raises:
        CheckpointError: the checkpoint cannot be read, or the file would not give its answers.
        UsageError: a package is missing, or the format cannot hold the model.
        StorageError: the file cannot be written.
    """
    format_ = _FORMATS[out.suffix.lower()]
    exported = Exported.of(checkpoint.read(path))
    content = format_.write(exported)
    images, reader = exported.images(), format_.reader(exported)
    difference = exported.difference(images, *format_.read(content, exported, images))
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"{out} would not give the logits of {path} in {reader}: {difference:.1e} of the largest apart, "
            f"{TOLERANCE:g} allowed. Nothing was written."
        )
    write_durably(out, lambda file: file.write(content))
    console.say(f"{format_.title}: {told_size(len(content))}, {format_.use(exported)}")
    console.say(
        f"proof: on {len(images)} fixed images {reader} gives the logits of {path}, largest difference "
        f"{difference:.1e} of the largest."
    )
    return {
        "file": str(out),
        "format": format_.title,
        "checkpoint": str(path),
        "bytes": len(content),
        "largest_difference": difference,
        **format_.facts(exported).model_dump(mode="json", exclude_none=True),
    }
