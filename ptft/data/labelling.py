"""What a task makes of its records' labels: one class, several classes, or numbers for each image."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ptft.config.wording import rounded
from ptft.data.records import Record, Source
from ptft.errors import DataError
from ptft.runtime import constant

_LISTED = 12


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each target over the training images, in the targets' own units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def standardize(self, values: Tensor) -> Tensor:
        """Float64 (N, K) in the targets' units, to standard deviations from the mean."""
        return (values - _like(values, self.mean)) / _like(values, self.std)

    def restore(self, values: Tensor) -> Tensor:
        """Float64 (N, K) in standard deviations from the mean, to the targets' units."""
        return values * _like(values, self.std) + _like(values, self.mean)


def _like(values: Tensor, numbers: tuple[float, ...]) -> Tensor:
    return constant(numbers, values.device, values.dtype)


class Labelling(Protocol):
    """The labels of one kind of task."""

    @property
    def nouns(self) -> tuple[str, str]:
        """What a row of the head stands for, singular and plural: `class`, `classes`."""
        ...

    def choose(self, source: Source, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], list[Record]]:
        """Class (target) names in the order of the head's rows, and the records that the task is about.

        Args:
            source: all there is.
            wanted: names to use; None for all.

        Raises:
            DataError: the source lacks a name, or validation and test have one that training has not.
        """
        ...

    def strata(self, record: Record) -> Sequence[str | None]:
        """The groups that an image is in, of each of which a held-out part gets its share; at least one."""
        ...

    def check_train(self, records: Sequence[Record], classes: Sequence[str], origin: str) -> None:
        """Raises DataError where these training records are not enough to learn the classes from."""
        ...

    def encode(self, records: Sequence[Record], classes: Sequence[str]) -> Tensor:
        """The labels of N records as a tensor, a row each."""
        ...

    def counts(self, labels: Tensor, num_classes: int) -> list[int]:
        """How many of the encoded labels have each class (target)."""
        ...

    def told(self, labels: Tensor, num_classes: int) -> list[str]:
        """What there is of each class (target), for a table."""
        ...

    def scale(self, labels: Tensor, classes: Sequence[str]) -> Scale | None:
        """What encoded training labels are standardised by; None where they are not numbers.

        Raises:
            DataError: a target never changes.
        """
        ...

    def strangers(self, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
        """Names of classes that records have and `classes` has not, sorted."""
        ...

    def text(self, record: Record) -> str:
        """The label of a record, for the fingerprint of a list of them."""
        ...


@dataclass(frozen=True)
class OneClass:
    """A class for each image; encoded as its place among the classes, int64 (N,), -1 without a known one."""

    nouns: tuple[str, str] = ("class", "classes")

    def choose(self, source: Source, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], list[Record]]:
        classes = _known(source, wanted)
        strangers = self.strangers(source.records, source.classes)
        if wanted is None and strangers:
            raise DataError(
                f"{source.origin}: class {quoted(strangers)} is in validation or test but not in train. "
                "Name the classes to use in data.classes, or remove those folders."
            )
        chosen = set(classes)
        return classes, [record for record in source.records if record.label in chosen]

    def strata(self, record: Record) -> Sequence[str | None]:
        return (record.label,)

    def check_train(self, records: Sequence[Record], classes: Sequence[str], origin: str) -> None:
        _check_each_class({record.label for record in records}, classes, origin)
        if len(classes) < 2:
            raise DataError(f"{origin}: one class ({quoted(classes)}) is not enough to learn to tell apart.")

    def encode(self, records: Sequence[Record], classes: Sequence[str]) -> Tensor:
        index = {name: position for position, name in enumerate(classes)}
        return torch.tensor([-1 if record.label is None else index.get(record.label, -1) for record in records])

    def counts(self, labels: Tensor, num_classes: int) -> list[int]:
        return torch.bincount(labels, minlength=num_classes).tolist()

    def told(self, labels: Tensor, num_classes: int) -> list[str]:
        return [f"{count:,}" for count in self.counts(labels, num_classes)]

    def scale(self, labels: Tensor, classes: Sequence[str]) -> Scale | None:
        return None

    def strangers(self, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
        return sorted({record.label for record in records if record.label is not None} - set(classes))

    def text(self, record: Record) -> str:
        return str(record.label)


ONE_CLASS = OneClass()
"""Of a single-label task."""


@dataclass(frozen=True)
class SeveralClasses:
    """Any number of classes for each image; encoded as 0 and 1, float32 (N, K)."""

    nouns: tuple[str, str] = ("class", "classes")

    def choose(self, source: Source, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], list[Record]]:
        classes = _known(source, wanted)
        strangers = self.strangers(source.records, source.classes)
        if wanted is None and strangers:
            raise DataError(
                f"{source.origin}: class {quoted(strangers)} is in validation or test but not in train. "
                "Name the classes to use in data.classes."
            )
        return classes, list(source.records)

    def strata(self, record: Record) -> Sequence[str | None]:
        return record.labels or (None,)

    def check_train(self, records: Sequence[Record], classes: Sequence[str], origin: str) -> None:
        _check_each_class({name for record in records for name in record.labels}, classes, origin)
        counts = Counter(name for record in records for name in record.labels)
        if always := [name for name in classes if counts[name] == len(records)]:
            raise DataError(
                f"{origin}: every training image has class {quoted(always)}: there is nothing to tell it from. "
                "Leave it out with data.classes."
            )

    def encode(self, records: Sequence[Record], classes: Sequence[str]) -> Tensor:
        encoded = torch.zeros(len(records), len(classes))
        index = {name: position for position, name in enumerate(classes)}
        for row, record in enumerate(records):
            for name in record.labels:
                if name in index:
                    encoded[row, index[name]] = 1
        return encoded

    def counts(self, labels: Tensor, num_classes: int) -> list[int]:
        return [round(count) for count in labels.double().sum(dim=0).tolist()]

    def told(self, labels: Tensor, num_classes: int) -> list[str]:
        return [f"{count:,}" for count in self.counts(labels, num_classes)]

    def scale(self, labels: Tensor, classes: Sequence[str]) -> Scale | None:
        return None

    def strangers(self, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
        return sorted({name for record in records for name in record.labels} - set(classes))

    def text(self, record: Record) -> str:
        return "\x1f".join(sorted(record.labels))


@dataclass(frozen=True)
class Numbers:
    """A number for each target and image; encoded as they are, float64 (N, K)."""

    nouns: tuple[str, str] = ("target", "targets")

    def choose(self, source: Source, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], list[Record]]:
        return source.classes, list(source.records)

    def strata(self, record: Record) -> Sequence[str | None]:
        return (None,)

    def check_train(self, records: Sequence[Record], classes: Sequence[str], origin: str) -> None:
        if not records:
            raise DataError(f"{origin}: no training image.")

    def encode(self, records: Sequence[Record], classes: Sequence[str]) -> Tensor:
        values = [record.targets for record in records]
        return torch.tensor(values, dtype=torch.float64).view(len(records), len(classes))

    def counts(self, labels: Tensor, num_classes: int) -> list[int]:
        return [len(labels)] * num_classes

    def told(self, labels: Tensor, num_classes: int) -> list[str]:
        means, least, most = (values.tolist() for values in (labels.mean(0), labels.amin(0), labels.amax(0)))
        return [
            f"{rounded(mean)} on average, {rounded(low)} to {rounded(high)}"
            for mean, low, high in zip(means, least, most, strict=True)
        ]

    def scale(self, labels: Tensor, classes: Sequence[str]) -> Scale | None:
        mean, std = labels.mean(dim=0), labels.std(dim=0, correction=0)
        for name, centre, spread in zip(classes, mean.tolist(), std.tolist(), strict=True):
            if not spread > 1e-9 * abs(centre):
                raise DataError(f"target {name!r} is {centre:g} for every training image: there is nothing to learn.")
        return Scale(tuple(mean.tolist()), tuple(std.tolist()))

    def strangers(self, records: Sequence[Record], classes: Sequence[str]) -> list[str]:
        return []

    def text(self, record: Record) -> str:
        return " ".join(map(repr, record.targets))


def _known(source: Source, wanted: Sequence[str] | None) -> tuple[str, ...]:
    known = set(source.classes)
    if missing := [name for name in wanted or () if name not in known]:
        raise DataError(
            f"data.classes: {source.origin} has no class {quoted(missing)}. It has {quoted(source.classes)}."
        )
    return tuple(wanted or source.classes)


def _check_each_class(present: set[str | None] | set[str], classes: Sequence[str], origin: str) -> None:
    """Raises DataError when a class is missing from training."""
    if empty := [name for name in classes if name not in present]:
        raise DataError(f"{origin}: no training image of class {quoted(empty)}.")


def quoted(names: Iterable[str]) -> str:
    """`'a', 'b'`, and how many more."""
    listed = [repr(name) for name in names]
    rest = len(listed) - _LISTED
    return ", ".join(listed[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
