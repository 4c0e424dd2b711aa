"""Small pictures of images for a page, as data URLs."""

import base64
import io

import torch
from PIL import Image
from torch import Tensor

from ptft.report.page import Picture

_SIDE = 160
_PIXELATED_BELOW = 97
_MAX_NAME = 30


def thumbnail(image: Tensor, alt: str, caption: str = "") -> Picture:
    """An image for a gallery, at most 160 pixels high.

    Args:
        image: uint8 (C, H, W), grey or RGB; of other numbers of channels the first is shown.
        alt: what it shows.
        caption: below it.
    """
    shown = image if len(image) == 3 else image[:1].expand(3, -1, -1)
    drawn = Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())
    if drawn.height > _SIDE:
        drawn = drawn.resize((max(1, round(drawn.width * _SIDE / drawn.height)), _SIDE), Image.Resampling.LANCZOS)
    return Picture(_url(drawn), alt, caption, pixelated=image.shape[1] < _PIXELATED_BELOW)


def with_heat(image: Tensor, heat: Tensor) -> Tensor:
    """The image, and beside it the same under a heat map; uint8 (3, H, 2W).

    Args:
        image: uint8 (C, H, W), grey or RGB.
        heat: float (h, w) in [0, 1], scaled up to the image.
    """
    from matplotlib import colormaps

    colour = (image if len(image) == 3 else image[:1].expand(3, -1, -1)).float()
    size = (image.shape[1], image.shape[2])
    large = torch.nn.functional.interpolate(heat[None, None].float(), size=size, mode="bilinear", align_corners=False)
    # Inferno rises evenly in lightness, so it reads without colour vision; on grey, for its hues are not the image's.
    painted = torch.from_numpy(colormaps["inferno"](large[0, 0].clamp(0, 1).numpy())[..., :3]).permute(2, 0, 1) * 255
    grey = colour.mean(dim=0, keepdim=True)
    return torch.cat([colour, 0.45 * grey + 0.6 * painted], dim=2).round().clamp(0, 255).to(torch.uint8)


def short_name(name: str) -> str:
    """The file name in the name of an image, short enough to stand below it."""
    file = name.rpartition("/")[2]
    return file if len(file) <= _MAX_NAME else "…" + file[1 - _MAX_NAME :]


def _url(image: Image.Image) -> str:
    """Small ones exactly, as PNG; larger ones as JPEG, or a page of photographs would weigh megabytes."""
    buffer = io.BytesIO()
    kind = "png" if image.height < _PIXELATED_BELOW else "jpeg"
    image.save(buffer, kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
