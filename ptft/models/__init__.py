"""The models that a config can name: `Model` is their union, and the union is the registry.

A family is one file with a config component (name, fields, `build`), a sibling with the network, and one line
in `Model`. The sibling is imported inside `build`, never at the top: importing torch takes seconds, while a
config is read, checked and listed in milliseconds, and `ptft --help` must not wait. So nothing that is
imported with this package may import torch or torchvision (a test holds it).

::

    from pydantic import TypeAdapter

    config = TypeAdapter(Model).validate_python({"name": "small-cnn"})
    classifier = config.build(num_classes=10, in_channels=1)
"""

from typing import Annotated

from pydantic import Field

from ptft.models.base import ModelConfig
from ptft.models.small import SmallCnn, SmallResnet, SmallVgg
from ptft.models.zoo import TorchvisionCnn

Model = Annotated[SmallCnn | SmallResnet | SmallVgg | TorchvisionCnn, Field(discriminator="name")]
"""Any model of a config, chosen by its `name`."""

__all__ = ["Model", "ModelConfig", "SmallCnn", "SmallResnet", "SmallVgg", "TorchvisionCnn"]
