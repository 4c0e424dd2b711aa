"""What a recipe does to a network before its first optimizer step."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ptft.data.task import Task
from ptft.errors import UsageError
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.run.surroundings import Surroundings
from ptft.settings import FinetuneConfig, RunConfig, RunConfigT
from ptft.train.co_tuning import prepare_co_tuning
from ptft.train.regime import Regime
from ptft.train.solve import HeadSolver
from ptft.train.step import Stepper
from ptft.transfer.head import REORDERED, RowsKept
from ptft.transfer.names import unwrap
from ptft.transfer.source import SourceWeights
from ptft.transfer.statistics import measure_statistics


def regime_of(
    config: RunConfig, task: Task, classifier: Classifier, tensors: Sequence[Mapping[str, str]]
) -> Regime | None:
    """The regime of a finetuning, applied as far as what is ever trained; None for pretraining.

    Args:
        config: resolved.
        task: the data.
        classifier: what is never trained is frozen here.
        tensors: what became of each in the transfer.

    Raises:
        UsageError: an option of `transfer` does not fit the network or the data.
    """
    if not isinstance(config, FinetuneConfig):
        return None
    regime = Regime.of(config.transfer, classifier, config.train.num_steps(len(task.train)))
    if config.transfer.bn != "train" and not any(
        isinstance(part, _BatchNorm) for part in classifier.backbone.modules()
    ):
        raise UsageError(f"transfer.bn: {config.transfer.bn}, but the model has no batch norm. Leave it out.")
    for key in config.transfer.given(("interpolate", "soup")):
        _check_averaging(key, regime, tensors)
    regime.set(classifier, regime.num_steps)
    return regime


def _check_averaging(key: str, regime: Regime, tensors: Sequence[Mapping[str, str]]) -> None:
    if not regime.recipe.solves_head and head_rows_kept(tensors) != "all":
        mean_nothing = {
            "interpolate": "weights between start and end mean nothing",
            "soup": "runs of other seeds begin with another one, and their mean is nobody's",
        }
        raise UsageError(
            f"transfer.{key}: training begins with a new head, random in part or whole, so {mean_nothing[key]}. "
            "Take recipe: lp-ft, or the source's own classes."
        )


def head_rows_kept(tensors: Sequence[Mapping[str, str]]) -> RowsKept:
    """What became of the source's head; arguments as `regime_of`."""
    head = next((tensor for tensor in tensors if tensor["name"] == "head.weight"), {"outcome": "fresh"})
    if head["outcome"] == "loaded" or (head["outcome"] == "adapted" and head["reason"] == REORDERED):
        return "all"
    return "some" if head["outcome"] == "adapted" else "none"


def solver_of(config: RunConfig, task: Task, stepper: Stepper, around: Surroundings) -> HeadSolver:
    """What solves the head of this run's classifier."""
    return HeadSolver(
        task=task,
        objective=stepper.objective,
        device=stepper.device,
        precision=stepper.precision,
        memory_format=stepper.memory_format,
        seed=config.seed,
        balanced=config.train.sampling == "balanced",
        say=around.console.say,
        check_stop=around.check_stop,
        ranks=stepper.ranks,
    )


def without_choices(config: RunConfigT, console: Console) -> RunConfigT:
    """The config with fp32 for the features of a probe, where `auto` would time training steps that are not made.

    Says which keys a probe has no use for.
    """
    if not isinstance(config, FinetuneConfig) or config.transfer.build().trains_network:
        return config
    objective, train = config.objective, config.train
    given = {
        "objective.mixup": objective.mixup,
        "objective.cutmix": objective.cutmix,
        "train.ema": train.ema,
        "train.clip_norm": train.clip_norm,
        "train.patience": train.patience,
        "train.compile": train.compile,
        "train.resize": train.resize.initial_scale < 1,
    }
    unused = ["optim", "schedule", "augment", "the length of train", *(key for key, value in given.items() if value)]
    console.say(
        "probe: the backbone is frozen and the features of each image are computed once, as it is; the head is solved "
        f"in one step. Not used: {', '.join(unused)}."
    )
    chosen = {
        "precision": "fp32" if train.precision == "auto" else train.precision,
        "memory_format": "contiguous" if train.memory_format == "auto" else train.memory_format,
    }
    return config.model_copy(update={"train": train.model_copy(update=chosen)})


def begin(config: RunConfig, classifier: Classifier, solver: HeadSolver, console: Console) -> None:
    """What precedes the first step of a new finetuning, in place: statistics measured anew, the head solved."""
    if not isinstance(config, FinetuneConfig):
        return
    task = solver.task
    if config.transfer.bn == "recalibrate":
        count = measure_statistics(classifier, task.train, task.format, solver.device, solver.check_stop)
        console.say(f"bn: statistics measured on {count:,} training images; they are held from here on.")
    recipe = config.transfer.build()
    if recipe.solves_head and recipe.trains_network:
        solver.solve(classifier)


def start_of(config: RunConfig, classifier: Classifier, co_tuning: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the weights that training begins with, as far as they are needed later, and Co-Tuning's tensors."""
    if not isinstance(config, FinetuneConfig):
        return {}
    kept: dict[str, Tensor] = {name: tensor.clone() for name, tensor in co_tuning.items()}
    if config.transfer.interpolate:
        return kept | {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    if config.transfer.l2_sp:
        named = classifier.named_parameters()
        return kept | {name: tensor.detach().clone() for name, tensor in named if name.startswith("backbone.")}
    return kept


def co_tuning_of(
    config: FinetuneConfig,
    classifier: Classifier,
    weights: SourceWeights,
    task: Task,
    device: torch.device,
    check_stop: Callable[[], None],
) -> dict[str, Tensor]:
    """The tensors that Co-Tuning needs; empty where it is off.

    Args:
        config: of the run.
        classifier: with the source's backbone, as it came.
        weights: of the source.
        task: the data.
        device: to compute on.
        check_stop: raises when a signal asked to stop.

    Raises:
        UsageError: the source has no head for its features, or one that is no softmax over classes.
    """
    if not config.transfer.co_tuning:
        return {}
    if weights.task != "single-label":
        raise UsageError(
            f"transfer.co_tuning: the source's head is of a {weights.task} task; Co-Tuning needs one that names one "
            "class an image. Leave it out."
        )
    found, _ = unwrap(weights.tensors)
    weight, bias = found.get("head.weight"), found.get("head.bias")
    if weight is None or bias is None or weight.flatten(1).shape[1] != classifier.feature_dim:
        raise UsageError(
            "transfer.co_tuning: the source has no head that names its own classes from these features. Leave it out, "
            "or start from a checkpoint with its head."
        )
    return prepare_co_tuning(classifier.to(device), weight, bias, task, device, check_stop)
