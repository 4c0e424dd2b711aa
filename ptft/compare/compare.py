"""`ptft compare`: did pretraining help? The same task from random and from pretrained weights, on equal terms."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ptft.compare.cells import Cell, Setting, has_diverged, is_finished, predict_cells, predictions_path, train_cell
from ptft.compare.comparison import per_class
from ptft.compare.comparison_page import page_of_comparison
from ptft.compare.design import ARM_NAMES, CompareSection
from ptft.compare.judge import judge
from ptft.compare.learning_rates import Choice, Place, choose_learning_rates, chosen_cells, tuning_cells
from ptft.compare.plan import Plan, plan, read_target, search_leaks, tell_plan
from ptft.compare.table import print_comparison
from ptft.compare.workers import Workers
from ptft.config.load import dump, load
from ptft.data.cache import USUAL_CACHE, CacheOptions
from ptft.data.task import listing_of
from ptft.errors import DataError, NotFiniteError, UsageError
from ptft.report.console import Console
from ptft.report.page import write_page
from ptft.run.drift import compare_configs
from ptft.run.session import end_recorded
from ptft.run_folder import RunFolder
from ptft.runtime import num_cores, pick_device
from ptft.settings import CompareConfig
from ptft.stop import stop_on_signals
from ptft.storage import storage_errors, write_text_durably
from ptft.transfer.origin import Origin

_RESULT = "compare.json"


def compare(
    config: CompareConfig,
    sources: Sequence[Origin],
    out: Path,
    *,
    resume: bool,
    console: Console,
    command: str,
    cache: CacheOptions = USUAL_CACHE,
) -> dict[str, Any]:
    """Compares pretrained with random weights, or goes on with it; cells that are finished are not run again.

    A comparison that is done and is asked for no more is not looked at again: neither its data nor its files.

    Args:
        config: as loaded.
        sources: the weights in question, see `read_source`; several are one pretraining, repeated.
        out: folder of the comparison; each run has its own in `cells`, the result is `compare.json`.
        resume: whether to go on with a comparison that is there; its section `compare` may differ then.
        console: gets progress and tables.
        command: as typed.
        cache: for decoded images and measured speeds.

    Returns:
        What is in `compare.json`, see `Comparison.as_dict`.

    Raises:
        PtftError: any of `ptft.errors`.
    """
    folder = RunFolder(out)
    with stop_on_signals() as stop, folder.hold(resume=resume):
        folder.identify("compare", *sources)
        config = _as_begun(folder, config)
        if finished := _finished(folder, config.compare):
            return finished
        stop.folder = out
        console.log_to(folder.log)
        with end_recorded(folder, console):
            folder.write_begin()
            found = plan(config, sources, out, console, cache)
            folder.write_status("running", 0, 0)
            tell_plan(found, console)
            task = read_target(found, console, stop.check)
            leak = search_leaks(found, task, console, stop.check)
            # Only now: a target that cannot be read may be asked for again in another way, `data.on_bad_image` say.
            write_text_durably(folder.config, dump(found.setting.config, header=command))
            comparison = judge(found, _run(found, console, stop.check), leak, command)
            print_comparison(console, comparison)
            result = comparison.as_dict()
            write_text_durably(out / _RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
            write_page(folder.report, page_of_comparison(comparison))
            console.say(f"page: {folder.report}")
            folder.write_status("done", 0, 0, exit_code=0, reason=comparison.verdict)
            return result


def _as_begun(folder: RunFolder, config: CompareConfig) -> CompareConfig:
    """The config of the comparison in the folder, with the section `compare` as it is given now.

    Numbers of labels that are left open now are those it has.

    Raises:
        UsageError: anything else differs: runs that are finished would not be comparable with the others.
    """
    if not folder.is_started() or _has_no_cell(folder):
        return config
    stored = load(folder.config, CompareConfig, stored=True)
    drift, _ = compare_configs(stored, config.model_copy(update={"compare": stored.compare}))
    if changes := (*drift.refused, *drift.accepted):
        listed = "\n".join(f"  {line}" for line in changes)
        raise UsageError(
            f"{folder.path} holds a comparison with another config:\n{listed}\n"
            "Only the section compare may change. Resume it with its own config, or choose another folder with --out."
        )
    labels = config.compare.labels_per_class or stored.compare.labels_per_class
    section = config.compare.model_copy(update={"labels_per_class": labels})
    return stored.model_copy(update={"compare": section})


def _finished(folder: RunFolder, section: CompareSection) -> dict[str, Any] | None:
    """The result of the comparison in the folder, where it is done, page and all, and of this section; else None."""
    try:
        result: dict[str, Any] = json.loads((folder.path / _RESULT).read_text(encoding="utf-8"))
        is_same = result["config"]["compare"] == section.model_dump(mode="json")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_whole = folder.report.exists() and folder.read_status().get("state") == "done"
    return result if is_same and is_whole else None


def _has_no_cell(folder: RunFolder) -> bool:
    """Whether not even the first cell could begin, because of its images."""
    cells = folder.path / "cells"
    return cells.is_dir() and not any(cells.glob("*/config.yaml"))


def _run(found: Plan, console: Console, check_stop: Callable[[], None]) -> dict[Place, Choice]:
    """Tries the learning rates, runs every seed at the chosen ones, and lets those runs predict the test images."""
    setting = found.setting
    with Workers(num_workers(setting.config), check_stop) as workers:
        choices = choose_learning_rates(setting, partial(_train_all, setting, workers, console))
        _check_some_finite(setting, choices)
        chosen = [cell for place, choice in choices.items() for cell in chosen_cells(setting, place, choice)]
        for cell in filter(partial(_is_lost, setting), chosen):
            with storage_errors(setting.folder(cell).path, "remove"):
                shutil.rmtree(setting.folder(cell).path)
        _train_all(setting, workers, console, chosen)
        _check_finite(setting, chosen)
        _predict_all(found, workers, chosen)
    _tidy(setting, chosen)
    return choices


def num_workers(config: CompareConfig) -> int:
    """How many runs go side by side, as far as memory reaches."""
    if config.compare.jobs is not None:
        return config.compare.jobs
    return 1 if pick_device(config.device).type == "cuda" else num_cores()


def _is_lost(setting: Setting, cell: Cell) -> bool:
    """Whether a cell was not chosen before, and its weights removed; a wider or narrower grid may choose it now."""
    has_result = predictions_path(setting, cell).exists() or setting.folder(cell).best.exists()
    return is_finished(setting, cell) and not has_diverged(setting, cell) and not has_result


def _train_all(setting: Setting, workers: Workers, console: Console, cells: Sequence[Cell]) -> None:
    """Runs those cells that are not finished, the long ones first."""
    waiting = [cell for cell in cells if not is_finished(setting, cell)]
    waiting.sort(key=setting.num_steps, reverse=True)
    if not waiting:
        return
    console.say(f"{len(waiting)} of {len(cells)} runs to do:")
    total = sum(map(setting.num_steps, waiting))
    with console.bar(total, 0) as bar:
        steps_done = 0

        def done(index: int) -> None:
            nonlocal steps_done
            steps_done += setting.num_steps(waiting[index])
            bar.update(steps_done, waiting[index].name)

        workers.run([partial(train_cell, setting, cell) for cell in waiting], done)


def _check_some_finite(setting: Setting, choices: Mapping[Place, Choice]) -> None:
    lost = [
        f"{ARM_NAMES[place[0]]} at {per_class(place[1])} ({', '.join(f'{lr:g}' for lr in choice.tried)})"
        for place, choice in choices.items()
        if all(has_diverged(setting, cell) for cell in tuning_cells(setting, place, tuple(choice.tried)))
    ]
    if lost:
        raise NotFiniteError(
            f"every learning rate tried diverged: {'; '.join(lost)}. Give lower ones in compare.lrs, or set "
            "train.clip_norm in a new folder."
        )


def _check_finite(setting: Setting, cells: Sequence[Cell]) -> None:
    if diverged := [cell.name for cell in cells if has_diverged(setting, cell)]:
        raise NotFiniteError(
            f"{', '.join(diverged)}: training diverged, at a learning rate that was good for other seeds. "
            "Give lower ones in compare.lrs, or set train.clip_norm in a new folder."
        )


def _predict_all(found: Plan, workers: Workers, cells: Sequence[Cell]) -> None:
    """Predictions that are not there yet, in as many portions as there are workers: each reads the images once.

    Raises:
        DataError: predictions are there, and the test images are others now.
    """
    setting = found.setting
    listing = listing_of({"test": found.test})
    for cell in cells:
        path = predictions_path(setting, cell)
        if path.exists() and json.loads(path.read_text())["listing"] != listing:
            raise DataError(
                f"{found.origin} has other test images than when {cell.name} was run. Restore it, or start a new "
                "comparison with --out."
            )
    waiting = [cell for cell in cells if not predictions_path(setting, cell).exists()]
    num_portions = min(num_workers(setting.config), len(waiting))
    portions = [waiting[start::num_portions] for start in range(num_portions)]
    workers.run([partial(predict_cells, setting, portion) for portion in portions], lambda _: None)


def _tidy(setting: Setting, chosen: Sequence[Cell]) -> None:
    """Removes the weights of learning rates that were not chosen: a comparison has a hundred runs."""
    kept = {cell.name for cell in chosen}
    for folder in (setting.out / "cells").iterdir():
        if folder.name not in kept:
            with storage_errors(folder, "tidy"):
                for path in (folder / "checkpoints").glob("*.pt"):
                    path.unlink()
