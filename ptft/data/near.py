"""Training images on the GPU as a whole, where they fit beside what a step needs there."""

import torch

from ptft.data.images import Images, ResidentImages, decodes_when_asked

_SHARE = 0.3
"""Of the GPU's free memory, that images may take: the rest is for optimizer and activations, which come later."""

_PORTION_BYTES = 1 << 27


def near(images: Images, device: torch.device) -> Images:
    """The images, on the device where that has its own memory and they take at most 30 % of what is free there.

    Images that are decoded when they are asked for stay where they are.
    """
    if device.type != "cuda" or decodes_when_asked(images):
        return images
    free_bytes, _ = torch.cuda.mem_get_info(device)
    free_bytes += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own, and unused
    return moved(images, device) if fits(images, free_bytes) else images


def fits(images: Images, free_bytes: int) -> bool:
    """Whether all their pixels take no more than their share of a GPU's free memory."""
    return len(images) * images.take(torch.tensor([0])).numel() <= _SHARE * free_bytes


def moved(images: Images, device: torch.device) -> ResidentImages:
    """The images in one tensor on the device, brought there in portions of about 128 MB."""
    shape = images.take(torch.tensor([0])).shape[1:]
    pixels = torch.empty(len(images), *shape, dtype=torch.uint8, device=device)
    for rows in torch.arange(len(images)).split(max(1, _PORTION_BYTES // shape.numel())):
        pixels[int(rows[0]) : int(rows[-1]) + 1] = images.take(rows).to(device)
    return ResidentImages(pixels)
