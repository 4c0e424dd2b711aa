"""A classifier with its weights, data and config, put together into what trains: optimizer, stepper, batches."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.amp import GradScaler

from ptft.checkpoint import Ancestor, Checkpoint
from ptft.data.ahead import Ahead, ahead_where_it_wins
from ptft.data.batches import Batches, Order
from ptft.data.resize import Sizes
from ptft.data.stream import StreamOrder
from ptft.data.task import Examples, Task
from ptft.errors import UsageError
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.run.beginning import begin, regime_of, solver_of, start_of, without_choices
from ptft.run.decisions import check_fits, decide_steps, device_of, known, synced
from ptft.run.surroundings import Surroundings
from ptft.settings import RunConfig, resolve
from ptft.train.metrics import TaskTally
from ptft.train.solve import HeadSolver
from ptft.train.state import Average, State
from ptft.train.step import Stepper


@dataclass(frozen=True)
class Inherited:
    """What comes with the weights that a finetuning starts from; all empty for pretraining.

    Attributes:
        ancestors: the runs behind the weights, oldest first.
        transfer: what became of each tensor.
        start: sentences: what the source was recognised as, the proof of its features, why recipe auto chose.
        seen: fingerprints of the images that the runs behind the weights trained on, see `ptft.transfer.seen`.
        co_tuning: the tensors that Co-Tuning needs.
    """

    ancestors: tuple[Ancestor, ...] = ()
    transfer: tuple[dict[str, str], ...] = ()
    start: tuple[str, ...] = ()
    seen: Mapping[str, Tensor] = field(default_factory=dict)
    co_tuning: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Attributes:
        command: which of the two.
        config: resolved, nothing left open.
        model: the architecture.
        task: the data, decoded.
        classifier: on `device`, with the weights to start from.
        device: to compute on.
        stepper: computes a step.
        state: optimizer and averages at step 0.
        batches: of every step.
        sizes: of its images.
        inherited: what comes with the weights to start from.
        race_steps: most steps of the races that recipe auto would run first, where they were not run.
    """

    command: Literal["pretrain", "finetune"]
    config: RunConfig
    model: Model
    task: Task
    classifier: Classifier
    device: torch.device
    stepper: Stepper | HeadSolver
    state: State
    batches: Batches | Ahead
    sizes: Sizes
    inherited: Inherited
    race_steps: int = 0

    @property
    def is_solved(self) -> bool:
        """Whether the one step is to solve the head, as of a probe."""
        return isinstance(self.stepper, HeadSolver)

    @property
    def num_steps(self) -> int:
        """Of the whole run; a probe is solved in one."""
        return 1 if self.is_solved else self.config.train.num_steps(len(self.task.train))

    @property
    def phases(self) -> tuple[range, ...]:
        """The steps of the run, apart where their images are of another size."""
        return (range(1),) if self.is_solved else self.sizes.phases

    @property
    def batch_size(self) -> int:
        """Global."""
        return known(self.config.train.batch_size)

    def tally(self, device: torch.device) -> TaskTally:
        """An empty tally of the task's scores, on a device."""
        return self.config.task.tally(self.task.classes, self.task.scale, device)


def assemble(
    command: Literal["pretrain", "finetune"],
    config: RunConfig,
    model: Model,
    task: Task,
    classifier: Classifier,
    around: Surroundings,
    saved: Checkpoint | None = None,
    inherited: Inherited | None = None,
) -> Prepared:
    """Everything that training needs, from a classifier with its weights.

    Args:
        command: which of the two.
        config: what it leaves open about sizes and steps is decided here.
        model: the architecture.
        task: the data.
        classifier: moved to the device, and begun as its recipe says unless the run goes on.
        around: of the run.
        saved: a state of this run to go on from.
        inherited: what comes with the weights; None for pretraining.

    Raises:
        UsageError: keys of the config do not fit each other, the data or the machine.
    """
    inherited = inherited or Inherited()
    check_fits(config, task, classifier, around.ranks, is_new=saved is None)
    device = device_of(config, around.ranks)
    classifier.to(device)
    timed = classifier
    if config.train.sync_bn and not around.ranks.is_alone:
        timed, classifier = copy.deepcopy(classifier), synced(classifier)
    config = resolve(config, num_examples=len(task.train), image_size=task.format.image_size)
    num_steps = config.train.num_steps(len(task.train))
    sizes = config.train.resize.build(task.format.image_size, num_steps, model.min_image_size())
    regime = regime_of(config, task, classifier, inherited.transfer)
    config = without_choices(config, around.console)
    config, stepper = decide_steps(config, task, timed, device, regime, around)
    classifier.to(memory_format=stepper.memory_format)
    solver = solver_of(config, task, stepper, around)
    if not saved:
        begin(config, classifier, solver, around.console)
    is_solved_alone = regime is not None and not regime.recipe.trains_network
    state = State(
        model=classifier,
        optimizer=config.optim.build(classifier, regime.groups(classifier) if regime else ()),
        average=Average(classifier, config.train.ema) if config.train.ema and not is_solved_alone else None,
        scaler=GradScaler(device.type, enabled=stepper.precision == "fp16"),
        start=start_of(config, classifier, inherited.co_tuning),
    )
    steps = solver if is_solved_alone else stepper
    if config.train.compile and not is_solved_alone:
        around.console.say("train.compile: the first step compiles, which takes up to a minute.")
    if len(sizes.sides) > 1 and not is_solved_alone:
        small = ", ".join(map(str, sizes.sides[:-1]))
        around.console.say(
            f"train.resize: images of {small} pixels up to step {sizes.starts[-1]:,}, then {sizes.sides[-1]}."
        )
    batches = _batches(config, task, device, stepper, sizes)
    return Prepared(command, config, model, task, classifier, device, steps, state, batches, sizes, inherited)


def _batches(config: RunConfig, task: Task, device: torch.device, stepper: Stepper, sizes: Sizes) -> Batches | Ahead:
    order = _order(config, task.train)
    batches = Batches(
        task.train,
        task.format,
        order,
        config.augment.build(task.format.image_size),
        device,
        own=stepper.exchange.places(order.batch_size),
        mixes=stepper.objective.mixes,
        sizes=sizes,
    )
    return ahead_where_it_wins(batches, task.train.to_augment, device)


def _order(config: RunConfig, train: Examples) -> Order | StreamOrder:
    """Which examples a step takes.

    Raises:
        UsageError: a stream cannot be balanced.
    """
    batch_size, window = known(config.train.batch_size), config.data.window
    balanced = config.train.sampling == "balanced"
    if window is None or train.groups is None:
        return Order(train.labels, batch_size, config.seed, balanced)
    if balanced:
        raise UsageError(
            "train.sampling: balanced takes images from all shards at once. With it write data.read: mapped or memory."
        )
    return StreamOrder(train.groups, batch_size, config.seed, window)
