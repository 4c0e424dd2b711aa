"""What changed since a run began, in its config or in its data: what may, what may not, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from ptft.config.yaml_text import one_line
from ptft.errors import DataError, UsageError
from ptft.race.racers import as_decided
from ptft.settings import FinetuneConfig, RunConfig, RunConfigT

if TYPE_CHECKING:
    from ptft.checkpoint import Metadata
    from ptft.data.task import Task

_SAME: Final = "the weights do not depend on it"
_CONTENT: Final = "the images themselves are compared"
_ROUNDING: Final = "the weights are no longer to the bit those of a run without the change"
_LENGTH: Final = "the learning rate follows the schedule of the new length from here on"

MAY_CHANGE: Final[dict[str, str]] = {
    "out": _SAME,
    "device": _ROUNDING,
    "data.root": _CONTENT,
    "data.path": _CONTENT,
    "data.download": _CONTENT,
    "data.outside_root": _CONTENT,
    "data.on_bad_image": _CONTENT,
    "data.max_bad_images": _CONTENT,
    "data.max_pixels": _CONTENT,
    "transfer.from": "the file itself is compared",
    "train.steps": _LENGTH,
    "train.epochs": _LENGTH,
    "train.examples": _LENGTH,
    "train.accumulate": _ROUNDING,
    "train.compile": _ROUNDING,
    "train.evaluate_every": "the best checkpoint is chosen at other steps",
    "train.patience": "training may end at another step",
    "train.max_minutes": "training may end at another step",
    "train.on_nonfinite": "",
    "train.max_nonfinite": "",
    "checkpoint.every": _SAME,
    "checkpoint.keep": _SAME,
    "tracking": _SAME,
}
"""Keys that may differ when a run goes on, each with what comes of it. Every other key is refused."""

LENGTH: Final = ("train.steps", "train.epochs", "train.examples")

_ENDS: Final = {*LENGTH, "train.patience", "train.max_minutes"}
"""What decides when training ends: with one of these changed a finished run goes on."""

_LEFT_OPEN: Final = {
    "model",
    "model.in_channels",
    "data.image_size",
    "transfer.from",
    "optim.lr",
    "data.validation_per_class",
    "train.batch_size",
    "train.precision",
    "train.memory_format",
    "train.evaluate_every",
    "checkpoint.every",
}
"""Keys that a run (or a comparison) fills in at its start where the config leaves them open: open again, they are what
they were."""


@dataclass(frozen=True)
class ConfigDrift:
    """How the config given now differs from that of the run in the folder.

    Attributes:
        refused: one line for each key that must not differ.
        accepted: one sentence for each that may.
        prolongs: whether training may now end later than it did.
        moves_data: whether the images lie elsewhere, or are others.
    """

    refused: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    prolongs: bool = False
    moves_data: bool = False


def compare_configs(stored: RunConfigT, given: RunConfigT) -> tuple[ConfigDrift, RunConfigT]:
    """How two configs differ, and the one to go on with: the run's own with the accepted changes.

    Args:
        stored: the run's, resolved.
        given: as loaded now; keys it leaves open are the run's.

    Raises:
        UsageError: a change is allowed by itself and contradicts the rest of the run's config.
    """
    before, now = flat(stored.model_dump(mode="json")), flat(_as_decided(stored, given).model_dump(mode="json"))
    changed = {key: now.get(key) for key in (before | now) if _differs(key, before, now)}
    drift = ConfigDrift(
        refused=tuple(f"{key}: {_step(key, before, now)}" for key in changed if key not in MAY_CHANGE),
        accepted=tuple(_sentence(key, before, now) for key in changed if key in MAY_CHANGE and key != "out"),
        prolongs=bool(changed.keys() & _ENDS),
        moves_data=bool(changed.keys() & {"data.root", "data.path"}),
    )
    if drift.refused:
        return drift, stored
    merged = stored.model_dump(mode="json")
    for key, value in changed.items():
        section, _, name = key.rpartition(".")
        (merged[section] if section else merged)[name] = value
    try:
        return drift, type(stored).model_validate(merged, context={"stored": True})
    except ValidationError as error:
        raise UsageError(
            f"with the run's other keys: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from error


def _as_decided(stored: RunConfig, given: RunConfig) -> RunConfig:
    if isinstance(stored, FinetuneConfig) and isinstance(given, FinetuneConfig):
        return as_decided(given, stored)
    return given


def flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    """`section.key` of every key; durations stay whole."""
    flat: dict[str, Any] = {}
    for section, value in sections.items():
        flat |= {f"{section}.{key}": own for key, own in value.items()} if isinstance(value, dict) else {section: value}
    return flat


def _differs(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if before.get(key) == now.get(key):
        return False
    section = key.partition(".")[0]
    name = f"{section}.name"
    if section in now and now[section] is None:  # a section left open as a whole
        return section not in _LEFT_OPEN
    if key != name and before.get(name) != now.get(name):
        return False  # another component: its name says it all
    if key in LENGTH and all(now.get(other) is None for other in LENGTH):
        return False
    return not (key in _LEFT_OPEN and now.get(key) in (None, "auto"))


def _step(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"the run has {one_line(before.get(key))}, now {one_line(now.get(key))}"


def _sentence(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    meaning = f"; {MAY_CHANGE[key]}" if MAY_CHANGE[key] else ""
    return f"{key}: was {one_line(before.get(key))}, is now {one_line(now.get(key))}{meaning}."


def check_listing(metadata: "Metadata", config: RunConfig) -> None:
    """Checks that the images named in a config have the names, classes and parts of those that a run trained on.

    Args:
        metadata: of a checkpoint of the run.
        config: of the run, with the place where the images are now.

    Raises:
        DataError: they are others, or cannot be listed.
    """
    from ptft.data.splits import split
    from ptft.data.task import listing_of

    labelling = config.task.labelling()
    source = config.task.open(config.data)
    _, parts = split(source, config.data, seed=config.seed, labelling=labelling)
    if listing_of(parts, labelling) != metadata.lineage[-1].data.listing:
        raise DataError(
            f"{source.origin} has other images than those that the finished run was trained on. Start a new run with "
            "--out."
        )


def compare_data(metadata: "Metadata", task: "Task") -> list[str]:
    """One phrase for each way in which the images are not those that a run began with.

    Args:
        metadata: of a checkpoint of the run.
        task: the data as they are now.
    """
    own = metadata.lineage[-1]
    seen = own.data
    then, now = set(metadata.classes), set(task.classes)
    numbers = {"training": (seen.num_examples, len(task.train))}
    if own.num_validation or "validation" in task.parts:
        numbers["validation"] = (own.num_validation, len(task.parts.get("validation", ())))
    changes = [
        *(f"class {name!r} is gone" for name in metadata.classes if name not in now),
        *(f"class {name!r} is new" for name in task.classes if name not in then),
        *(
            f"{before:,} {part} images then, {count:,} now"
            for part, (before, count) in numbers.items()
            if before != count
        ),
    ]
    if then == now and metadata.classes != task.classes:
        changes.append("the classes are in another order")
    if changes:
        return changes
    if seen.listing != task.listing:
        return ["an image has another name or class, or was added to or removed from another part"]
    if seen.fingerprint != task.fingerprint:
        return ["the content of a training image is another"]
    if seen.held_out not in ("", task.held_out):
        return ["the content of a validation or test image is another"]
    return []
