"""The 10,000 Fashion-MNIST images that ship inside the package."""

from importlib.resources import files
from typing import Literal

from ptft.data.records import Record, Source
from ptft.data.sources.base import DataConfig
from ptft.data.sources.idx import read_pair

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class EmbeddedFashionMnist(DataConfig):
    """10,000 grey images of clothes, 28x28, 10 classes; comes with ptft

    The test set of Fashion-MNIST (Zalando SE 2017, MIT licence), here without parts: ptft splits it.
    """

    name: Literal["fashion-mnist-10k"] = "fashion-mnist-10k"
    """The 10,000 test images of Fashion-MNIST, embedded in the package."""

    def open(self) -> Source:
        """Reads the embedded files.

        Raises:
            DataError: the installed files are damaged.
        """
        folder = files("ptft.data") / "embedded"
        images, labels = read_pair(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")
        records = [
            Record(image, FASHION_CLASSES[label], None, f"t10k[{index}]")
            for index, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        return Source(records, FASHION_CLASSES, "the embedded Fashion-MNIST images")
