"""Changed copies are found again among fingerprints, strangers are not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ptft.data import fingerprints
from ptft.data.fingerprints import NUM_BYTES, STEP, fingerprints_of, look, looks
from ptft.data.images import ResidentImages
from ptft.data.sources import EmbeddedFashionMnist
from ptft.proof import search
from ptft.proof.search import Match, find

NUM_SEEN, NUM_PLANTED = 1500, 100


@pytest.fixture(scope="module")
def clothes() -> np.ndarray:
    return np.stack([np.asarray(record.image) for record in EmbeddedFashionMnist().open().records[: 2 * NUM_SEEN]])


@pytest.fixture(scope="module")
def seen(clothes: np.ndarray) -> Tensor:
    return fingerprints_of(images(clothes[:NUM_SEEN]))


def images(pictures: np.ndarray) -> ResidentImages:
    pixels = torch.from_numpy(np.ascontiguousarray(pictures))
    return ResidentImages(pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2))


def found(pictures: np.ndarray, seen: Tensor, near: bool = True) -> list[Match]:
    return find(images(pictures), fingerprints_of(images(pictures)), seen, near=near)


def jpeg(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=50)
    return np.array(Image.open(file))


def crop(picture: np.ndarray, left: float = 0.01, top: float = 0.04) -> np.ndarray:
    """95 % of each side, brought back to the full size."""
    size = picture.shape[0]
    box = (left * size, top * size, (left + 0.95) * size, (top + 0.95) * size)
    return np.array(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=box))


def shift(picture: np.ndarray, levels: int) -> np.ndarray:
    return np.clip(picture.astype(int) + levels, 0, 255).astype(np.uint8)


CHANGES = {
    "exact": (lambda picture: picture, 1.0),
    "jpeg": (jpeg, 0.95),
    "mirrored": (lambda picture: picture[:, ::-1], 0.9),
    "cropped": (crop, 0.9),
    "lighter": (lambda picture: shift(picture, 30), 0.9),
    "darker": (lambda picture: shift(picture, -30), 0.9),
}


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_are_found_as_the_image_they_were_made_from(
    clothes: np.ndarray, seen: Tensor, change: str
) -> None:
    make, least = CHANGES[change]
    rows = np.random.default_rng(0).permutation(NUM_SEEN)[:NUM_PLANTED]
    right = [match for match in found(np.stack([make(clothes[row]) for row in rows]), seen)
             if match.seen == rows[match.query]]  # fmt: skip
    assert len(right) >= least * NUM_PLANTED
    if change == "exact":
        assert {(match.kind, match.distance) for match in right} == {("exact", 0.0)}
    else:
        assert sum(match.kind == "near" for match in right) >= 0.9 * len(right)


def test_strangers_are_not_taken_for_copies(clothes: np.ndarray, seen: Tensor) -> None:
    assert len(found(clothes[NUM_SEEN:], seen)) <= 0.001 * NUM_SEEN


def test_without_the_look_compressed_copies_are_missed(clothes: np.ndarray, seen: Tensor) -> None:
    """The negative control of the look."""
    copies = np.stack([jpeg(picture) for picture in clothes[:NUM_PLANTED]])
    assert found(copies, seen, near=False) == []
    assert len(found(clothes[:NUM_PLANTED], seen, near=False)) == NUM_PLANTED


def test_every_image_is_found_again_and_none_of_which_a_single_value_changed(clothes: np.ndarray, seen: Tensor) -> None:
    assert len(found(clothes[:NUM_SEEN], seen, near=False)) == NUM_SEEN
    colours = np.random.default_rng(0).integers(0, 255, (1, 12, 12, 3), np.uint8)
    colours[0, :2] = 7  # grey in places
    for place in ((0, 0, 0), (0, 0, 2), (11, 11, 1), (11, 11, 2), (5, 0, 2)):
        other = colours.copy()
        other[(0, *place)] += 1
        assert found(other, fingerprints_of(images(colours)), near=False) == []


def test_the_luminance_of_red_green_and_blue_is_that_of_bt_601() -> None:
    primaries = 255 * np.eye(3, dtype=np.uint8)[None, None]
    assert fingerprints.grey(primaries)[0, 0] == pytest.approx(255 * np.array([0.299, 0.587, 0.114]), rel=1e-5)


def test_one_of_many_who_look_alike_is_no_copy_and_a_mirrored_one_of_them_is(
    clothes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).normal(0, 14, (17, 28, 28))
    alike = np.clip(clothes[0] + noise, 0, 255).astype(np.uint8)
    seen = fingerprints_of(images(alike[:16]))
    assert found(alike[16:], seen) == []
    assert [match.seen for match in found(alike[3:4, :, ::-1], seen)] == [3]
    monkeypatch.setattr(search, "_CROWD", 17)  # the negative control: without the rule it is taken for one
    assert len(found(alike[16:], seen)) == 1


@pytest.mark.parametrize("size", [12, 33, 96])
def test_colour_pictures_of_any_size_are_found_again(size: int) -> None:
    rng = np.random.default_rng(size)
    coarse = rng.integers(40, 215, (60, 6, 6, 3), np.uint8)
    pictures = np.stack([np.array(Image.fromarray(one).resize((size, size))) for one in coarse])
    seen = fingerprints_of(images(pictures[:40]))
    copies = np.stack([shift(picture[:, ::-1], 15) for picture in pictures])
    assert [(match.query, match.seen) for match in found(copies, seen)] == [(row, row) for row in range(40)]


def test_a_grey_picture_has_one_fingerprint_in_both_forms(clothes: np.ndarray) -> None:
    grey = clothes[:5]
    assert torch.equal(fingerprints_of(images(grey)), fingerprints_of(images(np.repeat(grey[..., None], 3, axis=3))))


def test_fingerprints_do_not_depend_on_what_else_is_in_the_batch(clothes: np.ndarray, seen: Tensor) -> None:
    assert torch.equal(fingerprints_of(images(clothes[300:310])), seen[300:310])
    assert seen.shape == (NUM_SEEN, NUM_BYTES)


def test_the_look_is_the_integral_over_the_window_in_float64() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (10, 10))
    top, bottom, left, right = window = (0.05, 0.95, 0.03, 0.98)
    points = (np.arange(200_000) + 0.5) / 200_000
    rows = ((top + points * (bottom - top)) * 10).astype(int)
    columns = ((left + points * (right - left)) * 10).astype(int)
    waves = sorted(
        ((u, v) for u in range(8) for v in range(8) if u + v), key=lambda wave: (wave[0] ** 2 + wave[1] ** 2, wave)
    )[:36]
    values = []
    for u, v in waves:
        scale = (2**0.5 if u else 1) * (2**0.5 if v else 1) * (u * u + v * v) ** 0.5
        vertical = np.bincount(rows, np.cos(np.pi * u * points), 10) / len(points)
        horizontal = np.bincount(columns, np.cos(np.pi * v * points), 10) / len(points)
        values.append(scale * (vertical @ picture @ horizontal))
    expected = np.arcsinh(np.array(values) / np.sqrt(np.mean(np.square(values))))
    assert np.allclose(look(picture[None].astype(np.float32), window)[0], expected, atol=1e-3)


def test_a_stored_look_is_rounded_to_the_middle_of_its_bin(clothes: np.ndarray, seen: Tensor) -> None:
    exact = look(fingerprints.grey(clothes[:NUM_SEEN]), fingerprints.CENTRE)
    assert (looks(seen) - torch.from_numpy(exact)).abs().max() <= STEP / 2 + 1e-5


def test_nothing_is_found_in_nothing(clothes: np.ndarray, seen: Tensor) -> None:
    assert found(clothes[:2], seen[:0]) == []
    assert found(clothes[:0], seen) == []


def test_the_most_similar_looks_are_those_of_a_naive_loop_in_float64(clothes: np.ndarray, seen: Tensor) -> None:
    pictures, stored = fingerprints.grey(clothes[NUM_SEEN : NUM_SEEN + 5]), looks(seen)
    rows, distances = search._candidates(pictures, search._stored_terms(stored))
    signs = fingerprints.mirror()
    for picture, own_rows, own_distances in zip(pictures, rows.tolist(), distances.tolist(), strict=True):
        views = [look(picture[None], window)[0].astype(float) for window in search._coarse_windows()]
        views += [view * signs for view in views]
        exact = [min(float(np.square(view - one).mean()) for view in views) for one in stored.double().numpy()]
        nearest = sorted(exact)[: len(own_rows)]
        assert own_distances == pytest.approx(nearest, abs=1e-5)
        assert [exact[row] for row in own_rows] == pytest.approx(nearest, abs=1e-5)
