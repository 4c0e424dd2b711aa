"""Checkpoints verify themselves and execute nothing."""

import hashlib
import json
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from ptft import checkpoint
from ptft.checkpoint import Ancestor, DataSeen, Metadata
from ptft.errors import CheckpointError, StorageError


def make_metadata() -> Metadata:
    seen = DataSeen(
        origin="folder photos", fingerprint="ab" * 32, listing="cd" * 32, num_examples=7, classes=("ant", "no")
    )
    own = Ancestor(command="pretrain", digest=None, data=seen, model="small-cnn", steps=5)
    return Metadata(
        command="pretrain",
        step=5,
        num_steps=9,
        config={"model": {"name": "small-cnn", "width": 4}},
        classes=("ant", "no"),
        image_size=12,
        in_channels=3,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        lineage=(own,),
    )


def make_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "backbone.a": torch.randn(3, 4, generator=generator),
        "backbone.count": torch.tensor(3),
        "head.weight": torch.randn(2, 4, generator=generator).bfloat16(),
        "optimizer.backbone.a.momentum_buffer": torch.randn(3, 4, generator=generator),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.pt"
    checkpoint.write(path, make_metadata(), make_tensors())
    return path


def test_what_is_written_is_read(path: Path) -> None:
    found = checkpoint.read(path)
    assert found.metadata == make_metadata()
    expected = make_tensors()
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[name], expected[name]) for name in expected)
    assert found.weights().keys() == {"backbone.a", "backbone.count", "head.weight"}


def test_the_averaged_weights_are_the_ones_to_use(tmp_path: Path) -> None:
    tensors = make_tensors() | {"ema.backbone.a": torch.zeros(3, 4), "ema.head.weight": torch.zeros(2, 4)}
    checkpoint.write(tmp_path / "a.pt", make_metadata(), tensors)
    assert not checkpoint.read(tmp_path / "a.pt").weights()["backbone.a"].any()


def test_what_travels_beside_the_weights_is_not_among_them(tmp_path: Path) -> None:
    beside = {name: torch.zeros(2) for name in ("seen.ab", "start.backbone.a", "optimizer.backbone.a.step")}
    checkpoint.write(tmp_path / "a.pt", make_metadata(), make_tensors() | beside)
    assert checkpoint.read(tmp_path / "a.pt").weights().keys() == {"backbone.a", "backbone.count", "head.weight"}


def test_of_a_view_only_what_it_shows_is_written(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "a.pt", make_metadata(), {"backbone.a": torch.zeros(1_000_000)[:4]})
    assert (tmp_path / "a.pt").stat().st_size < 10_000


def written_by_hand(path: Path, version: int, tensors: dict[str, torch.Tensor], **more: Any) -> str:
    """A checkpoint as its documentation has it: what runs have written once must be read for ever."""
    text = json.dumps(json.loads(make_metadata().model_dump_json()) | more)
    sha = hashlib.sha256(f"ptft {version}\n{len(text)}\n{text}".encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    content = {"format": "ptft", "version": version, "metadata": text, "tensors": tensors, "digest": sha.hexdigest()}
    torch.save(content, path)
    return sha.hexdigest()


@pytest.mark.parametrize("version", [1, 2])
def test_the_files_of_earlier_runs_are_read_and_have_the_digests_they_had(tmp_path: Path, version: int) -> None:
    shuffled = dict(reversed(make_tensors().items()))
    digest = written_by_hand(tmp_path / "a.pt", version, shuffled)
    found = checkpoint.read(tmp_path / "a.pt")
    assert (found.digest, found.metadata) == (digest, make_metadata())
    assert found.tensors.keys() == make_tensors().keys()


def test_a_version_that_never_was_and_a_file_without_tensors_are_refused(tmp_path: Path) -> None:
    written_by_hand(tmp_path / "a.pt", 0, make_tensors())
    with pytest.raises(CheckpointError, match="has checkpoint format 0; this ptft reads 1 to 2"):
        checkpoint.read(tmp_path / "a.pt")
    written_by_hand(tmp_path / "b.pt", 2, {})
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"colour": 1}, r"colour: Extra inputs are not permitted\. Update ptft\."),
        ({"mean": [0.1]}, "mean and std need a number for each channel"),
        ({"in_channels": 1}, "mean and std need a number for each channel"),
        ({"target_mean": [1.0], "target_std": [1.0]}, "need a number for each target"),
        ({"lineage": []}, "lineage"),
        ({"classes": []}, "classes"),
        ({"image_size": 100_000}, "image_size"),
        ({"in_channels": 65, "mean": [0.5] * 65, "std": [0.5] * 65}, "in_channels"),
    ],
)
def test_metadata_that_contradict_themselves_are_refused_though_the_digest_is_right(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    written_by_hand(tmp_path / "a.pt", 2, make_tensors(), **more)
    with pytest.raises(CheckpointError, match=f"holds metadata that this ptft cannot read: .*{said}"):
        checkpoint.read(tmp_path / "a.pt")


def test_the_digest_is_a_function_of_the_content_alone(path: Path, tmp_path: Path) -> None:
    again = checkpoint.write(tmp_path / "b.pt", make_metadata(), make_tensors())
    assert again == checkpoint.read(path).digest
    other = checkpoint.write(tmp_path / "c.pt", make_metadata().model_copy(update={"step": 6}), make_tensors())
    assert other != again


def test_no_flipped_bit_is_read_as_another_checkpoint(path: Path) -> None:
    good, content = checkpoint.read(path), path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found = checkpoint.read(path)
        except CheckpointError:
            refused += 1
            continue
        assert found.digest == good.digest
        assert found.metadata == good.metadata
        assert all(torch.equal(found.tensors[name], good.tensors[name]) for name in good.tensors)
    assert refused > 50


def test_without_the_digest_flipped_bits_would_be_read(path: Path) -> None:
    """The negative control: torch.load alone loads other numbers without a word."""
    content, good = path.read_bytes(), torch.load(path, weights_only=True)["tensors"]["backbone.a"]
    position = content.index(good.numpy().tobytes())
    damaged = bytearray(content)
    damaged[position] ^= 1
    path.write_bytes(damaged)
    assert not torch.equal(torch.load(path, weights_only=True)["tensors"]["backbone.a"], good)
    with pytest.raises(CheckpointError, match="checksum"):
        checkpoint.read(path)


def test_other_numbers_under_right_checksums_are_seen_by_the_digest(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    content["tensors"]["backbone.a"][0, 0] += 1
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="does not match its digest"):
        checkpoint.read(path)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("wrap", ["bare", "in_torch_save", "inside_a_checkpoint"])
def test_a_pickle_payload_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: str, force: bool
) -> None:
    if force:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, target = tmp_path / "a.pt", tmp_path / "executed"
    payload = Payload(target)
    if wrap == "bare":
        path.write_bytes(pickle.dumps(payload))
    elif wrap == "in_torch_save":
        torch.save(payload, path)
    else:
        torch.save({"format": "ptft", "version": 1, "metadata": payload, "tensors": {}, "digest": ""}, path)
    for read in (checkpoint.read, checkpoint.read_weights):
        with pytest.raises(CheckpointError):
            read(path)
    assert not target.exists()


def test_the_payload_would_work_if_it_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", bytes(1000)])
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        checkpoint.read(tmp_path / "a.pt")


def test_a_missing_file_and_a_newer_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.read(tmp_path / "a.pt")
    torch.save({"format": "ptft", "version": 3}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="Update ptft"):
        checkpoint.read(tmp_path / "a.pt")


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_beside_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match=r"cannot write .*a\.pt: No space left on device"):
        checkpoint.write(path, make_metadata(), make_tensors())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]


def test_a_bare_state_dict_is_read_as_tensors(tmp_path: Path) -> None:
    torch.save(make_tensors(), tmp_path / "bare.pt")
    found = checkpoint.read_weights(tmp_path / "bare.pt")
    assert isinstance(found, dict)
    assert found.keys() == make_tensors().keys()
