"""The keys that every data source shares: which classes, what is held out, how images are decoded."""

import os
import sys
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, Strict, field_validator, model_validator

from ptft.config.base import Config, Names, different
from ptft.data.records import Part, Source

MIN_IMAGE_SIZE = 8
"""Least that data.image_size may be, in pixels."""

PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What folders and csv files call the parts, in lower case."""


def _possible(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path cannot contain a NUL character")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise ValueError("a path cannot contain half a character") from None
    return path


PathText = Annotated[str, Field(min_length=1), AfterValidator(_possible)]
"""A path as the user typed it; relative paths start at the working directory, `~` is the home folder."""


NumViews = Literal[1, 2, 6]
"""How many views of an image can be judged; `ptft.data.views` makes them."""

Statistics = Annotated[
    tuple[Annotated[float, Strict(False), Field(ge=0, le=1)], ...], Strict(False), Field(min_length=1, examples=[[0.5]])
]
"""A number for each channel."""


def check_store_size(store_size: int, image_size: int) -> None:
    """Raises ValueError where images would have to be enlarged from what is kept of them."""
    if store_size < image_size:
        raise ValueError(
            f"store_size is {store_size}, less than the image_size of {image_size} that images are given in. Write "
            f"for example {round(1.5 * image_size)}, or leave it out."
        )


class DataConfig(Config):
    """Base of all data sources; `open` lists what a source holds and decodes nothing."""

    name: str
    """Which kind of source this is; `ptft list datasets` shows all."""

    classes: Names | None = Field(default=None, examples=[["ants", "bees"]])
    """Use only these classes, in this order; default: every class the source has."""

    labels_per_class: int | None = Field(default=None, ge=1)
    """Use this many labelled images of each class, those for validation among them, drawn by the seed; default: all."""

    validation: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the training images of each class (of all in a regression) held out for validation, used when the
    source has no validation part of its own."""

    validation_per_class: int | None = Field(default=None, ge=1)
    """Hold out this many training images of each class for validation instead of a fraction, before
    `labels_per_class` are drawn from the rest; so that few labels are still judged on many images."""

    test: float = Field(default=0.2, ge=0, lt=1)
    """Fraction of the images of each class (of all in a regression) held out for the test, used when the source has
    neither a test part nor a validation part of its own."""

    split_seed: int = 0
    """Decides which images are held out. Apart from the run's seed, so that runs of several seeds share one
    test set."""

    image_size: int | None = Field(default=None, ge=MIN_IMAGE_SIZE, le=2048)
    """Height and width in pixels that every image is brought to; default: the checkpoint's in finetune,
    otherwise the images' own when they agree."""

    store_size: Annotated[int, Field(ge=MIN_IMAGE_SIZE, le=2048, examples=[320])] | None = None
    """Height and width in pixels at which training images are kept besides, for the random resized crops of
    `augment.name: photo`: a crop is then scaled down from there and stays sharp, where one of `image_size` is enlarged.
    About 1.5 times `image_size` does for most. Default: no larger than `image_size`."""

    mean: Statistics | None = None
    """Mean of each channel, of pixels in [0, 1], that images are normalised by; default: the source's in finetune,
    otherwise measured. Only together with `std`."""

    std: Statistics | None = None
    """Standard deviation of each channel, as `mean`."""

    num_views: NumViews = 1
    """Views of each image whose outputs are averaged where a classifier is judged or predicts, which then takes so many
    times as long (test-time augmentation): 1, the image; 2, with its mirror image, wrong where left and right
    differ, as in text; 6, with both shifted by a pixel two ways."""

    on_bad_image: Literal["error", "skip"] = "error"
    """What an image that cannot be decoded does: end the run with an error, or be left out and counted."""

    max_bad_images: int = Field(default=100, ge=0)
    """With `on_bad_image: skip`, more bad images than this are an error after all."""

    max_pixels: int = Field(default=100_000_000, ge=1)
    """Images of more pixels (width x height) than this are refused before they are decoded."""

    leak_check: bool = True
    """Look for test images that the training images, or those of the source, show too, before the final test."""

    @field_validator("classes")
    @classmethod
    def _two_different_classes(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is None:
            return None
        if len(different(classes)) < 2:
            raise ValueError("a classifier needs at least 2 classes")
        return classes

    @model_validator(mode="after")
    def _whole_statistics(self) -> Self:
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std go together: give both, with a number for each channel.")
        if 0 in (self.std or ()):
            raise ValueError("std is divided by: it must be more than 0.")
        return self

    @model_validator(mode="after")
    def _store_holds_images(self) -> Self:
        if self.store_size is not None and self.image_size is not None:
            check_store_size(self.store_size, self.image_size)
        return self

    def tolerant(self) -> Self:
        """The same with every bad image left out, so that the others can be looked at."""
        return self.model_copy(update={"on_bad_image": "skip", "max_bad_images": sys.maxsize})

    def home(self) -> Path | None:
        """The folder that the names of its image files are relative to; None for a source that holds no image files."""
        return None

    @property
    def decodes_later(self) -> bool:
        """Whether images are decoded when they are asked for, and not all at the start."""
        return False

    @property
    def window(self) -> int | None:
        """Within how many neighbouring images an epoch is shuffled; None for all of them."""
        return None

    @abstractmethod
    def open(self) -> Source:
        """Lists the images and labels of the source without decoding any image.

        Raises:
            DataError: the source is missing, empty or contradictory.
        """
