"""How the steps of a run are computed: what its config leaves open is decided, and what does not fit refused."""

from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ptft.data.task import Task
from ptft.distributed.agreement import Agreement
from ptft.distributed.ranks import Ranks
from ptft.errors import UsageError
from ptft.models.classifier import Classifier
from ptft.run.surroundings import Surroundings
from ptft.runtime import computes_bf16, pick_device
from ptft.settings import FinetuneConfig, RunConfig, RunConfigT, TrainConfig, resolve
from ptft.train.calibration import TORCH_FORMATS, Choice, calibrate
from ptft.train.compiled import compiled_forward, forward
from ptft.train.elastic import Elastic
from ptft.train.exchange import Exchange, Local, Overlapped
from ptft.train.regime import Regime
from ptft.train.step import Stepper

_Size = TypeVar("_Size", int, float)


def device_of(config: RunConfig, ranks: Ranks) -> torch.device:
    """Where this rank computes.

    Raises:
        UsageError: there is no such device.
    """
    return pick_device(config.device, None if ranks.is_alone else ranks.place.local_rank)


def check_fits(config: RunConfig, task: Task, classifier: Classifier, ranks: Ranks, *, is_new: bool) -> None:
    """Refuses what does not fit the data, the machine or the ranks; at once, before anything that takes long.

    Args:
        config: as loaded.
        task: the data.
        classifier: of the config's model.
        ranks: that share the work.
        is_new: whether the run begins; one that goes on may keep what a new one may not have.

    Raises:
        UsageError: with the key and what to do.
    """
    train, device = config.train, device_of(config, ranks)
    if is_new and config.objective.class_weights == train.sampling == "balanced":
        raise UsageError(
            "objective.class_weights and train.sampling are both balanced: rare classes would count more than common "
            "ones. Leave one out."
        )
    if train.patience is not None and "validation" not in task.parts:
        raise UsageError("train.patience: there are no validation images to judge by. Set data.validation.")
    if train.deterministic == "elastic" and device.type == "cuda":
        raise UsageError(
            "train.deterministic: elastic is for CPUs: kernels of GPUs add in no fixed order. Leave it out, or write "
            "device: cpu."
        )
    if train.precision == "fp16" and device.type != "cuda":
        raise UsageError("train.precision: fp16 needs a GPU. Write auto, bf16 or fp32.")
    if isinstance(config, FinetuneConfig):
        transfer = config.transfer
        for key, chooses in {"interpolate": transfer.interpolate is True, "soup": transfer.soup is not None}.items():
            if chooses and "validation" not in task.parts:
                raise UsageError(f"transfer.{key}: there are no validation images to choose by. Set data.validation.")
    if ranks.is_alone:
        return
    for key in config.transfer.given(("co_tuning", "soup")) if isinstance(config, FinetuneConfig) else ():
        raise UsageError(f"transfer.{key} is the work of one process. Leave it out, or start without torchrun.")
    if train.sync_bn and device.type == "cpu":
        raise UsageError(
            "train.sync_bn: torch synchronises batch norm on GPUs only. Leave it out: each rank then takes the "
            "statistics of its own images, and the running ones are averaged over the ranks."
        )
    resolved = resolve(config, num_examples=len(task.train), image_size=task.format.image_size)
    _micro_batch(resolved, classifier, ranks)


def synced(classifier: Classifier) -> Classifier:
    """The classifier with torch's SyncBatchNorm in place of batch norm."""
    synced: Classifier = nn.SyncBatchNorm.convert_sync_batchnorm(classifier)
    return synced


def decide_steps(
    config: RunConfigT,
    task: Task,
    classifier: Classifier,
    device: torch.device,
    regime: Regime | None,
    around: Surroundings,
) -> tuple[RunConfigT, Stepper]:
    """Calibrates what the config leaves open; the config with the decisions, and the stepper of them."""
    train, ranks = config.train, around.ranks
    micro = _micro_batch(config, classifier, ranks)
    choice = _choose(train, task, classifier, micro, device, around)
    stepper = Stepper(
        objective=config.task.objective(
            config.objective, task.class_counts("train"), len(task.train), task.scale, config.seed
        ),
        device=device,
        precision=choice.precision,
        memory_format=TORCH_FORMATS[choice.memory_format],
        seed=config.seed,
        accumulate=train.accumulate,
        clip_norm=train.clip_norm,
        regime=regime,
        co_tuning=config.transfer.co_tuning if isinstance(config, FinetuneConfig) else None,
        ranks=ranks,
        exchange=_exchange(train, around.agreement),
        # A rank that left a step by itself would leave the others waiting.
        forward=compiled_forward(around.check_stop if ranks.is_alone else lambda: None) if train.compile else forward,
        cuts=train.deterministic == "fixed" and (ranks.is_alone or not train.sync_bn),
        say=around.console.say,
    )
    decided = {"precision": choice.precision, "memory_format": choice.memory_format}
    return config.model_copy(update={"train": train.model_copy(update=decided)}), stepper


def _micro_batch(config: RunConfig, classifier: Classifier, ranks: Ranks) -> int:
    """Images in a micro-batch of one rank, at most.

    Raises:
        UsageError: the batch is too small for so many ranks and micro-batches.
    """
    train = config.train
    batch_size, number = known(train.batch_size), train.accumulate
    is_elastic = train.deterministic == "elastic"
    if is_elastic and number < ranks.world_size:
        raise UsageError(
            f"train.accumulate: {number} micro-batches cannot be dealt to {ranks.world_size} ranks. With "
            "deterministic: elastic, accumulate is the largest number of ranks that the run may ever have."
        )
    share = batch_size if is_elastic else batch_size // ranks.world_size
    if not share:
        raise UsageError(
            f"train.batch_size: {batch_size} images cannot be shared by {ranks.world_size} ranks. It counts the images "
            "of all ranks; raise it, or start fewer ranks."
        )
    told = f"in {number} micro-batches" + ("" if ranks.is_alone or is_elastic else f" on {ranks.world_size} ranks")
    if share < number:
        raise UsageError(
            f"train.batch_size: {batch_size} {told} leaves some empty. Raise batch_size or lower accumulate."
        )
    if share // number < 2 and _takes_statistics(config, classifier):
        raise UsageError(
            f"train.batch_size: {batch_size} {told} leaves single images, of which batch "
            "norm knows no statistics. Raise batch_size or lower accumulate."
        )
    return -(-batch_size // (number if is_elastic else number * ranks.world_size))


def _takes_statistics(config: RunConfig, classifier: Classifier) -> bool:
    """Whether steps normalise by statistics of their own images."""
    if isinstance(config, FinetuneConfig) and (config.transfer.bn != "train" or config.transfer.recipe == "probe"):
        return False
    return any(isinstance(part, _BatchNorm) for part in classifier.modules())


def _choose(
    train: TrainConfig,
    task: Task,
    classifier: Classifier,
    micro: int,
    device: torch.device,
    around: Surroundings,
) -> Choice:
    """Precision and memory format; of many ranks the first one measures."""
    if train.deterministic == "elastic":
        if device.type == "cpu":
            torch.set_num_threads(1)  # sums within a layer are cut by the number of threads
        precision = "fp32" if train.precision == "auto" else train.precision
        memory_format = "contiguous" if train.memory_format == "auto" else train.memory_format
        return Choice(precision, memory_format)

    if train.precision == "bf16" and not computes_bf16(device):
        around.console.say("train.precision: bf16 is imitated here, many times as slow as fp32. Write auto or fp32.")

    def measure() -> tuple[str, str]:
        size, channels = task.format.image_size, task.format.in_channels
        shape = (micro, channels, size, size)
        choice, sentence = calibrate(
            classifier, shape, device, train.precision, train.memory_format, around.check_stop, around.cache
        )
        if sentence:
            around.console.say(sentence)
        return choice.precision, choice.memory_format

    return Choice(*around.ranks.from_first(measure))


def _exchange(train: TrainConfig, agreement: Agreement) -> Exchange:
    if train.deterministic == "elastic":
        return Elastic(agreement, known(train.batch_size), train.accumulate)
    if agreement.ranks.is_alone:
        return Local()
    return Overlapped(agreement, compress=train.compress_gradients == "bf16")


def known(size: _Size | None) -> _Size:
    """A size that `resolve` has written out."""
    if size is None:
        raise ValueError("the config is not resolved")
    return size
