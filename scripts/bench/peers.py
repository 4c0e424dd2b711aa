"""One training run by another tool, for `train.py`, which makes the environment and calls this in it.

    python scripts/bench/peers.py PEER --data DIR [--epochs N] [--workers N] [--precision fp32|bf16] [--channels-last]
        [--model NAME] [--size PIXELS] [--batch-size N]

Everything but the tool is the same: ptft's network (small-cnn), with torch's own convolutions; random shift by an
eighth and mirror, SGD with Nesterov momentum and weight decay on what ptft decays, warmup and cosine by step, every
image of DIR/train once an epoch, the accuracy on DIR/test in fp32 at the end, and a file with the weights. Prints one
JSON object.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from ptft.models import Model
from ptft.models.depthwise import DepthwiseConv2d
from ptft.models.small_maps import SmallMapConv2d
from ptft.train.optim import Sgd

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


@dataclass
class Job:
    """What is to be trained, the same for every tool."""

    data: Path
    epochs: int
    workers: int
    precision: str
    channels_last: bool
    size: int
    batch_size: int
    network: str
    started: float = 0.0

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        fit = [transforms.Resize(self.size), transforms.CenterCrop(self.size)]
        vary = [
            transforms.RandomCrop(self.size, round(self.size / 8), padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
        ]
        self.train = ImageFolder(str(self.data / "train"), transforms.Compose([*fit, *vary, *finish]))
        self.test = ImageFolder(str(self.data / "test"), transforms.Compose([*fit, *finish]))
        self.model: nn.Module = torchs_own(network_of(self.network).build(len(self.train.classes), 3))
        if self.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.steps = math.ceil(len(self.train) / self.batch_size) * self.epochs

    def start(self) -> None:
        """Called when all is made and training begins."""
        self.started = time.perf_counter()

    def loader(self, dataset: "Dataset[Any]", *, shuffle: bool) -> "DataLoader[Any]":
        keeps = {"persistent_workers": True, "prefetch_factor": 4} if self.workers else {}
        return DataLoader(dataset, self.batch_size, shuffle=shuffle, num_workers=self.workers, **keeps)

    def optimizer(self) -> torch.optim.Optimizer:
        return Sgd(lr=0.1).build(self.model)

    def schedule(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        warmup = self.steps // 10

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))

        return LambdaLR(optimizer, factor)

    def logits(self, images: Tensor) -> Tensor:
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(images)
        return logits.float()

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self.logits(images), labels)


def torchs_own(network: nn.Module) -> nn.Module:
    """The network with torch's own convolutions, as it is outside ptft."""
    for part in network.modules():
        if isinstance(part, DepthwiseConv2d | SmallMapConv2d):
            part.__class__ = nn.Conv2d
    return network


def network_of(name: str) -> Model:
    """What the config `model: {name: NAME}` is."""
    model: Model = TypeAdapter(Model).validate_python({"name": name})
    return model


def plain(job: Job, batches: Iterable[tuple[Tensor, Tensor]] | None = None) -> None:
    """The loop that everybody writes."""
    optimizer = job.optimizer()
    schedule = job.schedule(optimizer)
    loader = batches if batches is not None else job.loader(job.train, shuffle=True)
    job.model.train()
    job.start()
    for _ in range(job.epochs):
        for images, labels in loader:
            job.loss(images, labels).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)


def timm(job: Job) -> None:
    """The plain loop over timm's loader."""
    from timm.data import create_dataset, create_loader

    dataset = create_dataset("", root=str(job.data / "train"))
    keys: dict[str, Any] = {"persistent_workers": True} if job.workers else {}
    loader = create_loader(
        dataset,
        input_size=(3, job.size, job.size),
        batch_size=job.batch_size,
        is_training=True,
        no_aug=True,
        mean=MEAN,
        std=STD,
        num_workers=job.workers,
        use_prefetcher=False,
        device=torch.device("cpu"),
        **keys,
    )
    dataset.transform = job.train.transform
    plain(job, loader)


def lightning(job: Job) -> None:
    """Lightning's Trainer, with nothing beside training turned on."""
    import lightning as lib

    class Module(lib.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = job.model

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return job.loss(*batch)

        def configure_optimizers(self) -> Any:
            optimizer = job.optimizer()
            return [optimizer], [{"scheduler": job.schedule(optimizer), "interval": "step"}]

    trainer = lib.Trainer(
        accelerator="cpu",
        max_epochs=job.epochs,
        precision="bf16-mixed" if job.precision == "bf16" else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module, loader = Module(), job.loader(job.train, shuffle=True)
    job.start()
    trainer.fit(module, loader)


def transformers(job: Job) -> None:
    """The Trainer of Hugging Face."""
    from transformers import Trainer, TrainingArguments

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = job.model

        def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = job.logits(images)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    def collate(items: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
        return {"images": torch.stack([item[0] for item in items]), "labels": torch.tensor([item[1] for item in items])}

    optimizer = job.optimizer()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=job.epochs,
            per_device_train_batch_size=job.batch_size,
            dataloader_num_workers=job.workers,
            dataloader_persistent_workers=job.workers > 0,
            bf16=job.precision == "bf16",
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            max_grad_norm=0.0,
            logging_steps=10_000,
        )
        trainer = Trainer(
            model=Wrapped(),
            args=arguments,
            train_dataset=job.train,
            data_collator=collate,
            optimizers=(optimizer, job.schedule(optimizer)),
        )
        job.start()
        trainer.train()


def fastai(job: Job) -> None:
    """fastai's Learner over its own loaders' kind of batches."""
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    optimizer = job.optimizer()
    schedule = job.schedule(optimizer)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = job.model

        def forward(self, images: Tensor) -> Tensor:
            return job.logits(images)

    class Step(Callback):
        def after_batch(self) -> None:
            if self.training:
                schedule.step()

    loaders = DataLoaders(job.loader(job.train, shuffle=True), job.loader(job.test, shuffle=False))
    learner = Learner(
        loaders,
        Wrapped(),
        loss_func=functional.cross_entropy,
        opt_func=lambda *_, **__: OptimWrapper(opt=optimizer),
        cbs=[Step()],
        train_bn=True,
    )
    learner._do_epoch_validate = lambda *_, **__: None  # as the others: the test comes at the end
    job.start()
    with learner.no_logging():
        learner.fit(job.epochs, lr=0.1)


PEERS: dict[str, Callable[[Job], None]] = {
    "torch": plain,
    "timm": timm,
    "lightning": lightning,
    "transformers": transformers,
    "fastai": fastai,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--model", default="small-cnn", help="one that needs no images to start from")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=128)
    given = parser.parse_args()
    how = (given.workers, given.precision, given.channels_last)
    job = Job(given.data, given.epochs, *how, given.size, given.batch_size, given.model)
    PEERS[given.peer](job)
    seconds = time.perf_counter() - job.started
    with tempfile.NamedTemporaryFile() as file:
        torch.save(job.model.state_dict(), file.name)
    top1 = accuracy(job)
    print(json.dumps({"peer": given.peer, "loop_seconds": seconds, "top1": top1, "images": len(job.train)}))


def accuracy(job: Job) -> float:
    job.model.eval()
    right = 0
    with torch.inference_mode():
        for images, labels in job.loader(job.test, shuffle=False):
            right += int((job.model(images).argmax(dim=1) == labels).sum())
    return right / len(job.test)


if __name__ == "__main__":
    main()
