"""What a recipe does to a network before its first optimizer step."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ptft.data.task import Task
from ptft.errors import UsageError
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.settings import FinetuneConfig, RunConfig, RunConfigT
from ptft.train.regime import Regime
from ptft.train.solve import HeadSolver
from ptft.train.step import Stepper
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
    if config.transfer.bn != "train" and not _norms(classifier):
        raise UsageError(f"transfer.bn: {config.transfer.bn}, but the model has no batch norm. Leave it out.")
    if config.transfer.interpolate:
        _check_interpolation(task, regime, tensors)
    regime.set(classifier, regime.num_steps)
    return regime


def _check_interpolation(task: Task, regime: Regime, tensors: Sequence[Mapping[str, str]]) -> None:
    if "validation" not in task.parts:
        raise UsageError("transfer.interpolate: there are no validation images to choose by. Set data.validation.")
    is_own_head = any(tensor["name"] == "head.weight" and tensor["outcome"] == "loaded" for tensor in tensors)
    if not regime.recipe.solves_head and not is_own_head:
        raise UsageError(
            "transfer.interpolate: training begins with a new head, random in part or whole, so weights between start "
            "and end mean nothing. Take recipe: lp-ft, or the source's own classes."
        )


def solver_of(
    config: RunConfig, task: Task, stepper: Stepper, console: Console, check_stop: Callable[[], None]
) -> HeadSolver:
    """What solves the head of this run's classifier."""
    return HeadSolver(
        task=task,
        objective=stepper.objective,
        device=stepper.device,
        precision=stepper.precision,
        memory_format=stepper.memory_format,
        seed=config.seed,
        balanced=config.train.sampling == "balanced",
        say=console.say,
        check_stop=check_stop,
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


def start_of(config: RunConfig, classifier: Classifier) -> dict[str, Tensor]:
    """Copies of the weights that training begins with, as far as they are needed later."""
    if not isinstance(config, FinetuneConfig):
        return {}
    if config.transfer.interpolate:
        return {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    if config.transfer.l2_sp:
        named = classifier.named_parameters()
        return {name: tensor.detach().clone() for name, tensor in named if name.startswith("backbone.")}
    return {}


def _norms(classifier: Classifier) -> list[nn.Module]:
    return [part for part in classifier.backbone.modules() if isinstance(part, _BatchNorm)]
