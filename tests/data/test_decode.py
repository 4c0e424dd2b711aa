"""Every kind of file a user may have, made here, against the pixels or the reason it must give."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from ptft.data.decode import BadImageError, decode, describe

WHITE, RED = (255, 255, 255), (255, 0, 0)


def pixels(
    image: Path | np.ndarray,
    size: int | None = None,
    channels: int | None = None,
    limit: int = 10_000,
) -> np.ndarray:
    return decode(image, size=size, channels=channels, max_pixels=limit)


def saved(folder: Path, image: Image.Image, name: str, **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def ramp(height: int = 4, width: int = 6) -> np.ndarray:
    return np.arange(height * width, dtype=np.uint8).reshape(height, width) * 10


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def quarters() -> Image.Image:
    """16 x 32, four flat quarters, so that lossy formats keep them."""
    array = np.zeros((32, 16), np.uint8)
    array[:16, 8:], array[16:, :8], array[16:, 8:] = 80, 160, 240
    return Image.fromarray(array)


class TestModes:
    def test_grey_png_is_two_dimensional(self, tmp_path: Path) -> None:
        assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(ramp()), "a.png")), ramp())

    def test_rgb_png_is_three_dimensional(self, tmp_path: Path) -> None:
        assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(noise(5, 7)), "a.png")), noise(5, 7))

    def test_bilevel_becomes_black_and_white(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
        assert pixels(saved(tmp_path, image, "a.png")).tolist() == [[0, 255]]

    def test_transparent_pixels_become_white(self, tmp_path: Path) -> None:
        image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
        image.putpixel((1, 0), (255, 0, 0, 0))
        assert pixels(saved(tmp_path, image, "a.png")).tolist() == [[[*RED], [*WHITE]]]

    def test_half_transparent_pixels_are_mixed_with_white(self, tmp_path: Path) -> None:
        image = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
        assert pixels(saved(tmp_path, image, "a.png")).tolist() == [[[255, 127, 127]]]

    def test_grey_with_alpha_stays_grey(self, tmp_path: Path) -> None:
        image = Image.new("LA", (2, 1), (50, 255))
        image.putpixel((1, 0), (50, 0))
        assert pixels(saved(tmp_path, image, "a.png")).tolist() == [[50, 255]]

    def test_transparent_colour_of_grey_and_rgb_png_becomes_white(self, tmp_path: Path) -> None:
        grey = saved(tmp_path, Image.fromarray(np.array([[7, 9]], np.uint8)), "g.png", transparency=7)
        colour = saved(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3)), "c.png", transparency=(1, 2, 3))
        assert pixels(grey).tolist() == [[255, 9]]
        assert pixels(colour).tolist() == [[[*WHITE]]]

    def test_colour_palette_becomes_rgb(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)
        assert pixels(saved(tmp_path, image, "a.png")).tolist() == [[[*RED], [0, 0, 255]]]

    def test_grey_palette_becomes_grey(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 10, 10, 20, 20, 20])
        image.putpixel((1, 0), 1)
        assert pixels(saved(tmp_path, image, "a.png")).tolist() == [[10, 20]]

    def test_a_palette_whose_red_and_green_agree_is_not_grey(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 10, 0, 20, 20, 0])
        image.putpixel((1, 0), 1)
        assert pixels(saved(tmp_path, image, "a.png")).tolist() == [[[10, 10, 0], [20, 20, 0]]]

    def test_grey_palette_with_a_transparent_entry_stays_grey(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 10, 10, 20, 20, 20])
        image.putpixel((1, 0), 1)
        assert pixels(saved(tmp_path, image, "a.png", transparency=1)).tolist() == [[10, 255]]

    @pytest.mark.parametrize(
        ("mode", "colour", "expected"), [("La", (25, 128), 152), ("RGBa", (128, 0, 0, 128), [255, 127, 127])]
    )
    def test_colours_that_are_multiplied_by_their_alpha_are_mixed_with_white(
        self, mode: str, colour: tuple[int, ...], expected: int | list[int]
    ) -> None:
        found = decode(lambda: Image.new(mode, (1, 1), colour), size=None, channels=None, max_pixels=9)
        assert found.tolist() == [[expected]]

    @pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
    def test_transparent_palette_entry_becomes_white(self, tmp_path: Path, transparency: int | bytes) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)
        path = saved(tmp_path, image, "a.png", transparency=transparency)
        assert pixels(path).tolist() == [[[*RED], [*WHITE]]]

    def test_cmyk_jpeg_becomes_rgb(self, tmp_path: Path) -> None:
        found = pixels(saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.jpg", quality=100))
        assert found.shape == (8, 8, 3)
        assert np.abs(found.astype(int) - RED).max() <= 3

    def test_lab_tiff_becomes_rgb(self, tmp_path: Path) -> None:
        assert pixels(saved(tmp_path, Image.new("LAB", (2, 2), (255, 0, 0)), "a.tif")).shape == (2, 2, 3)

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
    def test_16_bit_grey_is_divided_by_257_not_clipped(self, tmp_path: Path, name: str) -> None:
        deep = np.array([[0, 257, 65535, 255, 128, 129, 32896]], np.uint16)
        path = saved(tmp_path, Image.fromarray(deep), name)
        assert pixels(path).tolist() == [[0, 1, 255, 1, 0, 1, 128]]

    def test_16_bit_transparent_value_becomes_white(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.fromarray(np.array([[0, 257]], np.uint16)), "a.png", transparency=257)
        assert pixels(path).tolist() == [[0, 255]]

    def test_32_bit_integers_within_16_bit_are_read_as_16_bit(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.fromarray(np.array([[0, 65535]], np.int32)), "a.tif")
        assert pixels(path).tolist() == [[0, 255]]

    def test_first_frame_of_an_animation_is_taken(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (3, 3), colour) for colour in (RED, (0, 0, 255))]
        for name in ("a.gif", "a.webp", "a.png"):
            path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
            assert pixels(path)[0, 0].tolist() == [*RED], name

    @pytest.mark.parametrize("name", ["a.bmp", "a.png", "a.ppm", "a.tif", "a.webp", "a.jp2", "a.gif"])
    def test_lossless_formats_keep_grey_steps(self, tmp_path: Path, name: str) -> None:
        path = saved(tmp_path, Image.fromarray(ramp()).convert("RGB"), name, lossless=True)
        assert np.array_equal(pixels(path, channels=1), ramp())

    @pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
    def test_avif_opens(self, tmp_path: Path) -> None:
        assert pixels(saved(tmp_path, Image.fromarray(noise(16, 8)), "a.avif")).shape == (16, 8, 3)

    @pytest.mark.parametrize(("channels", "shape"), [(1, (4, 6)), (3, (4, 6, 3)), (None, (4, 6))])
    def test_grey_is_brought_to_the_channels(
        self, tmp_path: Path, channels: int | None, shape: tuple[int, ...]
    ) -> None:
        found = pixels(saved(tmp_path, Image.fromarray(ramp()), "a.png"), channels=channels)
        assert found.shape == shape
        assert found.dtype == np.uint8
        assert np.array_equal(found if channels != 3 else found[..., 2], ramp())

    def test_rgb_becomes_luma(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.new("RGB", (1, 1), RED), "a.png")
        assert pixels(path, channels=1).tolist() == [[76]]  # 0.299 * 255


# What each orientation stores, as numpy operations on the upright image.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "lzw.tif"])
    def test_exif_rotation_is_undone(self, tmp_path: Path, orientation: int, name: str) -> None:
        upright = np.asarray(quarters())
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).convert("RGB")
        options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
        path = saved(tmp_path, stored, name, exif=exif, lossless=True, **options)
        found = pixels(path, channels=1)
        assert found.shape == (32, 16)
        assert np.abs(found.astype(int) - upright).max() <= 3
        assert describe(path)[:2] == (16, 32)

    def test_without_the_tag_nothing_is_turned(self, tmp_path: Path) -> None:
        assert pixels(saved(tmp_path, quarters().transpose(Image.Transpose.ROTATE_90), "a.png")).shape == (
            16,
            32,
        )

    def test_damaged_exif_does_not_cost_the_image(self, tmp_path: Path) -> None:
        path = saved(tmp_path, quarters(), "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01rubbish")
        assert pixels(path).shape == (32, 16)


class TestSize:
    def test_image_of_that_size_is_unchanged(self, tmp_path: Path) -> None:
        assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(noise(8, 8)), "a.png"), size=8), noise(8, 8))

    def test_centre_is_cropped(self, tmp_path: Path) -> None:
        array = noise(8, 14)
        assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(array), "a.png"), size=8), array[:, 3:11])
        tall = array.transpose(1, 0, 2).copy()
        assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(tall), "b.png"), size=8), tall[3:11])

    @pytest.mark.parametrize("shape", [(8, 13), (13, 8)])
    def test_of_an_odd_remainder_each_side_loses_half(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        array = noise(*shape)
        found = pixels(saved(tmp_path, Image.fromarray(array), "a.png"), size=8).astype(int)
        turned = pixels(saved(tmp_path, Image.fromarray(array[::-1, ::-1].copy()), "b.png"), size=8).astype(int)
        assert np.abs(found - turned[::-1, ::-1]).max() <= 1

    def test_halving_averages_like_pillow(self, tmp_path: Path) -> None:
        array = noise(16, 16)
        expected = Image.fromarray(array).resize((8, 8), Image.Resampling.BILINEAR)
        assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(array), "a.png"), size=8), np.asarray(expected))

    def test_small_images_are_enlarged(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.fromarray(ramp(2, 3)), "a.png")
        assert pixels(path, size=12).shape == (12, 12)

    def test_extreme_shapes_stay_small(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.new("L", (9_000, 1), 7), "a.png")
        assert pixels(path, size=64).tolist() == [[7] * 64] * 64

    def test_large_jpeg_is_close_to_full_resampling(self, tmp_path: Path) -> None:
        rows, columns = np.mgrid[0:400, 0:500]
        smooth = np.stack([rows / 2, columns / 2, (rows + columns) / 4], -1).astype(np.uint8)
        jpeg = saved(tmp_path, Image.fromarray(smooth), "a.jpg", quality=95)
        png = saved(tmp_path, Image.open(jpeg), "a.png")
        drafted, full = (pixels(path, size=16, limit=10**6).astype(int) for path in (jpeg, png))
        assert np.abs(drafted - full).mean() < 1.5

    def test_a_long_jpeg_is_as_sharp_as_full_resampling(self, tmp_path: Path) -> None:
        rows, columns = np.mgrid[0:200, 0:1600]
        waves = (127 + 120 * np.sin(rows / 4) * np.sin(columns / 4)).astype(np.uint8)
        jpeg = saved(tmp_path, Image.fromarray(waves), "a.jpg", quality=95)
        png = saved(tmp_path, Image.open(jpeg), "a.png")
        drafted, full = (pixels(path, size=32, limit=10**6).astype(int) for path in (jpeg, png))
        assert np.abs(drafted - full).mean() < 1.5

    def test_pixels_do_not_depend_on_threads(self, tmp_path: Path) -> None:
        paths = [
            saved(tmp_path, Image.fromarray(noise(90, 70, seed)), f"{seed}.{ending}")
            for seed, ending in enumerate(["jpg", "png", "webp", "tif"] * 8)
        ]
        alone = [pixels(path, size=16) for path in paths]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda path: pixels(path, size=16), paths))
        assert all(map(np.array_equal, alone, together))


class TestOtherInputs:
    def test_array_that_fits_is_returned_as_it_is(self) -> None:
        array = ramp(8, 8)
        assert pixels(array) is array
        assert pixels(array, size=8, channels=1) is array

    def test_array_is_resized_and_converted(self) -> None:
        assert pixels(ramp(8, 12), size=4, channels=3).shape == (4, 4, 3)
        for array in (ramp(8, 12), ramp(12, 8)):
            assert pixels(array, size=8).shape == (8, 8)
        assert pixels(noise(8, 12), channels=1).shape == (8, 12)

    def test_opener_gives_the_pixels_of_the_file(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.fromarray(noise(9, 9)), "a.png")
        assert np.array_equal(decode(lambda: Image.open(path), size=None, channels=None, max_pixels=99), noise(9, 9))

    def test_opener_that_fails_is_a_bad_image(self) -> None:
        def broken() -> Image.Image:
            raise KeyError("no such key")

        with pytest.raises(BadImageError, match=r"^damaged: 'no such key'$"):
            decode(broken, size=None, channels=None, max_pixels=99)

    def test_running_out_of_memory_is_not_a_bad_image(self) -> None:
        def hungry() -> Image.Image:
            raise MemoryError

        with pytest.raises(MemoryError):
            decode(hungry, size=None, channels=None, max_pixels=99)

    @pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)])
    def test_other_arrays_are_refused(self, array: np.ndarray) -> None:
        with pytest.raises(BadImageError, match=r"^pixels are .*, expected uint8 \(H, W\) or \(H, W, 3\)$"):
            pixels(array)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


COLOUR = Image.fromarray(noise(40, 40))
UNREADABLE = "not an image file ptft can read"
BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, this is text", UNREADABLE),
    "eps": (encoded(COLOUR, "EPS"), UNREADABLE),
    "ico": (encoded(COLOUR, "ICO"), UNREADABLE),
    "pdf": (encoded(COLOUR, "PDF"), UNREADABLE),
    "half a jpeg": (
        encoded(COLOUR, "JPEG")[:-300],
        r"truncated: image file is truncated \(\d+ bytes not processed\)",
    ),
    "jpeg header": (encoded(COLOUR, "JPEG")[:100], "truncated: .*|not an image file ptft can read"),
    "half a png": (encoded(COLOUR, "PNG")[:-600], r"truncated: image file is truncated.*"),
    "half a bmp": (encoded(COLOUR, "BMP")[:-600], r"truncated: image file is truncated.*"),
    "half a gif": (encoded(COLOUR, "GIF")[:-900], r"truncated: .*"),
    "half a tiff": (
        encoded(COLOUR, "TIFF")[:2000],
        r"truncated: .*|not an image file ptft can read|damaged: .*",
    ),
    "half a webp": (
        encoded(COLOUR, "WEBP")[:-100],
        r"not an image file ptft can read|truncated: .*|damaged: .*",
    ),
    "oversized": (
        png_claiming(30_000, 30_000),
        r"30000x30000 pixels, [\d,]+ in all, are more than data.max_pixels \(10,000\)",
    ),
    "very oversized": (
        png_claiming(2**31 - 1, 2**31 - 1),
        r"\d+x\d+ pixels, [\d,]+ in all, are more than data.max_pixels \(10,000\)",
    ),
    "float": (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "floating-point pixels have no defined range.*"),
    "32 bit": (
        encoded(Image.new("I", (2, 2), 70_000), "TIFF"),
        "32-bit pixels from 70000 to 70000 do not fit 16 bit; convert them to 8 bit",
    ),
    "negative": (
        encoded(Image.new("I", (2, 2), -1), "TIFF"),
        "32-bit pixels from -1 to -1 do not fit 16 bit.*",
    ),
}


class TestBadFiles:
    @pytest.mark.parametrize("kind", BAD_FILES)
    def test_reason_is_plain(self, tmp_path: Path, kind: str) -> None:
        content, reason = BAD_FILES[kind]
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        with pytest.raises(BadImageError, match=f"^(?:{reason})$"):
            pixels(path)

    def test_content_decides_not_the_name(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(encoded(COLOUR, "PNG"))
        assert np.array_equal(pixels(path), np.asarray(COLOUR))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(BadImageError, match=r"^no such file or directory$"):
            pixels(tmp_path / "a.jpg")

    def test_folder_and_pipe_are_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.jpg")
        for path in (tmp_path, tmp_path / "pipe.jpg"):
            with pytest.raises(BadImageError, match=r"^not a regular file$"):
                pixels(path)

    def test_limit_itself_is_allowed(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.new("L", (100, 100)), "a.png")
        assert pixels(path, limit=10_000).shape == (100, 100)
        with pytest.raises(BadImageError, match=r"more than data\.max_pixels"):
            pixels(path, limit=9_999)

    def test_any_cut_or_flipped_byte_is_an_image_or_a_bad_image(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        path = tmp_path / "a.bin"
        num_bad = 0
        for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM", "WEBP", "JPEG2000"):
            content = encoded(COLOUR, kind)
            for _ in range(40):
                damaged = bytearray(content[: rng.integers(1, len(content) + 1)])
                damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
                path.write_bytes(damaged)
                try:
                    assert pixels(path, size=8, channels=3).shape == (8, 8, 3)
                except BadImageError:
                    num_bad += 1
        assert num_bad > 100


class TestDescribe:
    def test_header_is_enough(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        path.write_bytes(encoded(Image.new("L", (30, 20)), "PNG")[:60])
        assert describe(path) == (30, 20, "L")

    def test_not_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_text("text")
        with pytest.raises(BadImageError, match=UNREADABLE):
            describe(tmp_path / "a.jpg")
