"""Augmentation of whole batches with per-sample randomness; the union of its configs is the registry."""

from typing import Annotated

from pydantic import Field

from ptft.augment.configs import Augmentation, NoAugment, Photo, Standard, Trivial

Augment = Annotated[NoAugment | Standard | Photo | Trivial, Field(discriminator="name")]

__all__ = ["Augment", "Augmentation", "NoAugment", "Photo", "Standard", "Trivial"]
