"""What a checkpoint holds and where it came from."""

from pathlib import Path
from typing import Any

from ptft import checkpoint
from ptft.train.metrics import wilson_interval
from ptft.transfer.origin import is_name
from ptft.transfer.sources import read_source


def describe_source(origin: Path) -> tuple[dict[str, Any], str]:
    """What anything that `--from` takes holds: as plain Python, and for a person.

    Raises:
        PtftError: it cannot be read, or is of no model that is known.
    """
    is_torch_file = not is_name(origin) and origin.suffix.lower() != ".safetensors"
    if is_torch_file and isinstance(checkpoint.read_weights(origin), checkpoint.Checkpoint):
        described = describe_checkpoint(origin)
        return described, tell_checkpoint(described)
    source = read_source(origin)
    described = {
        "path": str(origin),
        "model": source.model.model_dump(mode="json") if source.model else None,
        "num_parameters": sum(tensor.numel() for name, tensor in source.tensors.items() if not _is_statistic(name)),
        "in_channels": source.in_channels,
        "classes": list(source.classes),
        "found": list(source.said),
        "tensors": {name: [*tensor.shape] for name, tensor in source.tensors.items()},
    }
    first = f"{origin}: foreign weights, {described['num_parameters']:,} parameters"
    return described, "\n".join([first, *(f"  {sentence}" for sentence in source.said)])


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Everything in a checkpoint but the tensors' values, as plain Python.

    Raises:
        CheckpointError: it cannot be read, or is damaged.
    """
    found = checkpoint.read(path)
    weights = found.weights()
    return {
        "path": str(path),
        "digest": found.digest,
        "bytes": path.stat().st_size,
        "num_parameters": sum(tensor.numel() for name, tensor in weights.items() if not _is_statistic(name)),
        "has_ema": bool(found.part("ema")),
        "has_optimizer": bool(found.part("optimizer")),
        "tensors": {name: [*tensor.shape] for name, tensor in weights.items()},
        **found.metadata.model_dump(mode="json"),
    }


def tell_checkpoint(described: dict[str, Any]) -> str:
    """The same for a person: a few lines, the ancestry last."""
    channels = "grey" if described["in_channels"] == 1 else f"{described['in_channels']} channels"
    lines = [
        f"{described['path']}: {described['command']} of {described['config']['model']['name']}, "
        f"step {described['step']:,} of {described['num_steps']:,}",
        f"  digest      {described['digest']} (verified)",
        f"  parameters  {described['num_parameters']:,}{', averaged weights (EMA)' if described['has_ema'] else ''}",
        f"  classes     {len(described['classes'])}: {', '.join(described['classes'])}",
        f"  images      {described['image_size']}x{described['image_size']}, {channels}, "
        f"mean {_rounded(described['mean'])}, std {_rounded(described['std'])}",
        f"  written by  ptft {described['environment']['ptft']}, torch {described['environment']['torch']}",
        *(f"  began with   {sentence}" for sentence in described["start"]),
        "  lineage, oldest first:",
    ]
    for number, run in enumerate(described["lineage"], start=1):
        data, score = run["data"], _score(run)
        lines.append(
            f"    {number}. {run['command']} {run['model']}: {run['steps']:,} steps on {data['origin']} "
            f"({data['num_examples']:,} images, {len(data['classes'])} classes, {data['fingerprint'][:12]}){score}"
        )
        if run["digest"]:
            lines.append(f"       checkpoint {run['digest'][:12]}")
    return "\n".join(lines)


def _score(run: dict[str, Any]) -> str:
    if run["top1"] is None:
        return ""
    count = run["num_validation"]
    low, high = wilson_interval(round(run["top1"] * count), count)
    return f", validation {100 * run['top1']:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {count:,})"


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _rounded(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
