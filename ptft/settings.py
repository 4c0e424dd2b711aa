"""The configs of a run: sections of the components composed, checks across them, sizes resolved. Knows no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationInfo, model_validator

from ptft.augment import Augment, Photo, Standard
from ptft.compare.design import CompareSection
from ptft.config.base import Config, MisfitError, is_stored
from ptft.config.durations import Duration, Period
from ptft.config.wording import either, shown
from ptft.data.resize import Resize
from ptft.data.sources import Data
from ptft.data.sources.base import PathText
from ptft.data.sources.listing import file_mode, is_file, is_folder
from ptft.errors import UsageError
from ptft.models import Model, SmallCnn
from ptft.objectives import Objective
from ptft.paths import user_path
from ptft.tasks import SingleLabel, Tasks
from ptft.tracking import Tracking
from ptft.train.optim import Optim, Sgd
from ptft.train.schedule import Cosine, Schedules
from ptft.transfer.recipes import TransferConfig, budget

_EPOCHS, _LEAST_STEPS = 20, 200


class TrainConfig(Config):
    """How long and how precisely to train. Give at most one of steps, epochs, examples."""

    steps: Annotated[int, Field(ge=1, examples=[1000])] | None = None
    """Optimizer steps."""
    epochs: Annotated[int, Field(ge=1, examples=[10])] | None = None
    """Passes over the training images. Default: 20 for pretrain, but at least 200 steps; finetune takes steps that suit
    the data."""
    examples: Annotated[int, Field(ge=1, examples=[100000])] | None = None
    """Training images seen, repeats counted."""
    batch_size: Annotated[int, Field(ge=1, le=1 << 20, examples=[128])] | None = None
    """Images per step, over all ranks. Default: 128; 32 below 2,000 training images."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; `auto` times those that fit and takes the fastest. fp16 needs a GPU."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Order of pixels and channels in memory; `auto` times both and takes the faster."""
    compile: bool = False
    """Steps through torch.compile, meant for long runs on GPUs: the first step takes up to a minute more. Evaluation is
    not compiled."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """`balanced` shows every class equally often, whatever its number of images."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches a batch is cut into, to need less memory. When memory runs out there are twice as many from that
    step on."""
    resize: Resize = Resize()
    clip_norm: Annotated[float, Field(gt=0, examples=[1.0])] | None = None
    """Largest L2 norm of the gradient; longer ones are scaled down."""
    ema: Annotated[float, Field(gt=0, lt=1, examples=[0.999])] | None = None
    """Decay of a moving average of the weights, which is then what is evaluated and used."""
    evaluate_every: Period | None = None
    """Time between looks at validation. Default: as checkpoint.every."""
    patience: Annotated[int, Field(ge=1, examples=[5])] | None = None
    """Early stopping: end after this many looks at validation without a better score."""
    max_minutes: Annotated[float, Field(gt=0, examples=[60.0])] | None = None
    """End training after this time, with what was reached by then."""

    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    """What a loss or gradient that is NaN or infinite does; its update is never made. `stop` ends the run, exit code
    6. `skip` goes on without that update. `rollback` goes back to the last checkpoint, halves the learning rate from
    there on and leaves that batch out the second time."""
    max_nonfinite: int = Field(5, ge=1)
    """How often a run may skip or go back; once more ends it after all."""

    sync_bn: bool = False
    """Many ranks: batch norm takes its statistics of the whole micro-batch of all ranks, not of each rank's part. GPUs
    only."""
    compress_gradients: Literal["none", "bf16"] = "none"
    """Many ranks: how gradients travel. `bf16` halves the bytes: each number keeps 8 significant bits."""
    deterministic: Literal["fixed", "elastic"] = "fixed"
    """`fixed`: as many ranks give the same bits again, more or fewer the same up to rounding. `elastic`, on CPUs: the
    same bits on any number of ranks from 1 to `accumulate`, whose micro-batches are dealt to them; precision and
    memory_format `auto` are then fp32 and contiguous, and each rank computes with one thread."""

    @model_validator(mode="after")
    def _one_duration(self) -> Self:
        given = [key for key in ("steps", "epochs", "examples") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(
                f"give only one of steps, epochs, examples, not {' and '.join(given)}. "
                f"{either([f'--set train.{key}=null' for key in given])} takes one out."
            )
        if self.batch_size is not None and self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate}, more than batch_size {self.batch_size}.")
        return self

    @model_validator(mode="after")
    def _compiled_whole(self) -> Self:
        if self.compile and self.sync_bn:
            raise ValueError("compile cannot see through sync_bn: it would cut the network at each. Leave one out.")
        return self

    @model_validator(mode="after")
    def _elastic_alone(self) -> Self:
        if self.deterministic == "elastic" and self.compile:
            raise ValueError("compile makes kernels that need not be the same on every rank. Leave one out.")
        if self.deterministic == "elastic" and (self.sync_bn or self.compress_gradients != "none"):
            key = "sync_bn" if self.sync_bn else "compress_gradients"
            raise ValueError(f"{key} sums over the ranks in another order than deterministic: elastic. Leave one out.")
        return self

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps of the run, once batch_size and one duration are set."""
        if self.steps is not None:
            return self.steps
        duration = Duration(epochs=self.epochs) if self.examples is None else Duration(examples=self.examples)
        return duration.to_steps(num_examples, self.batch_size or 1)


class CheckpointConfig(Config):
    """When to save."""

    every: Period | None = None
    """Time between checkpoints; at the end there is always one. Default: once an epoch, at most 20 times in a run."""
    keep: int = Field(2, ge=1)
    """How many of the latest checkpoints stay."""


class RunConfig(Config):
    """What pretraining and finetuning have in common."""

    seed: int = Field(0, ge=0)
    """All randomness of the run follows from it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes a GPU when there is one."""
    out: PathText | None = None
    """The run folder. Default: `runs/` and the name of the config."""
    tracking: Tracking = ("tensorboard",)
    """Where else the numbers of metrics.jsonl are shown: any of tensorboard, mlflow, wandb; `ptft list trackers`."""
    data: Data
    task: Tasks = SingleLabel()
    augment: Augment = Standard(name="standard")
    model: Model | None = None
    """Default: small-cnn for pretrain; for finetune the source's, as recorded or recognised."""
    objective: Objective = Objective()
    optim: Optim = Sgd()
    schedule: Schedules = Cosine()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_sections(cls, sections: Any) -> Any:
        """A section given in part keeps the other keys of its default, as long as it is the same component."""
        if not isinstance(sections, Mapping):
            return sections
        filled = dict(sections)
        for key, field in cls.model_fields.items():
            given, default = sections.get(key), field.default
            if isinstance(default, Config) and isinstance(given, Mapping):
                kept = default.model_dump(exclude_unset=True)
                if "name" in type(default).model_fields:
                    kept["name"] = default.model_dump()["name"]
                if given.get("name", kept.get("name")) == kept.get("name"):
                    filled[key] = {**kept, **given}
        return filled

    @model_validator(mode="after")
    def _task_fits(self) -> Self:
        """What the task has no use for is refused, not passed over."""
        for key, limit in self.task.limits.items():
            section, name = key.split(".")
            part = getattr(self, section, None)  # a pretraining has no section transfer
            if part is not None and (value := getattr(part, name)) not in limit.values:
                raise MisfitError(
                    key, f"{shown(value)} does not go with task.name: {self.task.name}: it {limit.reason}"
                )
        return self

    @model_validator(mode="after")
    def _store_is_used(self) -> Self:
        if self.data.store_size is not None and not isinstance(self.augment, Photo):
            raise MisfitError(
                "data.store_size",
                f"augment.name: {self.augment.name} takes images at image_size; random resized crops are those of "
                "augment.name: photo. Write that, or leave store_size out.",
            )
        return self


class PretrainConfig(RunConfig):
    """Config of `ptft pretrain`: a source task, from random weights."""

    model: Model = SmallCnn(name="small-cnn")


class FinetuneConfig(RunConfig):
    """Config of `ptft finetune`: a target task, from the weights of a checkpoint."""

    transfer: TransferConfig = TransferConfig()

    @model_validator(mode="after")
    def _same_labels(self) -> Self:
        if self.transfer.soup is not None and self.data.labels_per_class is not None:
            raise MisfitError(
                "transfer.soup", "with data.labels_per_class every seed draws other labels. Leave one out."
            )
        return self


class CompareConfig(FinetuneConfig):
    """Config of `ptft compare`: a finetuning, and what to compare it with."""

    compare: CompareSection = CompareSection()

    @model_validator(mode="after")
    def _equal_budgets(self, info: ValidationInfo) -> Self:
        for key in ("patience", "max_minutes"):
            if getattr(self.train, key) is not None:
                raise MisfitError(f"train.{key}", "in a comparison every run gets the same steps. Leave it out.")
        if not isinstance(self.task, SingleLabel):
            raise MisfitError(
                "task.name", f"a comparison needs single-label, one class an image, not {self.task.name}."
            )
        if self.transfer.soup is not None:
            raise MisfitError("transfer.soup", "in a comparison every run gets the same steps. Leave it out.")
        if self.transfer.recipe == "random":
            raise MisfitError(
                "transfer.recipe", "random sets the source aside, which would compare nothing. Leave it out."
            )
        if self.transfer.recipe == "probe" and not is_stored(info):
            raise MisfitError("transfer.recipe", "the frozen probe is an arm of its own, compare.probe. Leave it out.")
        for key in ("dropout", "drop_path"):
            if getattr(self.transfer, key) is not None:
                raise MisfitError(
                    f"transfer.{key}",
                    "random weights would not get it, and it has nothing to do with the source. Leave it out; a "
                    "dropout of the model's own, where it has one, is every arm's.",
                )
        if self.data.labels_per_class is not None:
            raise MisfitError(
                "data.labels_per_class", "a comparison draws labels itself. Set compare.labels_per_class."
            )
        return self


RunConfigT = TypeVar("RunConfigT", bound=RunConfig)


def resolve(config: RunConfigT, *, num_examples: int, image_size: int) -> RunConfigT:
    """The config with every size written out, as `config.yaml` in the run folder has it.

    Args:
        config: as the user gave it.
        num_examples: training images.
        image_size: side of the images in pixels.
    """
    train = config.train
    suited = budget(num_examples)
    batch_size = train.batch_size or suited.batch_size
    sizes: dict[str, object] = {"batch_size": batch_size}
    if train.steps is None and train.epochs is None and train.examples is None:
        if isinstance(config, FinetuneConfig):
            sizes["steps"] = suited.steps
        elif _EPOCHS * num_examples < _LEAST_STEPS * batch_size:
            sizes["steps"] = _LEAST_STEPS
        else:
            sizes["epochs"] = _EPOCHS
    train = train.model_copy(update=sizes)
    every = config.checkpoint.every or Duration(
        steps=max(Duration(epochs=1.0).to_steps(num_examples, batch_size), -(-train.num_steps(num_examples) // 20))
    )
    optim = config.optim
    usual_lr = optim.finetune_lr if isinstance(config, FinetuneConfig) else optim.usual_lr
    return config.model_copy(
        update={
            "optim": optim if optim.lr else optim.model_copy(update={"lr": usual_lr}),
            "data": config.data.model_copy(update={"image_size": image_size}),
            "train": train.model_copy(update={"evaluate_every": train.evaluate_every or every}),
            "checkpoint": config.checkpoint.model_copy(update={"every": every}),
        }
    )


def default_folder(config: RunConfig, named_after: Path, suffix: str = "") -> Path:
    """The run folder: what the config says, else `runs/`, the stem of the config (or the data folder) and `suffix`.

    Raises:
        UsageError: the config came from a pipe, which has no name.
    """
    if config.out:
        return user_path(config.out)
    if file_mode(named_after) is not None and not (is_file(named_after) or is_folder(named_after)):
        raise UsageError(f"{named_after} gives the run no name. Give its folder with --out.")
    name = named_after.resolve().name if is_folder(named_after) else named_after.stem
    return Path("runs") / (name + suffix)
