"""Is recipe auto as good as the best of full, probe and random weights, each at its best learning rate?

    python scripts/bench/transfer.py OUT --source cifar=best.pt --target clothes=fashion-mnist-10k photos=DIR

A target is a folder of train/CLASS and test/CLASS (val where there is no test), or `fashion-mnist-10k`. Every source
is finetuned on every target at every number of labels and every draw of them: by auto; by full, lp-ft, probe and
random weights at each learning rate of a grid; by scikit-learn's logistic regression on the frozen features; and with
--rivals by fastai's fine_tune and timm's defaults, installed in an environment of their own in OUT/rivals. All take
the steps that `ptft finetune` takes by itself. The learning rate of a column is the best by the mean over the draws of
the *test* accuracy, which auto never sees: no user could choose better. Runs that are there already are kept, so a
call that was interrupted, or one with more draws, does only what is missing. The table is Markdown.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from train import environment

from ptft.data.sources import DataConfig, EmbeddedFashionMnist, Folder
from ptft.errors import NotFiniteError
from ptft.report.console import silent
from ptft.run.assembly import Prepared
from ptft.run.preparation import prepare_finetune
from ptft.run.session import run_in_folder
from ptft.run.surroundings import Surroundings
from ptft.run.training import finetune
from ptft.run_folder import RunFolder
from ptft.settings import FinetuneConfig, TrainConfig
from ptft.storage import write_text_durably
from ptft.train.evaluate import features_of
from ptft.train.optim import Sgd
from ptft.transfer.recipes import RecipeName, TransferConfig

GRIDS: dict[RecipeName, tuple[float | None, ...]] = {
    "auto": (None,),
    "full": (0.003, 0.01, 0.03, 0.1),
    "lp-ft": (0.003, 0.01, 0.03),
    "probe": (None,),
    "random": (0.01, 0.03, 0.1, 0.3),
}
Accuracies = NDArray[np.float64]
"""In [0, 1], one a draw."""
RIVALS: tuple[RecipeName, ...] = ("full", "probe", "random")
RIVAL_TOOLS = ("fastai", "timm")


@dataclass(frozen=True)
class Cell:
    """A source on a target at a number of labels a class; None for all."""

    out: Path
    source: tuple[str, Path]
    target: tuple[str, DataConfig]
    labels: int | None
    draws: int
    steps: int | None
    image_size: int | None

    def config(self, recipe: RecipeName, lr: float | None, draw: int) -> FinetuneConfig:
        return FinetuneConfig(
            seed=draw,
            data=self.target[1].model_copy(update={"labels_per_class": self.labels, "leak_check": False}),
            optim=Sgd(lr=lr),
            train=TrainConfig(
                steps=self.steps, memory_format="channels_last", precision="fp32" if recipe == "probe" else PRECISION[0]
            ),
            transfer=TransferConfig(recipe=recipe),
        )

    def folder(self, recipe: str, lr: float | None, draw: int) -> Path:
        target = self.target[0] + (f"-{self.image_size}px" if self.image_size else "")
        words = (self.source[0], target, str(self.labels or "all"), recipe, f"{lr:g}" if lr else "", str(draw))
        return self.out / "cells" / "-".join(filter(None, words))

    def run(self, recipe: RecipeName, lr: float | None, draw: int) -> float:
        """Test accuracy of a run, made or kept; 0 where training diverged."""
        with silent() as console:
            try:
                summary = run_in_folder(
                    RunFolder(self.folder(recipe, lr, draw)),
                    self.config(recipe, lr, draw),
                    lambda config, session: finetune(config, self.source[1], session, draw=False),
                    source=self.source[1],
                    resume=True,
                    console=console,
                    command="scripts/bench/transfer.py",
                )
            except NotFiniteError:
                return 0.0
        top1: float = summary["test"]["top1"]
        return top1

    def logistic(self, draw: int) -> float:
        """Test accuracy of scikit-learn's logistic regression on standardised features, its penalty cross-validated."""
        kept = self.folder("logistic", None, draw)
        if kept.exists():
            return float(kept.read_text())
        prepared = self._prepared("probe", draw)
        task = prepared.task
        train, test = (
            features_of(prepared.classifier, task.parts[part], task.format, prepared.device).numpy()
            for part in ("train", "test")
        )
        folds = min(5, min(task.class_counts("train")))
        model = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(
                Cs=np.logspace(-4, 2, 7), cv=folds, max_iter=500, l1_ratios=(0.0,), scoring="neg_log_loss"
            ),
        )
        model.fit(train, task.train.labels.numpy())
        top1 = float(np.mean(model.predict(test) == task.parts["test"].labels.numpy()))
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text_durably(kept, str(top1))
        return top1

    def rival(self, kind: str, python: Path, draw: int) -> float:
        """Test accuracy of fastai's or timm's finetuning of the same weights with the same steps."""
        kept = self.folder(kind, None, draw)
        if kept.exists():
            return float(kept.read_text())
        prepared = self._prepared("full", draw)
        task = prepared.task
        given: dict[str, Any] = {
            "classifier": prepared.classifier.to(memory_format=torch.contiguous_format),
            "mean": task.format.mean,
            "std": task.format.std,
            "batch_size": prepared.batch_size,
            "steps": prepared.num_steps,
            "seed": draw,
        }
        for part in ("train", "test"):
            examples = task.parts[part]
            given |= {f"{part}_images": examples.images.take(torch.arange(len(examples)))}
            given |= {f"{part}_labels": examples.labels}
        path = self.out / "rival.pt"
        torch.save(given, path)
        command = [python, Path(__file__).with_name("rivals.py"), kind, path]
        paths = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=paths).stdout
        write_text_durably(kept, told.split()[-1])
        return float(told.split()[-1])

    def _prepared(self, recipe: RecipeName, draw: int) -> Prepared:
        with silent() as console:
            return prepare_finetune(self.config(recipe, None, draw), self.source[1], Surroundings.of(console))

    def best(self, recipe: RecipeName) -> tuple[Accuracies, str]:
        """Test accuracy of every draw at the learning rate of the best mean, and that learning rate."""
        found = {lr: np.array([self.run(recipe, lr, draw) for draw in range(self.draws)]) for lr in GRIDS[recipe]}
        lr = max(found, key=lambda lr: found[lr].mean())
        return found[lr], "" if lr is None else f"{lr:g}"

    def choices(self) -> str:
        """What auto chose in each draw."""
        return ", ".join(_chosen(self.folder("auto", None, draw)) for draw in range(self.draws))


PRECISION = ["fp32"]


def _chosen(folder: Path) -> str:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    recipe, share = str(config["transfer"]["recipe"]), config["transfer"]["interpolate"]
    lr = "" if recipe == "probe" else f" {config['optim']['lr']:g}"
    return f"{recipe}{lr}" + (f" × {share:g}" if share else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", nargs="+", required=True, metavar="NAME=CKPT")
    parser.add_argument("--target", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--labels", nargs="+", default=["5", "20", "100", "all"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of every run; default: as many as suit the number of images")
    parser.add_argument("--train", type=int, help="most training images of each class of a folder")
    parser.add_argument("--test", type=int, help="most test images of each class of a folder")
    parser.add_argument("--image-size", type=int, help="of every target in pixels; default: the source's")
    parser.add_argument("--recipes", nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--rivals", action="store_true", help="fastai and timm as well, installed in OUT/rivals")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()
    PRECISION[0] = arguments.precision
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    sources = [(name, Path(path)) for name, _, path in (text.partition("=") for text in arguments.source)]
    targets = [
        (name, _target(arguments.out, name, path, arguments.train, arguments.test, arguments.image_size))
        for name, _, path in (text.partition("=") for text in arguments.target)
    ]
    python = environment(arguments.out / "rivals", ["fastai", "timm"]) if arguments.rivals else None
    rows: list[list[Any]] = []
    for source in sources:
        for target in targets:
            for labels in arguments.labels:
                number = None if labels == "all" else int(labels)
                cell = Cell(
                    arguments.out, source, target, number, arguments.draws, arguments.steps, arguments.image_size
                )
                rows.append(_row(cell, arguments.recipes, python))
                print(f"{rows[-1]}", file=sys.stderr, flush=True)
    print(_table(rows, arguments.recipes, RIVAL_TOOLS if python else ()))


def _target(
    out: Path, name: str, place: str, train: int | None, test: int | None, image_size: int | None
) -> DataConfig:
    """A target's data; of a folder a copy with so many images of each class."""
    if place == "fashion-mnist-10k":
        return EmbeddedFashionMnist(name="fashion-mnist-10k", image_size=image_size)
    root, copy = Path(place).resolve(), out / "data" / f"{name}-{train}-{test}"
    held = "test" if (root / "test").is_dir() else "val"
    for part, own, most in (("train", "train", train), ("test", held, test)):
        for folder in sorted((root / own).iterdir()):
            (copy / part / folder.name).mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir())[:most]:
                if not (copy / part / folder.name / path.name).exists():
                    shutil.copyfile(path, copy / part / folder.name / path.name)
    return Folder(name="folder", root=str(copy), image_size=image_size)


def _row(cell: Cell, recipes: Sequence[RecipeName], python: Path | None) -> list[Any]:
    found = {recipe: cell.best(recipe) for recipe in recipes}
    logistic = float(np.mean([cell.logistic(draw) for draw in range(cell.draws)]))
    rivals = [np.mean([cell.rival(kind, python, draw) for draw in range(cell.draws)]) for kind in RIVAL_TOOLS if python]
    columns = [f"{100 * top1.mean():.1f}" + (f" ({lr})" if lr else "") for top1, lr in found.values()]
    return [
        f"{cell.source[0]} → {cell.target[0]}",
        cell.labels or "all",
        *columns,
        f"{100 * logistic:.1f}",
        *(f"{100 * top1:.1f}" for top1 in rivals),
        _difference(found),
        cell.choices() if "auto" in found else "",
    ]


def _difference(found: dict[RecipeName, tuple[Accuracies, str]]) -> str:
    """Of auto and the best of the others in points, with the standard error over the draws, which both had."""
    others = [found[recipe][0] for recipe in RIVALS if recipe in found]
    if "auto" not in found or not others:
        return ""
    points = 100 * (found["auto"][0] - max(others, key=lambda top1: float(top1.mean())))
    error = points.std(ddof=1) / len(points) ** 0.5 if len(points) > 1 else float("nan")
    return f"{points.mean():+.1f} ± {error:.1f}"


def _table(rows: Sequence[Sequence[Any]], recipes: Sequence[str], tools: Sequence[str]) -> str:
    names = [f"{recipe} (lr)" if len(GRIDS[recipe]) > 1 else recipe for recipe in recipes]  # type: ignore[index]
    head = ["source → target", "labels", *names, "logistic", *tools, "auto − best of full, probe, random", "auto chose"]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
