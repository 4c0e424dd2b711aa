"""Recipe auto in a run: its races made ready, run by the first rank, and what they decided."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from ptft.data.task import Task
from ptft.distributed.ranks import Ranks
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.race.decide import Course, decide
from ptft.report.console import Console
from ptft.run.assembly import Inherited, assemble
from ptft.run.beginning import head_rows_kept
from ptft.run.decisions import decide_steps, device_of, known
from ptft.run.surroundings import Surroundings
from ptft.settings import FinetuneConfig, resolve


def course_of(
    config: FinetuneConfig,
    model: Model,
    task: Task,
    classifier: Classifier,
    untrained: Classifier,
    tensors: Sequence[Mapping[str, str]],
    co_tuning: Mapping[str, Tensor],
    around: Surroundings,
) -> Course:
    """The races of recipe auto, with precision and memory format decided for them and the run.

    Args:
        config: of the run.
        model: the architecture.
        task: the target.
        classifier: with the source's weights, as the run would begin.
        untrained: with the random weights that recipe random would begin with.
        tensors: what became of each in the transfer.
        co_tuning: the tensors that Co-Tuning needs.
        around: of the run.
    """
    device = device_of(config, around.ranks)
    resolved = resolve(config, num_examples=len(task.train), image_size=task.format.image_size)
    resolved, _ = decide_steps(resolved, task, classifier.to(device), device, None, around.alone())
    return Course(
        config,
        resolved,
        task,
        classifier,
        untrained.to(device),
        head_rows_kept(tensors),
        device,
        partial(_train_briefly, model, co_tuning, around),
        around.console,
        around.check_stop,
    )


def decided_by_first(course: Callable[[], Course], ranks: Ranks) -> tuple[FinetuneConfig, tuple[str, ...]]:
    """What recipe auto chose and why, the same on every rank: the first one races, while the others wait.

    Args:
        course: makes the races ready.
        ranks: of the run.
    """
    found: list[tuple[FinetuneConfig, tuple[str, ...]]] = []

    def race() -> list[object]:
        found.append(_decided(course()))
        return [found[0][0].model_dump(mode="json"), found[0][1]]

    config, said = ranks.from_first(race)
    return found[0] if found else (FinetuneConfig.model_validate(config), tuple(said))


def _decided(course: Course) -> tuple[FinetuneConfig, tuple[str, ...]]:
    """What recipe auto chose and why. What was measured for steps does not count where there are none."""
    decision = decide(course)
    config, train = decision.config, course.resolved.train
    if not config.transfer.build().trains_network:
        return config, decision.said
    choice = {"precision": train.precision, "memory_format": train.memory_format}
    return config.model_copy(update={"train": config.train.model_copy(update=choice)}), decision.said


def _train_briefly(
    model: Model,
    co_tuning: Mapping[str, Tensor],
    around: Surroundings,
    config: FinetuneConfig,
    task: Task,
    classifier: Classifier,
) -> Classifier:
    """Trains as a run of this config would, in place, without a word, a look at validation or a checkpoint."""
    quiet = replace(around.alone(), console=Console(io.StringIO()), cache=None)
    prepared = assemble("finetune", config, model, task, classifier, quiet, inherited=Inherited(co_tuning=co_tuning))
    num_steps, state, peak = prepared.num_steps, prepared.state, known(prepared.config.optim.lr)
    schedule = config.schedule.build(num_steps, len(task.train), prepared.batch_size)
    for step in range(num_steps):
        around.check_stop()
        prepared.stepper.step(state, prepared.batches.at(step), peak * schedule.factor(step))
        state.progress.step += 1
    return state.weights_to_use()
