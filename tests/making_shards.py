"""What tests of large data make: shards by hand, and sections of configs that read them."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ptft.data.sources import Hub
from ptft.data.task import Task, prepare


def hub(path: Path, **keys: Any) -> Hub:
    return Hub.model_validate({"name": "hub", "path": str(path)} | keys)


def task_of(config: Any, **arguments: Any) -> Task:
    return prepare(config.open(), config, seed=0, **arguments)


def write_tar(path: Path, members: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> Path:
    """A tar file with these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def png(seed: int, size: int = 12) -> bytes:
    """A noisy image of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def samples(count: int, classes: Sequence[str] = ("cat", "dog"), start: int = 0) -> list[tuple[str, bytes]]:
    """Members of `count` samples, KEY.png and KEY.cls, classes by turns."""
    members = []
    for index in range(start, start + count):
        members += [(f"{index:04d}.png", png(index)), (f"{index:04d}.cls", classes[index % len(classes)].encode())]
    return members


def write_parquet(path: Path, folder: Path, rows_per_group: int, names: Sequence[str] | None = None) -> Path:
    """The images of a folder of class folders as a Parquet file, as `datasets` writes them.

    Args:
        path: of the file.
        folder: one folder per class.
        rows_per_group: images in a row group.
        names: class names noted as features, the labels being their numbers; None for labels as text.
    """
    import pyarrow as pa
    import pyarrow.parquet

    files = sorted(folder.rglob("*.*"))
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    labels: list[Any] = [names.index(file.parent.name) if names else file.parent.name for file in files]
    table = pa.table({"image": images, "label": labels})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=rows_per_group)
    return path
