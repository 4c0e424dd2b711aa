"""Checkpoints with bytes changed at random are refused, or read as what they were."""

import time
from pathlib import Path

import pytest
import torch
from faults.hostile import changed, forged, tell
from test_checkpoint import make_metadata, make_tensors

from ptft import checkpoint
from ptft.checkpoint import Checkpoint
from ptft.errors import CheckpointError


def saved(path: Path, kind: str) -> bytes:
    """A checkpoint of ptft, a bare state dict, or one in the format of torch before 1.6."""
    if kind == "ptft":
        checkpoint.write(path, make_metadata(), make_tensors())
    else:
        torch.save(make_tensors(), path, _use_new_zipfile_serialization=kind == "bare")
    return path.read_bytes()


def same(found: Checkpoint | dict[str, torch.Tensor]) -> bool:
    """Whether what was read is what was written."""
    tensors = found.tensors if isinstance(found, Checkpoint) else found
    expected = make_tensors()
    return (
        tensors.keys() == expected.keys()
        and all(torch.equal(tensors[name], expected[name]) for name in expected)
        and (not isinstance(found, Checkpoint) or found.metadata == make_metadata())
    )


@pytest.mark.parametrize("kind", ["ptft", "bare"])
def test_a_mutated_checkpoint_is_refused_or_read_as_it_was(tmp_path: Path, trials: int, kind: str) -> None:
    content = saved(tmp_path / "good.pt", kind)
    refused, unchanged, slowest = 0, 0, 0.0
    for seed in range(trials):
        path = tmp_path / f"{seed % 16}.pt"
        path.unlink(missing_ok=True)
        path.write_bytes(forged(seed, content) if kind == "ptft" and seed % 4 == 0 else changed(seed, content))
        began = time.perf_counter()
        try:
            assert same(checkpoint.read_weights(path)), f"seed {seed}: silently different"
            unchanged += 1
        except CheckpointError as error:
            refused += str(path) in str(error) and "\n" not in str(error)
        slowest = max(slowest, time.perf_counter() - began)
    more = f"{unchanged:,} of them read as they were, slowest {slowest:.2f} s"
    tell(f"mutated checkpoints, {kind}", refused + unchanged, trials, more)
    assert refused + unchanged == trials
    assert refused > trials / 3


def test_a_reader_without_digest_accepts_changed_numbers(tmp_path: Path) -> None:
    """The negative control: torch.load reads other numbers from some of the same files, and says nothing."""
    content, different = saved(tmp_path / "good.pt", "ptft"), 0
    for seed in range(100):
        path = tmp_path / "a.pt"
        path.write_bytes(forged(seed, content))
        try:
            read = torch.load(path, weights_only=True)
            different += not same(read["tensors"]) or read["metadata"] != make_metadata().model_dump_json()
        except Exception:
            continue
    tell("mutated checkpoints, torch.load alone, silently different", different, 100)
    assert different > 10
