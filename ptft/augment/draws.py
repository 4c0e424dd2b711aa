"""Random numbers for whole batches, each a pure function of (seed, epoch, sample index, call).

No generator is carried along: every sample hashes its own place in the run, so a resumed run, another batch
size, another world size or another device draws the same numbers. The hash is one step of splitmix64 (Steele,
Lea, Flood 2014, "Fast splittable pseudorandom number generators", with Stafford's finalizer 13), chained over
the parts of the place; whole numbers only, so every device agrees to the last bit.
"""

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The int64 with the same 64 low bits, as torch has no full unsigned type."""
    return (value + 2**63) % 2**64 - 2**63


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FACTOR_1 = _signed(0xBF58476D1CE4E5B9)
_FACTOR_2 = _signed(0x94D049BB133111EB)
_NO_EPOCH = -1


def mix(states: Tensor) -> Tensor:
    """The first output of each splitmix64 generator whose state is given.

    A bijection of the 64-bit words, so different states never collide.

    Args:
        states: int64, any shape, read as 64 plain bits.

    Returns:
        int64 of the same shape, read as 64 plain bits.
    """
    words = states + _GAMMA
    words = (words ^ _shift_right(words, 30)) * _FACTOR_1
    words = (words ^ _shift_right(words, 27)) * _FACTOR_2
    return words ^ _shift_right(words, 31)


def _shift_right(words: Tensor, bits: int) -> Tensor:
    # torch's >> copies the sign bit into the gap; the mask clears it as an unsigned shift would.
    return (words >> bits) & ((1 << (64 - bits)) - 1)


class Draws:
    """The random numbers of one batch; each call draws from the next stream of every sample.

    The k-th call gives the same numbers for the same (seed, epoch, index), whatever else is in the batch and
    whatever was asked for in earlier calls. A sample's stream k is the splitmix64 sequence seeded by
    mix(mix(mix(mix(seed) + epoch) + index) + k), epoch being -1 for what does not change with it.

    Args:
        seed: any whole number; its 64 low bits count.
        epochs: int64 (B,), the epoch each sample is seen in (a batch may straddle two).
        indices: int64 (B,), each sample's index in the training part, on the same device.
    """

    def __init__(self, seed: int, epochs: Tensor, indices: Tensor) -> None:
        self._epochs = epochs
        self._seeds = mix(torch.full_like(epochs, _signed(seed)))
        self._indices = indices
        self._keys = self._keys_of(epochs)
        self._stream = 0

    def uniform(self, count: int = 1) -> Tensor:
        """Float32 (B, count) in [0, 1), on the grid of multiples of 2^-24."""
        # 24 bits are all that a float32 in [0, 1) holds evenly; more would round up to 1.
        return _shift_right(self._bits(count), 40).to(torch.float32) * 2.0**-24

    def integers(self, low: int, high: int, count: int = 1) -> Tensor:
        """Int64 (B, count) in [low, high), for ranges of up to 2^31 numbers.

        Multiply and shift (Lemire 2019, without rejection): the bias is below (high - low) / 2^32.

        Raises:
            ValueError: the range is empty or too long.
        """
        size = high - low
        if not 0 < size <= 2**31:
            raise ValueError(f"cannot draw from [{low}, {high}): its length must be between 1 and 2^31.")
        return low + ((_shift_right(self._bits(count), 32) * size) >> 32)

    def coin(self, p: float) -> Tensor:
        """Bool (B,), each true with probability `p`: never at 0, always at 1."""
        return self.uniform()[:, 0] < p

    def alternating(self) -> Tensor:
        """Bool (B,): a coin that each sample tosses once for all epochs, turned over in every odd one; one call."""
        first = self._bits(1, self._keys_of(torch.full_like(self._epochs, _NO_EPOCH)))[:, 0] < 0
        return first ^ (self._epochs % 2 == 1)

    def _keys_of(self, epochs: Tensor) -> Tensor:
        return mix(mix(self._seeds + epochs) + self._indices)

    def _bits(self, count: int, keys: Tensor | None = None) -> Tensor:
        """Int64 (B, count) of 64 random bits each, from the next stream."""
        seeds = mix((self._keys if keys is None else keys) + self._stream)
        self._stream += 1
        return mix(seeds[:, None] + _GAMMA * torch.arange(count, device=seeds.device))
