"""`ptft check` of a comparison: its runs counted, and one of each batch size tried out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ptft.commands.check import judge_bad, tell_counts, tell_files, time_steps, tolerant
from ptft.compare.cells import NUM_LOOKS, READ, Cell, Setting
from ptft.compare.compare import num_workers
from ptft.compare.design import Labels
from ptft.compare.learning_rates import fewest_cells
from ptft.compare.plan import plan, read_target, tell_plan
from ptft.compare.workers import THREADS_SIDE_BY_SIDE
from ptft.data.cache import CacheOptions
from ptft.data.records import PARTS
from ptft.report.console import Console, duration, silent
from ptft.run.preparation import prepare_finetune
from ptft.run.surroundings import Surroundings
from ptft.runtime import memory_errors, num_cores, peak_memory_bytes, pick_device
from ptft.settings import CompareConfig, FinetuneConfig
from ptft.train.evaluate import logits_of
from ptft.transfer.origin import Origin


def check_compare(
    config: CompareConfig, sources: Sequence[Origin], console: Console, cache: CacheOptions
) -> tuple[dict[str, Any], str]:
    """Tries out a comparison of `sources`, one run at each batch size; else as `check_pretrain`."""
    tell_files(config.task.open(config.data).records, console)
    with memory_errors():
        found = plan(tolerant(config), sources, Path(), console, cache)  # nothing is written in a folder of its own
        tell_plan(found, console)
        task = read_target(found, console, lambda: None)
        tell_counts(task, console)
        judge_bad(task, config)
        cells = fewest_cells(found.setting)
        jobs = min(num_workers(config), len(cells))
        with _threads_of_a_worker(jobs):
            trials = {size: _try_cell(found.setting, labels) for labels, size in _batch_sizes(found.setting)}
    any_trial = next(iter(trials.values()))
    at_once = min(jobs, num_cores()) if pick_device(config.device).type == "cpu" else 1
    seconds = sum(_seconds_of(found.setting, cell, trials) for cell in cells) / at_once
    peak = max(trial.peak_bytes for trial in trials.values())
    result = {
        "task": config.task.name,
        "model": any_trial.model,
        "num_parameters": any_trial.num_parameters,
        "num_runs": len(cells),
        "jobs": jobs,
        "steps_at_labels": {str(labels): budget.steps for labels, budget in found.setting.budgets.items()},
        "seconds_per_step_at_batch_size": {str(size): trial.step_seconds for size, trial in trials.items()},
        "estimated_seconds": seconds,
        "peak_bytes": peak,
        "counts": {part: task.class_counts(part) for part in PARTS if part in task.parts},
        "classes": list(task.classes),
        "bad_images": list(task.bad_images),
    }
    side_by_side = f", {jobs} side by side" if jobs > 1 else ""
    sentence = (
        f"ok: {any_trial.model}, {any_trial.num_parameters:,} parameters; at least {len(cells):,} runs{side_by_side}, "
        f"about {duration(seconds)}, more where a grid of learning rates grows; peak memory of a run "
        f"{peak / 1e9:.1f} GB."
    )
    return result, sentence


@dataclass(frozen=True)
class _Trial:
    """What one run of a comparison took, tried out.

    Attributes:
        model: its name.
        num_parameters: of the whole classifier.
        begin_seconds: until the first step.
        step_seconds: a step.
        look_seconds: a look at the validation images.
        peak_bytes: of memory.
    """

    model: str
    num_parameters: int
    begin_seconds: float
    step_seconds: float
    look_seconds: float
    peak_bytes: int


def _batch_sizes(setting: Setting) -> list[tuple[Labels, int]]:
    """Each batch size that runs have, with the first number of labels at which they have it."""
    sizes: dict[int, Labels] = {}
    for labels, budget in setting.budgets.items():
        sizes.setdefault(budget.batch_size, labels)
    return [(labels, size) for size, labels in sizes.items()]


def _try_cell(setting: Setting, labels: Labels) -> _Trial:
    """Takes a few steps of a finetuning of the comparison, and one look."""
    config = setting.config_of(Cell("pretrained", labels, 0, setting.config.optim.usual_lr))
    assert isinstance(config, FinetuneConfig)
    started = time.perf_counter()
    with silent() as console:
        prepared = prepare_finetune(config, setting.sources[0], Surroundings.of(console, setting.cache), read=READ)
    begun = time.perf_counter()
    for _ in logits_of(
        prepared.classifier, prepared.task.parts["validation"], prepared.task.format, prepared.device, "fp32"
    ):
        pass
    looked = time.perf_counter()
    return _Trial(
        prepared.model.name,
        sum(parameter.numel() for parameter in prepared.classifier.parameters()),
        begun - started,
        time_steps(prepared),
        looked - begun,
        peak_memory_bytes(prepared.device),
    )


def _seconds_of(setting: Setting, cell: Cell, trials: Mapping[int, _Trial]) -> float:
    """Of a run: what comes before its steps, these, and the looks; a probe has one look and solves instead."""
    trial = trials[setting.budgets[cell.labels].batch_size]
    if cell.arm == "probe":
        return trial.begin_seconds + 2 * trial.look_seconds
    return trial.begin_seconds + setting.num_steps(cell) * trial.step_seconds + NUM_LOOKS * trial.look_seconds


@contextmanager
def _threads_of_a_worker(num_workers: int) -> Iterator[None]:
    """As many threads inside as one of so many workers computes with."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if num_workers == 1 else THREADS_SIDE_BY_SIDE)
    try:
        yield
    finally:
        torch.set_num_threads(before)
