"""What a checkpoint holds and where it came from."""

import zipfile
from pathlib import Path
from typing import Any

from ptft import checkpoint
from ptft.checkpoint import Checkpoint
from ptft.config.wording import rounded
from ptft.data.sources.listing import printable
from ptft.errors import CheckpointError
from ptft.models.outline import outline
from ptft.report.measure import Measure, told_averages, told_steps
from ptft.report.task_report import report_of
from ptft.train.metrics import wilson_interval
from ptft.transfer.origin import is_name
from ptft.transfer.source import model_of, shapes_of
from ptft.transfer.sources import read_source
from ptft.transfer.stages import stages_of


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
        "stages": _stages(found),
        "has_optimizer": bool(found.part("optimizer")),
        "tensors": {name: [*tensor.shape] for name, tensor in weights.items()},
        **found.metadata.model_dump(mode="json"),
    }


def verify_checkpoint(path: Path) -> dict[str, Any]:
    """Checks all that can be checked of a file of weights, and tells what that was.

    Raises:
        CheckpointError: a check failed.
    """
    found = checkpoint.read_weights(path)
    described: dict[str, Any] = {"path": str(path), "bytes": path.stat().st_size}
    checks = ["it asks for nothing but tensors and plain values, within its own size"]
    if zipfile.is_zipfile(path):  # files of torch before 1.6 have no checksums
        checks.append("checksum of every part")
    if not isinstance(found, Checkpoint):
        return described | {"digest": None, "num_tensors": len(found), "checks": checks}
    if broken := [name for name, tensor in found.tensors.items() if not bool(tensor.isfinite().all())]:
        raise CheckpointError(f"{path} is intact, but {broken[0]} holds NaN or infinite numbers.")
    model = model_of(found)
    if {name: tensor.shape for name, tensor in found.weights().items()} != shapes_of(found, model):
        raise CheckpointError(f"{path} is intact, but its weights are not those of its model {model.name}.")
    checks += [
        "digest over metadata and tensors",
        f"every weight of {model.name} with its shape",
        "no NaN, no infinity",
    ]
    return described | {"digest": found.digest, "num_tensors": len(found.tensors), "checks": checks}


def _views(described: dict[str, Any]) -> str:
    return f", {described['num_views']} views of each judged" if described["num_views"] > 1 else ""


def tell_verified(described: dict[str, Any]) -> str:
    """The same for a person."""
    identity = described["digest"] or "none: bare weights, of which a change by intent would not be noticed"
    return "\n".join(
        [
            f"{printable(described['path'])}: intact, {described['bytes']:,} bytes, {described['num_tensors']} tensors",
            f"  digest   {identity}",
            *(f"  checked  {check}" for check in described["checks"]),
        ]
    )


def tell_checkpoint(described: dict[str, Any]) -> str:
    """The same for a person: a few lines, the ancestry last."""
    environment = described["environment"]
    channels = "grey" if described["in_channels"] == 1 else f"{described['in_channels']} channels"
    lines = [
        f"{described['path']}: {described['command']} of {described['lineage'][-1]['model']}, "
        f"step {described['step']:,} of {described['num_steps']:,}",
        f"  digest      {described['digest']} (verified)",
        f"  parameters  {described['num_parameters']:,}{', averaged weights (EMA)' if described['has_ema'] else ''}"
        f"{told_averages(described)}",
        *([f"  stages      {', '.join(described['stages'])}"] if described["stages"] else []),
        *_outputs(described),
        f"  images      {described['image_size']}x{described['image_size']}, {channels}, "
        f"mean {_rounded(described['mean'])}, std {_rounded(described['std'])}{_views(described)}",
        f"  written by  ptft {environment.get('ptft', 'unknown')}, torch {environment.get('torch', 'unknown')}",
        *(f"  began with  {sentence}" for sentence in described["start"]),
        "  lineage, oldest first:",
    ]
    for number, run in enumerate(described["lineage"], start=1):
        data, score = run["data"], _score(run)
        lines.append(
            f"    {number}. {run['command']} {run['model']}: {told_steps(run['steps'])} on {data['origin']} "
            f"({data['num_examples']:,} images, {_measure(run).outputs(len(data['classes']))}, "
            f"{data['fingerprint'][:12]}){score}"
        )
        if run["digest"]:
            lines.append(f"       checkpoint {run['digest'][:12]}")
    # Names come from the file: they must not reach the terminal as control characters.
    return "\n".join(map(printable, lines))


def _stages(found: Checkpoint) -> list[str]:
    """Names that `transfer.stages` can take; none of a model that this ptft does not know."""
    try:
        model = model_of(found)
    except CheckpointError:
        return []
    backbone = outline(model, len(found.metadata.classes), found.metadata.in_channels).backbone
    return [stage.name for stage in stages_of(backbone)]


def _outputs(described: dict[str, Any]) -> list[str]:
    """The classes; and of another task than single-label also what it is, of a regression with the units' scale."""
    task, names = described["lineage"][-1]["task"], described["classes"]
    noun = _measure(described["lineage"][-1]).nouns[1]
    if task == "single-label":
        return [f"  {noun:<11} {len(names)}: {', '.join(names)}"]
    scale = zip(names, described["target_mean"], described["target_std"], strict=False)
    told = [f"{name} ({rounded(mean)} ± {rounded(std)} in training)" for name, mean, std in scale] or names
    return [f"  {'task':<11} {task}", f"  {noun:<11} {len(names)}: {', '.join(told)}"]


def _measure(run: dict[str, Any]) -> Measure:
    return report_of(run["task"]).measure


def _score(run: dict[str, Any]) -> str:
    if run["top1"] is None:
        return f", validation {run['score']}" if run["score"] else ""
    count = run["num_validation"]
    low, high = wilson_interval(round(run["top1"] * count), count)
    return f", validation {100 * run['top1']:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {count:,})"


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _rounded(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
