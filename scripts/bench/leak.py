"""How many planted copies `ptft leak` finds again, how many strangers it takes for copies, and how long it takes.

    python scripts/bench/leak.py [DIR…] [--planted N] [--queries N] [--pictures FILE]

A DIR is a folder of images with a train and a test part, or the four IDX files of Fashion-MNIST. Without one, the
embedded images are used, half against half. Copies are planted from the training images; every test image counts as a
stranger, and one that is taken for a copy is a false alarm, unless it is the same picture by a check of its pixels.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ptft.data.fingerprints import fingerprints_of
from ptft.data.images import Images, ResidentImages
from ptft.data.sources import EmbeddedFashionMnist, Folder, Torchvision
from ptft.data.task import prepare
from ptft.proof.search import Match, find

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def jpeg(image: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.array(Image.open(file))


def crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """95 % of each side, anywhere, brought back to the size it had."""
    size = image.shape[0]
    left, top = rng.uniform(0, 0.05 * size, 2)
    box = (left, top, left + 0.95 * size, top + 0.95 * size)
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))


def brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """10 to 40 of 255 levels lighter or darker; what leaves the range is cut off."""
    shift = int(rng.integers(10, 41)) * int(rng.choice([-1, 1]))
    return np.clip(image.astype(int) + shift, 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "exact": lambda image, _rng: image,
    "JPEG 50": jpeg,
    "mirrored": lambda image, _rng: image[:, ::-1],
    "cropped 5 %": crop,
    "brightness": brightness,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="*", type=Path, metavar="DIR")
    parser.add_argument("--planted", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--pictures", type=Path, help="write the alarms as a picture: test image, training image")
    parser.add_argument("--exact-only", action="store_true", help="the control: without the look")
    options = parser.parse_args()
    for root in options.roots or [None]:
        bench(root, options)


def bench(root: Path | None, options: argparse.Namespace) -> None:
    name, seen, strangers = read(root)
    strangers = strangers[: options.queries]
    begun = time.perf_counter()
    prints = fingerprints_of(as_images(seen))
    printed = time.perf_counter()
    print(f"\n{name}: {len(seen):,} images seen, {len(strangers):,} strangers")
    print(f"fingerprints: {printed - begun:.1f} s, {prints.numel():,} bytes")
    rng = np.random.default_rng(0)
    for change, make in CHANGES.items():
        rows = rng.permutation(len(seen))[: options.planted]
        copies = np.stack([make(seen[row], rng) for row in rows])
        found = search(copies, prints, options)
        right = sum(same(copies[match.query], seen[match.seen]) or rows[match.query] == match.seen for match in found)
        print(f"  {change:<12} found {len(found) / len(rows):7.2%}   of the right image {right / len(rows):7.2%}")
    begun, worked = time.perf_counter(), time.process_time()
    alarms = search(strangers, prints, options)
    took, worked = time.perf_counter() - begun, time.process_time() - worked
    false = [match for match in alarms if not same(strangers[match.query], seen[match.seen])]
    print(
        f"  strangers    alarms {len(alarms)} ({len(alarms) / len(strangers):.2%}), {took:.1f} s ({worked:.1f} s CPU)"
    )
    print(f"               of other pictures {len(false)} ({len(false) / len(strangers):.2%})")
    if options.pictures and alarms:
        draw(alarms, strangers, seen, options.pictures)


def search(queries: np.ndarray, prints: Tensor, options: argparse.Namespace) -> list[Match]:
    images = as_images(queries)
    return find(images, fingerprints_of(images), prints, near=not options.exact_only)


def as_images(images: np.ndarray) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return ResidentImages(pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2))


def read(root: Path | None) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, images seen and strangers, uint8 (N, H, W) or (N, H, W, 3)."""
    if root is None:
        embedded = np.stack([np.asarray(record.image) for record in EmbeddedFashionMnist().open().records])
        return "embedded Fashion-MNIST", embedded[::2], embedded[1::2]
    is_idx = any(root.glob("*-ubyte*"))
    config = (
        Torchvision(name="torchvision", dataset="FashionMNIST", root=str(root), validation=0.0)
        if is_idx
        else Folder(name="folder", root=str(root), validation=0.0)
    )
    task = prepare(config.open(), config, seed=0)
    parts = [task.parts[part].images for part in ("train", "test" if "test" in task.parts else "validation")]
    arrays = [images.take(torch.arange(len(images))).permute(0, 2, 3, 1).numpy() for images in parts]
    train, test = (array[..., 0] if array.shape[-1] == 1 else array for array in arrays)
    return task.origin, np.ascontiguousarray(train), np.ascontiguousarray(test)


def same(query: np.ndarray, seen: np.ndarray, shift: int = 2, most: float = 0.98) -> bool:
    """Whether two pictures correlate by 0.98 or more over their pixels, mirrored or not, moved by up to 2 pixels."""
    first, second = (image.mean(axis=2) if image.ndim == 3 else image.astype(float) for image in (query, seen))
    inner = slice(shift, -shift)
    target = first[inner, inner].ravel()
    return any(
        np.corrcoef(target, np.roll(view, (dy, dx), (0, 1))[inner, inner].ravel())[0, 1] >= most
        for view in (second, second[:, ::-1])
        for dy in range(-shift, shift + 1)
        for dx in range(-shift, shift + 1)
    )


def draw(alarms: list[Match], strangers: np.ndarray, seen: np.ndarray, path: Path) -> None:
    alarms = sorted(alarms, key=lambda match: match.distance)[-96:]
    pairs = [np.concatenate([strangers[match.query], seen[match.seen]], axis=1) for match in alarms]
    blank = np.zeros_like(pairs[0])
    rows = [pairs[start : start + 8] for start in range(0, len(pairs), 8)]
    sheet = np.concatenate([np.concatenate(row + [blank] * (8 - len(row)), axis=1) for row in rows])
    Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
