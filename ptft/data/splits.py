"""Which image is for training, validation or test: by name, stratified, the same whatever else changes."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from ptft.data.labelling import ONE_CLASS, Labelling, quoted
from ptft.data.records import PARTS, Part, Record, Source
from ptft.data.sources.base import DataConfig
from ptft.errors import DataError

Parts = dict[Part, list[Record]]
_Strata = Callable[[Record], Sequence[str | None]]


def split(
    source: Source, config: DataConfig, *, seed: int, labelling: Labelling = ONE_CLASS
) -> tuple[tuple[str, ...], Parts]:
    """Divides a source's records into disjoint parts.

    The source's own parts are kept. Where it has none, each class is ranked by a hash of (split_seed, image
    name) and the first ones are held out: a class is divided by the names in it alone, so choosing other
    classes, or another seed of the run, never moves a test image into training (adding images to a class can).
    Where images have several classes, the rarest is divided first, and each keeps an image for training. The images
    of a regression are all of one kind.
    A few-shot subset is ranked by the run's seed; with one seed 5 labels per class are among the 20. With
    validation_per_class the validation images are set aside before it is drawn: the same ones for every subset.

    Args:
        source: what a data source found.
        config: classes, labels_per_class, validation, validation_per_class, test, split_seed.
        seed: the run's seed, for labels_per_class.
        labelling: of the task.

    Returns:
        Class names in the order of the labels, and the records of each part.

    Raises:
        DataError: unknown or empty classes; fewer images of a class than asked for; a class in validation or test
            that training does not know.
    """
    classes, records = labelling.choose(source, config.classes)
    parts: Parts = {part: [record for record in records if record.part == part] for part in PARTS}
    unassigned = [record for record in records if record.part is None]
    own_validation, own_test = bool(parts["validation"]), bool(parts["test"])
    pool = unassigned + parts["train"]
    held_key = ("split", str(config.split_seed))
    if not own_test and not own_validation and not parts["train"]:
        parts["test"], pool = _hold_out(pool, config.test, held_key, labelling.strata)
    if not own_validation and config.validation_per_class is not None:
        parts["validation"] = _first_per_class(
            pool, "validation_per_class", config.validation_per_class, held_key, leave=1
        )
        held = {id(record) for record in parts["validation"]}
        pool = [record for record in pool if id(record) not in held]
    if config.labels_per_class is not None:
        pool = _first_per_class(pool, "labels_per_class", config.labels_per_class, ("few", str(seed)))
    if not parts["validation"] and config.validation > 0:
        parts["validation"], pool = _hold_out(pool, config.validation, (*held_key, "validation"), labelling.strata)
    parts["train"] = pool
    labelling.check_train(pool, classes, source.origin)
    return classes, parts


def subset(records: Sequence[Record], most: int, *, seed: int) -> list[Record]:
    """About `most` of the records, each class in proportion but at least 2 of each; in order; all when they are few.

    Args:
        records: labelled.
        most: how many are wanted; rounding down each class may give some less, and small classes some more.
        seed: which ones, by a hash of it and their names.
    """
    if len(records) <= most:
        return list(records)
    chosen: set[int] = set()
    for members in _by_class(records, ("subset", str(seed))).values():
        count = max(2, len(members) * most // len(records))
        chosen.update(id(record) for record in members[:count])
    return [record for record in records if id(record) in chosen]


def _by_class(
    records: Iterable[Record], key: tuple[str, ...], strata: _Strata = lambda record: (record.label,)
) -> dict[str | None, list[Record]]:
    """Records of each class (of each of their strata), ranked by a hash of the key and the image's name."""
    ranked = sorted((_rank(record.name, key), position, record) for position, record in enumerate(records))
    classes: dict[str | None, list[Record]] = defaultdict(list)
    for _, _, record in ranked:
        for stratum in strata(record):
            classes[stratum].append(record)
    return classes


def _rank(name: str, key: tuple[str, ...]) -> bytes:
    text = "\0".join((*key, name))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _hold_out(
    records: Sequence[Record], fraction: float, key: tuple[str, ...], strata: _Strata
) -> tuple[list[Record], list[Record]]:
    """Splits off `fraction` of each stratum (rounded; at least one image of each stays behind).

    The rarest stratum first, which then counts for the others that its images are in (after the iterative
    stratification of Sechidis et al. 2011, whose order follows what is still undecided).
    """
    groups = sorted(_by_class(records, key, strata).values(), key=len)
    held: set[int] = set()
    decided: set[int] = set()
    for members in groups:
        count = min(round(len(members) * fraction), len(members) - 1) - sum(id(record) in held for record in members)
        free = [id(record) for record in members if id(record) not in decided]
        held.update(free[: max(0, count)])
        decided.update(free)
    for members in groups:
        if all(id(record) in held for record in members):  # through other, rarer strata
            held.discard(id(members[-1]))
    return (
        [record for record in records if id(record) in held],
        [record for record in records if id(record) not in held],
    )


def _first_per_class(
    records: Sequence[Record], asked_by: str, count: int, key: tuple[str, ...], leave: int = 0
) -> list[Record]:
    """`count` records of each class, in their order, with `leave` more of it; `asked_by` is the config's key for it."""
    chosen: set[int] = set()
    for label, members in _by_class(records, key).items():
        if len(members) < count + leave:
            raise DataError(
                f"data.{asked_by}: class {quoted([label or ''])} has only {len(members)} training "
                f"image{'' if len(members) == 1 else 's'}, "
                f"{count} were asked for{'' if len(members) < count else ', which leaves none to train on'}."
            )
        chosen.update(id(record) for record in members[:count])
    return [record for record in records if id(record) in chosen]
