"""The probe against the same head trained by AdamW through the frozen network: accuracy and time, measured in one run.

    python scripts/bench/probe.py                            embedded images alone, some minutes on one core
    python scripts/bench/probe.py --from CKPT --data DIR     any checkpoint on any folder of images

Without a checkpoint, a small CNN is pretrained on five classes of clothes, and the other five are the target. The slow
way is recipe surgical with no stage: the same frozen backbone in eval mode, the same images without augmentation, 50
epochs of AdamW without weight decay, which copes with features of any scale. Seconds are those of training with its
looks at validation, without reading images and starting Python.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ptft.augment import NoAugment
from ptft.config.durations import Duration
from ptft.data.sources import Data, EmbeddedFashionMnist, Folder
from ptft.models import SmallCnn
from ptft.report.console import Console, silent
from ptft.run.session import run_in_folder
from ptft.run.training import finetune, pretrain
from ptft.run_folder import RunFolder
from ptft.settings import FinetuneConfig, PretrainConfig, TrainConfig
from ptft.train.optim import AdamW
from ptft.transfer.recipes import TransferConfig

SOURCE = ("T-shirt/top", "Trouser", "Dress", "Coat", "Bag")
TARGET = ("Pullover", "Sandal", "Shirt", "Sneaker", "Ankle boot")
EPOCHS = 50
SAY = Console(sys.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-probe"))
    parser.add_argument("--from", dest="source", type=Path, help="a checkpoint")
    parser.add_argument("--data", type=Path, help="folder of images, with a test part or without")
    parser.add_argument(
        "--lr", type=float, nargs="+", default=[0.1, 0.3, 1.0], help="of AdamW; the best on validation counts"
    )
    arguments = parser.parse_args()
    source = arguments.source or _pretrained(arguments.out)
    data: Data = Folder(name="folder", root=str(arguments.data)) if arguments.data else _clothes(TARGET)
    probe = _run(arguments.out / "probe", _config(data, TransferConfig(recipe="probe")), source)
    slow = TransferConfig(recipe="surgical", stages=())
    trained = {
        lr: _run(arguments.out / f"trained-{lr:g}", _config(data, slow, lr), source) for lr in sorted(arguments.lr)
    }
    _tell(probe, trained)


def _clothes(classes: tuple[str, ...]) -> EmbeddedFashionMnist:
    return EmbeddedFashionMnist(name="fashion-mnist-10k", classes=classes)


def _pretrained(out: Path) -> Path:
    train = TrainConfig(epochs=8, precision="fp32", memory_format="channels_last")
    config = PretrainConfig(data=_clothes(SOURCE), model=SmallCnn(name="small-cnn"), train=train)
    return Path(_run(out / "source", config, None)["checkpoint"])


def _config(data: Data, recipe: TransferConfig, lr: float = 0.01) -> FinetuneConfig:
    train = TrainConfig(
        epochs=EPOCHS,
        batch_size=128,
        precision="fp32",
        memory_format="channels_last",
        evaluate_every=Duration(epochs=5),
    )
    return FinetuneConfig(
        data=data,
        augment=NoAugment(name="none"),
        optim=AdamW(name="adamw", lr=lr, weight_decay=0.0),
        train=train,
        transfer=recipe,
    )


def _run(folder: Path, config: PretrainConfig | FinetuneConfig, source: Path | None) -> dict[str, Any]:
    def work(resolved: Any, session: Any) -> Any:
        return pretrain(resolved, session) if source is None else finetune(resolved, source, session)

    with silent() as console:
        return run_in_folder(
            RunFolder(folder), config, work, source=source, resume=True, console=console, command="bench"
        )


def _tell(probe: dict[str, Any], trained: dict[float, dict[str, Any]]) -> None:
    runs = {"probe": probe, **{f"AdamW, {EPOCHS} epochs, lr {lr:g}": run for lr, run in trained.items()}}
    part = "test" if "test" in probe else "validation"
    rows = [[name, f"{100 * run[part]['top1']:.2f} %", f"{run['seconds']:.2f}"] for name, run in runs.items()]
    SAY.table(["head", f"{part} accuracy", "seconds"], rows, title=f"\nn = {probe[part]['num_examples']:,}")
    best = max(trained.values(), key=lambda run: (run["validation"]["top1"], -run["validation"]["loss"]))
    SAY.say(
        f"the probe is {best['seconds'] / probe['seconds']:.0f} times as fast and "
        f"{100 * (probe[part]['top1'] - best[part]['top1']):+.2f} points from the best of AdamW on validation."
    )


if __name__ == "__main__":
    main()
