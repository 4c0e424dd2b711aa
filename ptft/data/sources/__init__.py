"""Where images and labels come from: one component per kind of source, all yielding `Source`."""

from typing import Annotated

from pydantic import Field

from ptft.data.sources.base import DataConfig
from ptft.data.sources.embedded import EmbeddedFashionMnist
from ptft.data.sources.folder import Folder, open_parts
from ptft.data.sources.hub import Hub
from ptft.data.sources.table import Csv
from ptft.data.sources.torchvision import Torchvision

Data = Annotated[Folder | Csv | Torchvision | Hub | EmbeddedFashionMnist, Field(discriminator="name")]
"""The registry of data sources."""

__all__ = ["Csv", "Data", "DataConfig", "EmbeddedFashionMnist", "Folder", "Hub", "Torchvision", "open_parts"]
