"""Turns one image file, array or opener into uint8 pixels, or says in a few words why it cannot.

Pixels depend on the image and the arguments alone, never on the thread that decodes or on what ran before.
"""

import functools
import io
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError, features

from ptft.data.records import Encoded
from ptft.storage import is_shortage

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "MPO", "JPEG2000", "AVIF")
"""The formats ptft opens. Not EPS, PDF or WMF, which need an interpreter; not ICO, ICNS or PSD, which hold
several images."""

_REDUCING_GAP = 3.0
"""A large image is first reduced cheaply to no less than this multiple of its final size. Pillow documents
3.0 as practically indistinguishable from resampling at once."""

_LARGE = 1 << 24
"""Decoded pixels from which images wait for one another: eight threads with an image at the limit each would need
eight times its memory."""

_ONE_AT_A_TIME = threading.Lock()

_VERSION = 1
"""To be counted up when the pixels that `decode` gives change."""

_MAX_SCANS = 500
"""A progressive JPEG refines the whole image with every scan; encoders write about ten."""

_SMALLEST_FILE_LIMIT = 1 << 26

_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own limit is one number for the whole process and warns below it; max_pixels is checked instead,
# on the header, before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

_QUIET_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class BadImageError(ValueError):
    """An image that cannot be used; the message is the reason, without the image's name."""


def decode(
    image: Path | Encoded | np.ndarray | Callable[[], Image.Image],
    *,
    size: int | None,
    channels: int | None,
    max_pixels: int,
) -> np.ndarray:
    """Pixels of one image: upright, opaque (transparent parts on white), 8 bit, grey or RGB.

    Of an animation the first frame. With `size`, the largest centred square is resampled to size x size
    (bilinear with antialiasing); smaller images are enlarged.

    Args:
        image: a file or one inside a larger file, whose content and not its name decides the format; uint8 pixels
            (H, W) or (H, W, 3); or a function that opens the image.
        size: height and width of the result; None keeps the image's own.
        channels: 1 for grey, 3 for RGB; None for what the image has, palettes counted by their colours.
        max_pixels: larger images are refused, before they are decoded.

    Returns:
        uint8 (H, W) for grey, (H, W, 3) for RGB. An array that needs no change is returned as it is.

    Raises:
        BadImageError: missing, unreadable, truncated, too large, or in a mode without a defined 8-bit
            meaning.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, size, channels, max_pixels)
    with _opened(image, max_pixels) as opened:
        _check_pixels(opened.size, max_pixels)
        if size is not None:
            _draft(opened, size)
        with _ONE_AT_A_TIME if opened.width * opened.height > _LARGE else nullcontext():
            return np.array(_fit(_in_channels(_opaque(_upright(opened)), channels), size))


def decoder() -> str:
    """What decides the pixels beside image and arguments: this module, Pillow, and its JPEG library."""
    return f"{_VERSION}, Pillow {PIL.__version__}, JPEG {features.version('libjpeg_turbo') or features.version('jpg')}"


def describe(path: Path) -> tuple[int, int, str]:
    """Width, height and Pillow mode of a file, from its header alone; width and height as seen upright.

    Raises:
        BadImageError: missing, or not an image ptft can read.
    """
    with _opened(path) as image:
        width, height = image.size
        # Pillow swaps a TIFF's size itself; asking a PNG without EXIF in its header would decode it.
        if image.format != "TIFF" and "exif" in image.info and _orientation(image) >= 5:
            width, height = height, width
        return width, height, image.mode


@contextmanager
def _opened(image: Path | Encoded | Callable[[], Image.Image], max_pixels: int | None = None) -> Iterator[Image.Image]:
    """Opens an image and turns whatever Pillow raises meanwhile into BadImageError."""
    _silence_pillow()
    try:
        if isinstance(image, Path | Encoded):
            with _file(image, max_pixels) as file, Image.open(file, formats=_available_formats()) as opened:
                if "progressive" in opened.info:
                    _check_scans(image.read_bytes() if isinstance(image, Path) else image.read())
                yield opened
        else:
            with image() as opened:
                yield opened
    except (BadImageError, MemoryError):
        raise
    # Damaged files make Pillow's parsers raise nearly every built-in exception.
    except Exception as error:
        if is_shortage(error):
            raise
        raise BadImageError(_reason(error)) from error


def _silence_pillow() -> None:
    """Keeps Pillow's warnings about damaged metadata, which ptft does not read, off the user's screen.

    A permanent filter, since warnings.catch_warnings is not safe in threads; looked up each time, since the
    caller may have replaced the filters.
    """
    if _QUIET_PILLOW not in warnings.filters:
        warnings.filterwarnings("ignore", module=_QUIET_PILLOW[3].pattern)


@functools.cache
def _available_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _file(image: Path | Encoded, max_pixels: int | None) -> BinaryIO:
    """Opens a file for Pillow, unless its size says already that it cannot be used."""
    if isinstance(image, Encoded):
        _check_size(image.num_bytes, max_pixels)
        return io.BytesIO(image.read())
    status = image.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadImageError("not a regular file")
    _check_size(status.st_size, max_pixels)
    return image.open("rb")


def _check_size(num_bytes: int, max_pixels: int | None) -> None:
    if num_bytes == 0:
        raise BadImageError("the file is empty")
    # 16 bytes a pixel hold four channels of 32 bit, uncompressed. Some decoders read the whole file first.
    if max_pixels is not None and num_bytes > max(_SMALLEST_FILE_LIMIT, 16 * max_pixels):
        raise BadImageError(f"a file of {num_bytes:,} bytes, more than data.max_pixels ({max_pixels:,}) can fill")


def _check_scans(content: bytes) -> None:
    # In the compressed data of a JPEG the byte 0xff is always followed by 0 or a marker.
    num_scans = content.count(b"\xff\xda")
    if num_scans > _MAX_SCANS:
        raise BadImageError(f"a JPEG of {num_scans:,} scans, which would take very long to decode")


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadImageError(
            f"{width}x{height} pixels, {width * height:,} in all, are more than data.max_pixels ({max_pixels:,})"
        )
    if width * height == 0:
        raise BadImageError(f"{width}x{height} pixels: nothing to see")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnidentifiedImageError):
        return "not an image file ptft can read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"truncated: {text or 'the file ends early'}"
    return f"damaged: {text or type(error).__name__}"


def _draft(image: Image.Image, size: int) -> None:
    """Lets the JPEG decoder halve a much larger image while decoding; other formats ignore it."""
    scale = _REDUCING_GAP * size / min(image.size)
    if scale < 0.5:
        image.draft(None, (round(image.width * scale), round(image.height * scale)))


def _upright(image: Image.Image) -> Image.Image:
    # Before load a PNG's EXIF may be unread, and a TIFF is turned by load itself.
    image.load()
    method = _TRANSPOSE.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) where it is absent or damaged, since the picture is intact."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _opaque(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, transparency composited on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep(image)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode == "P":
        return _grey_if_grey(image.convert("RGB"))
    if image.mode in ("RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB")
    raise BadImageError(f"pixel mode {image.mode} is not supported; convert it to RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no defined range; convert them to 8 bit")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise BadImageError(
            f"32-bit pixels from {values.min()} to {values.max()} do not fit 16 bit; convert them to 8 bit"
        )
    # 65535 / 257 = 255 exactly; adding half rounds to nearest.
    grey = ((values + 128) // 257).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _on_white(image: Image.Image) -> Image.Image:
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    rgba = (image.convert(straight) if straight else image).convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    flat = Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode in ("1", "L", "LA", "La"):
        return flat.getchannel("R")
    return _grey_if_grey(flat) if image.mode in ("P", "PA") else flat


def _grey_if_grey(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    red = pixels[..., :1]
    return image.getchannel("R") if bool((pixels == red).all()) else image


def _in_channels(image: Image.Image, channels: int | None) -> Image.Image:
    if channels is None:
        return image
    return image.convert("L" if channels == 1 else "RGB")


def _fit(image: Image.Image, size: int | None) -> Image.Image:
    """The largest centred square, resampled; cropping first keeps a 1 x 100000 image from growing huge."""
    if size is None or image.size == (size, size):
        return image
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + side, top + side),
        reducing_gap=_REDUCING_GAP,
    )


def _from_array(pixels: np.ndarray, size: int | None, channels: int | None, max_pixels: int) -> np.ndarray:
    is_grey, is_rgb = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (is_grey or is_rgb):
        raise BadImageError(f"pixels are {pixels.dtype} of shape {pixels.shape}, expected uint8 (H, W) or (H, W, 3)")
    height, width = pixels.shape[:2]
    _check_pixels((width, height), max_pixels)
    if channels in (None, 1 if is_grey else 3) and size in (None, height) and size in (None, width):
        return pixels
    return np.array(_fit(_in_channels(Image.fromarray(pixels), channels), size))
