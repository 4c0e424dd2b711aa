"""`ptft check`: everything a run would meet, tried out, with no run written."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ptft.data.cache import CacheOptions
from ptft.data.decode import BadImageError, describe
from ptft.data.records import PARTS, Record
from ptft.data.task import Task
from ptft.errors import DataError
from ptft.report.console import Console, duration
from ptft.report.measure import told_steps
from ptft.run.assembly import Prepared
from ptft.run.preparation import prepare_finetune, prepare_pretrain
from ptft.run.surroundings import Surroundings
from ptft.runtime import memory_errors, peak_memory_bytes
from ptft.settings import FinetuneConfig, PretrainConfig, RunConfig, RunConfigT
from ptft.transfer.origin import Origin

_TIMED_STEPS = 4


def check_pretrain(config: PretrainConfig, console: Console, cache: CacheOptions) -> tuple[dict[str, Any], str]:
    """Tries out a pretraining.

    Args:
        config: as loaded.
        console: gets the tables.
        cache: for decoded images and measured speeds.

    Returns:
        What was found as plain Python, and in one sentence.

    Raises:
        PtftError: whatever the run would have met.
    """
    return _check(config, lambda: prepare_pretrain(tolerant(config), Surroundings.of(console, cache)), console)


def check_finetune(
    config: FinetuneConfig, source: Origin, console: Console, cache: CacheOptions
) -> tuple[dict[str, Any], str]:
    """Tries out a finetuning from `source`, see `read_source`; else as `check_pretrain`."""
    return _check(
        config,
        lambda: prepare_finetune(tolerant(config), source, Surroundings.of(console, cache), races=False),
        console,
    )


def tolerant(config: RunConfigT) -> RunConfigT:
    """The config with every bad image left out, so that all of them can be told."""
    return config.model_copy(update={"data": config.data.tolerant()})


def judge_bad(task: Task, config: RunConfig) -> None:
    """Raises DataError where more images could not be read than the config, as loaded, allows."""
    allowed = config.data.max_bad_images if config.data.on_bad_image == "skip" else 0
    if (count := len(task.bad_images)) > allowed:
        raise DataError(
            f"{count} image{'s' if count > 1 else ''} cannot be read, named above. Repair or remove them, or set "
            "data.on_bad_image: skip and data.max_bad_images."
        )


def _check(config: RunConfig, prepare: Callable[[], Prepared], console: Console) -> tuple[dict[str, Any], str]:
    tell_files(config.task.open(config.data).records, console)
    with memory_errors():
        prepared = prepare()
        tell_counts(prepared.task, console)
        judge_bad(prepared.task, config)
        seconds = time_steps(prepared)
    task, num_steps, peak = prepared.task, prepared.num_steps, peak_memory_bytes(prepared.device)
    all_seconds = seconds * (num_steps * _num_runs(config) + prepared.race_steps)
    num_parameters = sum(parameter.numel() for parameter in prepared.classifier.parameters())
    found = {
        "model": prepared.model.name,
        "num_parameters": num_parameters,
        "num_steps": num_steps,
        "race_steps": prepared.race_steps,
        "seconds_per_step": seconds,
        "estimated_seconds": all_seconds,
        "peak_bytes": peak,
        "task": prepared.config.task.name,
        "counts": {part: task.class_counts(part) for part in PARTS if part in task.parts},
        "classes": list(task.classes),
        "bad_images": list(task.bad_images),
    }
    races = f" after races of {prepared.race_steps:,}" if prepared.race_steps else ""
    sentence = (
        f"ok: {prepared.model.name}, {num_parameters:,} parameters; "
        f"{told_steps(num_steps)} of {1000 * seconds:.0f} ms{races}, about "
        f"{duration(all_seconds)} and the evaluations; peak memory {peak / 1e9:.1f} GB."
    )
    return found, sentence


def _num_runs(config: RunConfig) -> int:
    """How often the steps are taken: by each seed of a soup."""
    return (config.transfer.soup or 1) if isinstance(config, FinetuneConfig) else 1


def tell_files(records: Sequence[Record], console: Console) -> None:
    """Sizes and modes of the image files, from their headers."""
    files = [record.image for record in records if isinstance(record.image, Path)]
    if not files:
        return
    with ThreadPoolExecutor(8) as threads:
        kinds = Counter(threads.map(_kind, files))
    rows = [[kind, f"{count:,}"] for kind, count in kinds.most_common(12)]
    if len(kinds) > len(rows):
        rest = sum(kinds.values()) - sum(count for _, count in kinds.most_common(12))
        rows.append([f"{len(kinds) - len(rows)} other kinds", f"{rest:,}"])
    console.table(["size and mode", "files"], rows)


def _kind(path: Path) -> str:
    try:
        width, height, mode = describe(path)
    except BadImageError as error:
        return f"unreadable: {error}"
    return f"{width}x{height} {mode}"


def tell_counts(task: Task, console: Console) -> None:
    parts = [part for part in PARTS if part in task.parts]
    columns = [task.labelling.told(task.parts[part].labels, len(task.classes)) for part in parts]
    rows = [[name, *(column[row] for column in columns)] for row, name in enumerate(task.classes)]
    console.table([task.labelling.nouns[0], *parts], rows)


def time_steps(prepared: Prepared) -> float:
    """Seconds of one step; the mean over the run where the images grow."""
    return sum(len(steps) * _shortest(prepared, steps) for steps in prepared.phases if steps) / prepared.num_steps


def _shortest(prepared: Prepared, steps: range) -> float:
    """Seconds of the shortest of a few steps after the first; of the first where there is only one."""
    shortest, count = float("inf"), min(_TIMED_STEPS, len(steps))
    for place, step in enumerate(steps[-count:]):  # the last ones: recipe gradual trains all stages only there
        prepared.state.progress.step = step
        batch = prepared.batches.at(step)
        start = time.perf_counter()
        loss, _ = prepared.stepper.step(prepared.state, batch, lr=1e-6)
        loss.item()
        if place or count == 1:
            shortest = min(shortest, time.perf_counter() - start)
    return shortest + prepared.batches.seconds / prepared.batches.num_made
