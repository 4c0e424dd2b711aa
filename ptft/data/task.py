"""A task ready to train on: classes, parts decoded to uint8, channel statistics, fingerprint."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ptft.data.cache import Cache, remembered
from ptft.data.decode import decoder
from ptft.data.images import ChosenImages, DecodedImages, Images, Loaded, channels_of
from ptft.data.labelling import ONE_CLASS, Labelling, Scale
from ptft.data.records import PARTS, Part, Record, Source
from ptft.data.shards.store import RecordNames, ShardRecords
from ptft.data.sources.base import DataConfig, NumViews, check_store_size
from ptft.data.splits import split
from ptft.data.stored import load
from ptft.errors import DataError, UsageError
from ptft.runtime import constant

_STATISTICS_SAMPLE = 10_000


@dataclass(frozen=True)
class Examples:
    """The labelled images of one part.

    Attributes:
        images: N images, uint8 (C, S, S) each.
        labels: int64 (N,), indices into the task's classes; multi-label float32 (N, K) of 0 and 1; regression
            float64 (N, K), the targets in their own units.
        names: N names for messages.
        groups: int64 (G + 1,), for streaming: the row at which each shard, or part of one, begins, rows being in the
            order they lie there; None for others.
        larger: the same images at data.store_size, to cut random resized crops from; None where they are kept at S
            alone. Everything else that looks at images takes `images`.
    """

    images: Images
    labels: Tensor
    names: Sequence[str]
    groups: Tensor | None = None
    larger: Images | None = None

    @property
    def to_augment(self) -> Images:
        """What an augmentation is given: the larger images, where there are any."""
        return self.images if self.larger is None else self.larger

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, rows: Tensor) -> "Examples":
        """Those at `rows`, int64 (n,), in that order."""
        names = [self.names[row] for row in rows.tolist()]
        larger = None if self.larger is None else ChosenImages(self.larger, rows)
        return Examples(ChosenImages(self.images, rows), self.labels[rows], names, larger=larger)


@dataclass(frozen=True)
class Format:
    """What an image must be before a model sees it; but for `num_views` kept through finetuning, as the source had it.

    Attributes:
        image_size: side in pixels.
        in_channels: 1 (grey) or 3 (RGB).
        mean, std: per channel, of pixels scaled to [0, 1].
        num_views: of each image that is judged; see `views_of`.
    """

    image_size: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_views: NumViews = 1

    def normalize(self, images: Tensor) -> Tensor:
        """Images in [0, 255], any dtype (B, C, S, S), to float32 with mean 0 and variance 1 per channel."""
        mean, std = _column(self.mean, images.device), _column(self.std, images.device)
        # In place: a fresh megabyte costs more time than the arithmetic on it.
        return images.to(torch.float32, copy=True).sub_(mean).div_(std)


@functools.lru_cache(maxsize=64)
def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    """255 times the values, float32 (1, C, 1, 1)."""
    with torch.inference_mode(False):
        return constant(values, device).view(1, -1, 1, 1) * 255


@dataclass(frozen=True)
class Task:
    """Source or target task.

    Attributes:
        origin: phrase for messages, for example `folder photos/`.
        classes: names in the order of the labels; of a regression its targets' names.
        format: how images are given to the model.
        parts: train, and validation and test where they are not empty.
        fingerprint: SHA-256 over classes, labels and the content of every training image.
        listing: SHA-256 over which image, by name, is in which part.
        held_out: SHA-256 over the content of every validation and test image; empty when not all parts were read.
        bad_images: one line for each image that was left out.
        labelling: what kind of labels there are.
        scale: what the targets of a regression are standardised by; None for classes.
        passed_over: of its source.
    """

    origin: str
    classes: tuple[str, ...]
    format: Format
    parts: Mapping[Part, Examples]
    fingerprint: str
    listing: str
    held_out: str
    bad_images: Sequence[str]
    labelling: Labelling = ONE_CLASS
    scale: Scale | None = None
    passed_over: str = ""

    @property
    def train(self) -> Examples:
        """The training part; always there."""
        return self.parts["train"]

    def class_counts(self, part: Part) -> list[int]:
        """Number of images of each class in a part, in class order; of those with a value for each target."""
        if part not in self.parts:
            return [0] * len(self.classes)
        return self.labelling.counts(self.parts[part].labels, len(self.classes))


def prepare(
    source: Source,
    config: DataConfig,
    *,
    seed: int,
    in_channels: int | None = None,
    known: Format | None = None,
    read: Sequence[Part] = PARTS,
    labelling: Labelling = ONE_CLASS,
    check_stop: Callable[[], None] = lambda: None,
    cache: Cache | None = None,
) -> Task:
    """Splits a source and decodes its images.

    Args:
        source: what the data source found.
        config: the data section.
        seed: the run's seed (few-shot subsets).
        in_channels: what the model was told to expect; None for as many as the images have.
        known: the format a checkpoint was trained with, kept but for the views and an image_size the config asks for.
        read: the parts to decode, train among them; the task is without the others.
        labelling: what kind of labels there are.
        check_stop: called between images; raises when a signal asked to stop.
        cache: keeps decoded images for later runs; None decodes them anew.

    Raises:
        DataError: see `split`, `load_images` and `Labelling`.
        UsageError: data.mean and data.std are for another number of channels; data.store_size does not suit the images.
    """
    classes, records = split(source, config, seed=seed, labelling=labelling)
    wanted: dict[Part, list[Record]] = {part: records[part] if part in read else [] for part in PARTS}
    size = config.image_size or (known.image_size if known else None)
    channels = known.in_channels if known else in_channels
    store_size = _store_size(config, size)
    kept: Sequence[Record] = [record for part in PARTS for record in wanted[part]]
    bad: Sequence[str] = ()
    if config.decodes_later:
        parts, digests = _undecoded(wanted, classes, config, size, channels, labelling)
    else:
        loaded = load(kept, config, size=size, channels=channels, check_stop=check_stop, cache=cache)
        parts, kept = _divide(loaded, wanted, classes, labelling), loaded.records
        digests, bad = loaded.digests, loaded.bad
    _check_readable(source.origin, parts, classes, labelling)
    shape = parts["train"].images.take(torch.tensor([0])).shape
    if store_size is not None:
        larger_shape = (shape[1], store_size, store_size)
        larger = _larger(parts["train"].images, kept, config, larger_shape, check_stop, cache)
        parts["train"] = replace(parts["train"], larger=larger)
    train = parts["train"]
    fingerprint = _fingerprint(train, digests, classes)
    mean, std = _normalisation(config, known, train.images, shape[1], fingerprint, cache)
    return Task(
        origin=source.origin,
        classes=classes,
        format=Format(shape[-1], shape[1], mean, std, config.num_views),
        parts=parts,
        fingerprint=fingerprint,
        listing=listing_of(records, labelling),
        held_out=hashlib.sha256(b"".join(digests[len(train) :])).hexdigest() if set(PARTS) <= set(read) else "",
        bad_images=bad,
        labelling=labelling,
        scale=labelling.scale(train.labels, classes),
        passed_over=source.passed_over,
    )


def prepare_part(
    records: Sequence[Record],
    classes: Sequence[str],
    config: DataConfig,
    format_: Format,
    *,
    labelling: Labelling = ONE_CLASS,
    cache: Cache | None = None,
) -> tuple[Examples, Sequence[str]]:
    """Decodes records for evaluation or prediction, labels matched to `classes` by name (-1 without a label).

    Returns:
        The images that could be read, and one line for each of the others.
    """
    size, channels = format_.image_size, format_.in_channels
    loaded = load(records, config, size=size, channels=channels, check_stop=lambda: None, cache=cache)
    names = [record.name for record in loaded.records]
    return Examples(loaded.images, labelling.encode(loaded.records, classes), names), loaded.bad


def listing_of(records: Mapping[Part, Sequence[Record]], labelling: Labelling = ONE_CLASS) -> str:
    """SHA-256 over the part, label and name of every image; a part without any may be left out."""
    named = [(part, record) for part, own in records.items() for record in own]
    lines = sorted(f"{part}\0{labelling.text(record)}\0{record.name}" for part, record in named)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _divide(
    loaded: Loaded, records: Mapping[Part, Sequence[Record]], classes: Sequence[str], labelling: Labelling
) -> dict[Part, Examples]:
    """The images of each part, without copying pixels: records are ordered by part, so each is one slice."""
    parts: dict[Part, Examples] = {}
    start = 0
    for part in PARTS:
        members = {id(record) for record in records[part]}
        chosen = [record for record in loaded.records if id(record) in members]
        stop = start + len(chosen)
        if chosen:
            names = [record.name for record in chosen]
            parts[part] = Examples(loaded.images.slice(start, stop), labelling.encode(chosen, classes), names)
        start = stop
    return parts


def _check_readable(origin: str, parts: Mapping[Part, Examples], classes: Sequence[str], labelling: Labelling) -> None:
    """Raises DataError where no training image of a class could be read."""
    counts = labelling.counts(parts["train"].labels, len(classes)) if "train" in parts else [0] * len(classes)
    if missing := [name for name, count in zip(classes, counts, strict=True) if not count]:
        noun = labelling.nouns[0]
        raise DataError(f"{origin}: no readable training image of {noun} {', '.join(map(repr, missing))}.")


def _undecoded(
    wanted: Mapping[Part, Sequence[Record]],
    classes: Sequence[str],
    config: DataConfig,
    size: int | None,
    channels: int | None,
    labelling: Labelling,
) -> tuple[dict[Part, Examples], Sequence[bytes]]:
    """Parts whose images stay in their shards until they are asked for, and the digests that scanning them gave.

    Raises:
        DataError: an image that is looked at for its channels cannot be read.
        UsageError: nothing says how large the images are to be.
    """
    if size is None:
        raise UsageError(
            f"data.image_size is missing: {config.name} does not decode all images first to see whether they agree in "
            "size. Write for example data.image_size: 224."
        )
    found = {part: ShardRecords.of(wanted[part]) for part in PARTS if wanted[part]}
    if config.window is not None:
        # Also what goes through a part in order, as evaluation does, then reads shard by shard.
        found = {part: records.by_place() for part, records in found.items()}
    channels = channels or channels_of(found["train"], config.max_pixels)
    parts: dict[Part, Examples] = {}
    for part, records in found.items():
        images = DecodedImages(records, (channels, size, size), config.max_pixels)
        groups = None if config.window is None else torch.from_numpy(records.group_starts())
        parts[part] = Examples(images, labelling.encode(records, classes), RecordNames(records), groups)
    return parts, [digest for records in found.values() for digest in records.digests()]


def _store_size(config: DataConfig, image_size: int | None) -> int | None:
    """The side at which training images are kept besides; None where they need not be.

    Raises:
        UsageError: it does not suit the side that images are given in, or nothing says what that is.
    """
    if config.store_size is None:
        return None
    if image_size is None:
        raise UsageError(
            "data.store_size: nothing says in what size the images are given to the model. Set data.image_size too."
        )
    try:
        check_store_size(config.store_size, image_size)
    except ValueError as error:
        raise UsageError(f"data.{error}") from error
    return config.store_size if config.store_size > image_size else None


def _larger(
    images: Images,
    records: Sequence[Record],
    config: DataConfig,
    shape: tuple[int, int, int],
    check_stop: Callable[[], None],
    cache: Cache | None,
) -> Images:
    """The training images once more, of another shape (C, S, S); `records` begin with theirs.

    Decoded anew: what is made of them at their own size, fingerprints before all, must not depend on this.

    Raises:
        DataError: an image can no longer be read.
    """
    if isinstance(images, DecodedImages):
        return replace(images, shape=shape)
    config = config.model_copy(update={"on_bad_image": "error"})  # all of these could be read a moment ago
    channels, size, _ = shape
    own = records[: len(images)]
    return load(own, config, size=size, channels=channels, check_stop=check_stop, cache=cache).images


def _normalisation(
    config: DataConfig,
    known: Format | None,
    images: Images,
    channels: int,
    fingerprint: str,
    cache: Cache | None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel: what the config says, else the source's, else measured."""
    if config.mean is None or config.std is None:
        return (known.mean, known.std) if known else _known_statistics(images, fingerprint, cache)
    if len(config.mean) != channels:
        raise UsageError(f"data.mean and data.std: give {channels}, one for each channel, not {len(config.mean)}.")
    return config.mean, config.std


def _known_statistics(
    images: Images, fingerprint: str, cache: Cache | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`pixel_statistics`, or what they were when the same images were measured earlier."""
    shape = tuple(images.take(torch.tensor([0])).shape)
    what = repr(("statistics", _STATISTICS_SAMPLE, decoder(), fingerprint, shape))
    mean, std = json.loads(remembered(cache, what, lambda: json.dumps(pixel_statistics(images)).encode()))
    return tuple(mean), tuple(std)


def pixel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, over all images, or some 10,000 of more, spread evenly."""
    stride = max(1, len(images) // _STATISTICS_SAMPLE)
    total = squares = torch.zeros(1, dtype=torch.float64)
    count = 0
    for rows in torch.arange(0, len(images), stride).split(256):
        pixels = images.take(rows).double().div_(255)
        total = total + pixels.sum(dim=(0, 2, 3))
        squares = squares + pixels.square().sum(dim=(0, 2, 3))
        count += pixels.numel() // pixels.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())


def _fingerprint(train: Examples, digests: Sequence[bytes], classes: Sequence[str]) -> str:
    """The same whatever size the images are brought to and wherever they are kept; training images come first."""
    sha = hashlib.sha256("\0".join(classes).encode("utf-8", "surrogateescape"))
    sha.update(train.labels.numpy().data)
    sha.update(b"".join(digests[: len(train)]))
    return sha.hexdigest()
