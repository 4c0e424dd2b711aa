"""Does `ptft score` rank checkpoints as finetuning would? Scores against real test accuracies after finetuning.

    python scripts/bench/score.py                       embedded images alone, 36 cells, some 10 minutes on one core
    python scripts/bench/score.py --cifar DIR           and CIFAR-10 as a folder of train/CLASS and test/CLASS, 56 cells

Sources are pretrained for seconds to minutes: on other classes, for a moment, on shuffled labels, on few images, not
at all. Every source is finetuned on every target by recipe full, several seeds each; these test accuracies are the
truth. For each score: weighted Kendall's tau with the truth (Vigna 2015, scipy's), and the regret:
truth of the best source less truth of the source that the score puts first. Times are of the CPU, of a scoring and of
a finetuning done one after the other. Runs that are there already are kept.

The score that ranks (error of the probe, on the features of all stages) and ptft.proof.ranking.SMALLEST_DIFFERENCE were
chosen on the first four targets; the last three are others.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import weightedtau

from ptft.data.records import Part, Record
from ptft.data.sources import DataConfig, EmbeddedFashionMnist, Folder
from ptft.data.splits import split
from ptft.models import SmallCnn
from ptft.proof.score import score
from ptft.proof.scores.worth import Worth
from ptft.report.console import Console, silent
from ptft.run.session import run_in_folder
from ptft.run.training import finetune, pretrain
from ptft.run_folder import RunFolder
from ptft.runtime import derive_seed
from ptft.settings import FinetuneConfig, PretrainConfig, TrainConfig
from ptft.train.optim import Sgd
from ptft.transfer.recipes import TransferConfig

SEEDS = (0, 1, 2, 3)
TEST_IMAGES = 400
CLOTHES = ("T-shirt/top", "Trouser", "Dress", "Coat", "Sandal", "Sneaker", "Bag")
ANIMALS = ("bird", "cat", "deer", "frog")
SAY = Console(sys.stdout)
MEASURES: dict[str, Callable[[Worth], float]] = {
    "error": lambda worth: -worth.probe.error,
    "probe": lambda worth: worth.probe.top1,
    "k-NN": lambda worth: worth.neighbours,
    "LogME": lambda worth: worth.logme,
    "H-score": lambda worth: worth.h_score,
}


@dataclass(frozen=True)
class Made:
    """Images of a source or a target: so many of each class for training, from place `start` on in a fixed order.

    Targets start where the sources have ended: an image that a source was trained on tells too much.
    """

    data: str
    classes: tuple[str, ...]
    num_train: int
    start: int = 0
    is_shuffled: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        words = (self.data, str(self.start), str(self.num_train), *self.classes, "shuffled" * self.is_shuffled)
        return _plain("-".join(words))


@dataclass(frozen=True)
class Pretraining:
    """A source: images and optimizer steps; 0 steps leave the weights random."""

    images: Made
    steps: int


SOURCES = {
    "clothes": Pretraining(Made("fashion", CLOTHES, 450), 500),
    "clothes, early": Pretraining(Made("fashion", CLOTHES, 450), 40),
    "clothes, shuffled": Pretraining(Made("fashion", CLOTHES, 450, is_shuffled=True), 500),
    "clothes, 20 each": Pretraining(Made("fashion", CLOTHES, 20), 400),
    "shoes and bags": Pretraining(Made("fashion", ("Sandal", "Sneaker", "Bag"), 450), 400),
    "random": Pretraining(Made("fashion", CLOTHES, 20), 0),
    "animals": Pretraining(Made("cifar", ANIMALS, 2000), 1200),
    "animals, early": Pretraining(Made("cifar", ANIMALS, 2000), 60),
}
TARGETS = {
    "pullover, shirt, boot": Made("fashion", ("Pullover", "Shirt", "Ankle boot"), 60, start=450),
    "tops": Made("fashion", ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"), 60, start=450),
    "all clothes": Made("fashion", (*CLOTHES, "Pullover", "Shirt", "Ankle boot"), 20, start=450),
    "boots and coats": Made("fashion", ("Ankle boot", "Sneaker", "Coat", "Shirt"), 30, start=450),
    "pullover, shirt, boot +": Made("fashion", ("Pullover", "Shirt", "Ankle boot"), 150, start=450),
    "tops +": Made("fashion", ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"), 150, start=450),
    "vehicles and a dog": Made("cifar", ("airplane", "automobile", "truck", "dog"), 100, start=2000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-score"))
    parser.add_argument("--cifar", type=Path, help="folder of train/CLASS/* and test/CLASS/*")
    arguments = parser.parse_args()
    data: dict[str, DataConfig] = {"fashion": EmbeddedFashionMnist(name="fashion-mnist-10k", test=0.4, validation=0.0)}
    if arguments.cifar:
        data["cifar"] = Folder(name="folder", root=str(arguments.cifar), validation=0.0)
    sources = {
        name: _pretrained(arguments.out, name, made, data) for name, made in SOURCES.items() if made.images.data in data
    }
    results = [
        _measure(arguments.out, name, made, data, sources) for name, made in TARGETS.items() if made.data in data
    ]
    _tell(results)


def _pretrained(out: Path, name: str, made: Pretraining, data: dict[str, DataConfig]) -> Path:
    images = _write(out / "data", made.images, data)
    config = PretrainConfig(
        data=Folder(name="folder", root=str(images), validation=0.0),
        model=SmallCnn(width=8),
        optim=Sgd(lr=0.1 if made.steps else 1e-12),
        train=TrainConfig(steps=max(1, made.steps), batch_size=64, precision="fp32", memory_format="channels_last"),
    )
    found = _run(out / "sources" / _plain(name), config, None)
    SAY.say(f"source {name}: {100 * found['test']['top1']:.1f} % on its own test images")
    return Path(found["checkpoint"])


@dataclass(frozen=True)
class Cells:
    """One target with every source.

    Attributes:
        name: of the target.
        truth: finetuned test accuracy of each source, mean over seeds.
        scores: of each source, by measure.
        finetune_seconds: of the CPU, for one finetuning.
        score_seconds: of the CPU, for scoring, divided by the number of sources.
    """

    name: str
    truth: dict[str, float]
    scores: dict[str, dict[str, float]]
    finetune_seconds: float
    score_seconds: float

    def tau(self, measure: str) -> float:
        """Weighted Kendall's tau of a score with the truth."""
        names = list(self.truth)
        truth, scores = ([table[name] for name in names] for table in (self.truth, self.scores[measure]))
        return float(weightedtau(truth, scores).statistic)

    def regret(self, measure: str) -> float:
        """What following the score costs, in points."""
        chosen = max(self.truth, key=lambda name: self.scores[measure][name])
        return 100 * (max(self.truth.values()) - self.truth[chosen])


def _measure(out: Path, name: str, made: Made, data: dict[str, DataConfig], sources: dict[str, Path]) -> Cells:
    target = Folder(name="folder", root=str(_write(out / "data", made, data)), validation=0.0)
    truth = {}
    for source, path in sources.items():
        runs = []
        for seed in SEEDS:
            config = FinetuneConfig(
                seed=seed,
                data=target,
                train=TrainConfig(precision="fp32", memory_format="channels_last"),
                transfer=TransferConfig(recipe="full"),
            )
            runs.append(_run(out / "finetuned" / f"{_plain(name)}-{_plain(source)}-{seed}", config, path))
        truth[source] = float(np.mean([run["test"]["top1"] for run in runs]))
    started = time.process_time()
    with silent() as console:
        ranking = score(list(sources.values()), target, seed=0, console=console).ranking
    score_seconds = (time.process_time() - started) / len(sources)
    worths = {place.measured.path: place.measured.worth for place in ranking.places}
    scores = {key: {source: of(worths[path]) for source, path in sources.items()} for key, of in MEASURES.items()}
    cells = Cells(name, truth, scores, _finetune_seconds(out / "timed", config, path), score_seconds)
    SAY.table(
        ["source", "finetuned", *MEASURES],
        [[one, f"{100 * truth[one]:.1f} %", *(f"{scores[key][one]:.3f}" for key in MEASURES)] for one in sources],
        title=f"\ntarget {name}, {made.num_train} of each class; verdict: {ranking.verdict}",
    )
    return cells


def _finetune_seconds(folder: Path, config: FinetuneConfig, source: Path) -> float:
    """CPU time of a finetuning, from reading to page."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.process_time()
    _run(folder, config, source)
    return time.process_time() - started


def _write(out: Path, made: Made, data: dict[str, DataConfig]) -> Path:
    """Writes the images as a folder of parts and classes, unless it is there."""
    folder = out / made.name
    if folder.exists():
        return folder
    begun = out / "begun"
    shutil.rmtree(begun, ignore_errors=True)
    config = data[made.data].model_copy(update={"classes": made.classes})
    _, parts = split(config.open(), config, seed=0)
    rng = np.random.default_rng(0)
    chosen_of: dict[Part, slice] = {"train": slice(made.start, made.start + made.num_train), "test": slice(TEST_IMAGES)}
    for part, chosen in chosen_of.items():
        for name in made.classes:
            for record in _ranked(parts[part], name)[chosen]:
                label = str(rng.choice(made.classes)) if made.is_shuffled else name
                place = begun / part / _plain(label)
                place.mkdir(parents=True, exist_ok=True)
                _image(record).save(place / f"{_plain(record.name)}.png")
    return begun.rename(folder)


def _ranked(records: Sequence[Record], label: str) -> list[Record]:
    """Images of a class in an order of their own, whatever else is wanted."""
    members = [record for record in records if record.label == label]
    return sorted(members, key=lambda record: derive_seed("bench", record.name))


def _image(record: Record) -> Image.Image:
    if isinstance(record.image, np.ndarray):
        return Image.fromarray(record.image)
    return Image.open(record.image) if isinstance(record.image, Path) else record.image()


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _run(folder: Path, config: PretrainConfig | FinetuneConfig, source: Path | None) -> dict[str, Any]:
    def work(resolved: Any, session: Any) -> Any:
        return pretrain(resolved, session) if source is None else finetune(resolved, source, session)

    with silent() as console:
        return run_in_folder(
            RunFolder(folder), config, work, source=source, resume=True, console=console, command="bench"
        )


def _tell(results: Sequence[Cells]) -> None:
    rows = [
        [
            key,
            *(f"{cells.tau(key):.2f} / {cells.regret(key):.1f}" for cells in results),
            f"{np.mean([cells.tau(key) for cells in results]):.2f}",
            f"{np.mean([cells.regret(key) for cells in results]):.2f}",
        ]
        for key in MEASURES
    ]
    columns = ["weighted tau / regret in points", *(cells.name for cells in results), "mean tau", "mean regret"]
    num_cells = sum(len(cells.truth) for cells in results)
    SAY.table(columns, rows, title=f"\n{num_cells} cells")
    for cells in results:
        share = cells.score_seconds / cells.finetune_seconds
        SAY.say(
            f"{cells.name}: {cells.score_seconds:.2f} s to score a source, {cells.finetune_seconds:.1f} s to finetune "
            f"once: {100 * share:.1f} %"
        )


if __name__ == "__main__":
    main()
