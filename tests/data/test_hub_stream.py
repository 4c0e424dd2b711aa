"""Streaming: its order, that it shows what the folder shows, resuming in the middle, and memory."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.program import start
from making import COLOURS, Ptft, make_images, write_config
from making_shards import hub, png, samples, task_of, write_parquet, write_tar
from pydantic import ValidationError

from ptft import checkpoint
from ptft.augment import NoAugment
from ptft.data.ahead import Ahead
from ptft.data.batches import Batches
from ptft.data.sources import Folder
from ptft.data.stream import StreamOrder
from ptft.data.task import Task
from ptft.errors import DataError, UsageError
from ptft.runtime import derive_seed

pytestmark = pytest.mark.usefixtures("cache")

STARTS = [0, 7, 8, 20, 33, 40, 61]


def order(batch_size: int = 5, window: int = 12, seed: int = 3, starts: list[int] = STARTS) -> StreamOrder:
    return StreamOrder(torch.tensor(starts), batch_size, seed, window)


def rows_of_epoch(stream: StreamOrder, epoch: int, count: int) -> list[int]:
    """Rows of an epoch, asked for one position at a time."""
    single = StreamOrder(stream.starts, 1, stream.seed, stream.window)
    return [int(single.at(epoch * count + place)[1]) for place in range(count)]


def naive_epoch(starts: list[int], seed: int, window: int, epoch: int) -> list[int]:
    """Shards in a drawn order, one after the other; every `window` images shuffled."""
    generator = torch.Generator().manual_seed(derive_seed("groups", seed, epoch))
    shards = [list(range(a, b)) for a, b in pairwise(starts)]
    line = [row for shard in torch.randperm(len(shards), generator=generator).tolist() for row in shards[shard]]
    shuffled = []
    for number, first in enumerate(range(0, len(line), window)):
        piece = line[first : first + window]
        generator = torch.Generator().manual_seed(derive_seed("window", seed, epoch, number))
        shuffled += [piece[place] for place in torch.randperm(len(piece), generator=generator).tolist()]
    return shuffled


class TestOrder:
    @pytest.mark.parametrize("window", [1, 5, 12, 61, 1000])
    @pytest.mark.parametrize("batch_size", [1, 5, 61, 150])
    def test_it_is_that_of_the_naive_loop(self, window: int, batch_size: int) -> None:
        endless = [(epoch, row) for epoch in range(8) for row in naive_epoch(STARTS, 3, window, epoch)]
        stream = order(batch_size, window)
        for step in range(400 // batch_size):
            epochs, rows = stream.at(step)
            expected = endless[step * batch_size : (step + 1) * batch_size]
            assert list(zip(epochs.tolist(), rows.tolist(), strict=True)) == expected

    def test_every_image_comes_once_an_epoch_in_another_order(self) -> None:
        epochs = [rows_of_epoch(order(), epoch, 61) for epoch in range(3)]
        assert all(sorted(rows) == list(range(61)) for rows in epochs)
        assert epochs[0] != epochs[1] != epochs[2]
        assert rows_of_epoch(order(seed=4), 0, 61) != epochs[0]

    def test_a_step_does_not_depend_on_the_steps_before(self) -> None:
        ran, fresh = order(), order()
        for step in range(30):
            ran.at(step)
        assert all(map(torch.equal, ran.at(30), fresh.at(30)))

    def test_a_window_reads_from_few_shards_and_a_full_shuffle_from_all(self) -> None:
        starts = list(range(0, 1010, 10))
        shards = [row // 10 for row in rows_of_epoch(order(window=40, starts=starts), 0, 1000)]
        assert max(len(set(shards[start : start + 40])) for start in range(0, 1000, 40)) == 4
        shards = [row // 10 for row in rows_of_epoch(order(window=1000, starts=starts), 0, 1000)]
        assert min(len(set(shards[start : start + 40])) for start in range(0, 1000, 40)) > 20


def batches_of(task: Task, seed: int = 0, batch_size: int = 9, window: int | None = None) -> Batches:
    from ptft.data.batches import Order

    made = (
        Order(task.train.labels, batch_size, seed)
        if window is None or task.train.groups is None
        else StreamOrder(task.train.groups, batch_size, seed, window)
    )
    return Batches(task.train, task.format, made, NoAugment().build(task.format.image_size), torch.device("cpu"))


def seen_in(batches: Batches, task: Task, epoch: int) -> list[tuple[bytes, str]]:
    """Pixels (hashed) and class of every image of an epoch, in the order they come; N must be a multiple of B."""
    shown = []
    per_epoch = len(task.train) // 9
    for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
        batch = batches.at(step)
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
            shown.append((hashlib.sha256(image.numpy().tobytes()).digest(), task.classes[label]))
    return shown


STATISTICS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
WHOLE = {"validation": 0, "test": 0, "image_size": 12} | STATISTICS


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of 60 images."""
    return make_images(tmp_path / "pictures", COLOURS, 60)


def test_tar_shards_and_parquet_stream_what_the_folder_shows(ptft: Ptft, pictures: Path, tmp_path: Path) -> None:
    ptft("pack", "--data", pictures, "--out", "packed", "--images-per-shard", "9")
    assert len(list(Path("packed").glob("*.tar"))) == 20
    write_parquet(tmp_path / "tables" / "data.parquet", pictures, rows_per_group=11, names=sorted(COLOURS))
    folder = task_of(Folder.model_validate({"name": "folder", "root": str(pictures)} | WHOLE))
    expected = Counter(seen_in(batches_of(folder), folder, 0))
    assert len(expected) == 180
    orders = []
    for path in ("packed", "tables"):
        stream = task_of(hub(Path(path), read="streaming", shuffle_buffer=25, **WHOLE))
        batches = batches_of(stream, window=25)
        for epoch in range(2):
            shown = seen_in(batches, stream, epoch)
            assert Counter(shown) == expected
            orders.append(shown)
    assert all(a != b for i, a in enumerate(orders) for b in orders[i + 1 :])
    (pictures / "red" / "000.jpg").write_bytes((pictures / "red" / "002.jpg").read_bytes())
    changed = task_of(Folder.model_validate({"name": "folder", "root": str(pictures)} | WHOLE))
    assert Counter(seen_in(batches_of(changed), changed, 0)) != expected


def test_in_memory_and_mapped_give_the_batches_of_the_folder_in_its_order(ptft: Ptft, pictures: Path) -> None:
    ptft("pack", "--data", pictures, "--out", "packed", "--images-per-shard", "9")
    folder = task_of(Folder.model_validate({"name": "folder", "root": str(pictures)} | WHOLE))
    expected = seen_in(batches_of(folder), folder, 1)
    for read in ("memory", "mapped"):
        packed = task_of(hub(Path("packed"), read=read, **WHOLE))
        assert seen_in(batches_of(packed), packed, 1) == expected
        assert packed.fingerprint == folder.fingerprint
        assert list(packed.train.names) == list(folder.train.names)


def test_larger_training_images_come_out_of_shards_as_out_of_the_folder(ptft: Ptft, pictures: Path) -> None:
    ptft("pack", "--data", pictures, "--out", "packed", "--images-per-shard", "9")
    keys = WHOLE | {"store_size": 18}
    folder = task_of(Folder.model_validate({"name": "folder", "root": str(pictures)} | keys)).train
    assert folder.larger is not None
    for read in ("memory", "mapped", "streaming"):
        packed = task_of(hub(Path("packed"), read=read, **keys)).train
        assert packed.larger is not None
        rows = torch.arange(0, 180, 25)
        expected = torch.tensor([list(folder.names).index(packed.names[row]) for row in rows.tolist()])
        assert torch.equal(packed.larger.take(rows), folder.larger.take(expected))
        assert torch.equal(packed.images.take(rows), folder.images.take(expected))


def test_rows_of_a_stream_lie_in_order_so_that_a_pass_reads_shard_by_shard(ptft: Ptft, photos: Path) -> None:
    ptft("pack", "--data", photos, "--out", "packed", "--images-per-shard", "9")
    found = task_of(hub(Path("packed"), read="streaming", image_size=12))
    for examples in found.parts.values():
        places = [record.image.shards.index.rows[record.image.row] for record in examples.images.records]  # type: ignore[attr-defined]
        keys = [(int(place["file"]), int(place["offset"])) for place in places]
        assert keys == sorted(keys)
        assert examples.groups is not None
        begins = [row for row in range(len(keys)) if not row or keys[row][0] != keys[row - 1][0]]
        assert examples.groups.tolist() == [*begins, len(keys)]


@pytest.fixture
def streaming(ptft: Ptft, photos: Path, tmp_path: Path) -> Path:
    """A run that streams from shards, with everything random."""
    ptft("pack", "--data", photos, "--out", "packed", "--images-per-shard", "7")
    path = write_config(
        tmp_path / "stream.yaml",
        augment={"name": "photo", "erasing": 0.3},
        model={"dropout": 0.3},
        train={"steps": 30, "ema": 0.9},
        checkpoint={"every": {"steps": 4}},
    )
    section = '{"name": "hub", "path": "packed", "read": "streaming", "shuffle_buffer": 16, "image_size": 12}'
    path.write_text(path.read_text().replace('{"name": "folder", "root": "photos"}', section))
    return path


def test_a_stream_killed_in_mid_epoch_goes_on_at_the_same_image_and_ends_with_the_same_bits(
    ptft: Ptft, streaming: Path, tmp_path: Path
) -> None:
    whole = ptft("pretrain", streaming, "--out", "whole").path
    running = start("pretrain", streaming, "--out", "killed", "--resume", cwd=tmp_path)
    while running.is_alive() and not list(Path("killed/checkpoints").glob("step-*.pt")):
        time.sleep(0.002)
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    resumed = ptft("pretrain", streaming, "--out", "killed", "--resume")
    assert "resumed at step" in resumed.err
    assert differing(whole, resumed.path) == []
    other = ptft("pretrain", streaming, "--out", "other", "--set", "data.shuffle_buffer=15").path
    assert differing(whole, other), "the order of the stream has no part in the weights"


def differing(first: Path, second: Path) -> list[str]:
    """Names of tensors that are not the same bits in two checkpoints."""
    a, b = checkpoint.read(first).tensors, checkpoint.read(second).tensors
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def test_a_shard_that_changed_is_refused_when_a_run_goes_on(ptft: Ptft, streaming: Path, photos: Path) -> None:
    ptft("pretrain", streaming, "--out", "run", "--set", "train.steps=6")
    Path("packed").rename("old")
    for path in photos.glob("red/*.png"):
        path.write_bytes(png(1))
    ptft("pack", "--data", photos, "--out", "packed", "--images-per-shard", "7")
    refused = ptft("pretrain", streaming, "--out", "run", "--resume", "--set", "train.steps=9")
    assert refused.code == 3
    assert "the content of a training image is another" in refused.err


def test_the_leak_check_costs_a_pass_that_is_told_and_can_be_left_out(ptft: Ptft, streaming: Path) -> None:
    checked = ptft("pretrain", streaming, "--out", "a", "--set", "train.steps=3")
    assert "leak check: one pass over 42 training images before the first step" in checked.err
    assert "0 of 12 test images seen in training" in checked.err
    assert checkpoint.read(checked.path).part("seen")
    without = ptft("pretrain", streaming, "--out", "b", "--set", "train.steps=3", "--set", "data.leak_check=false")
    assert "leak check" not in without.err
    assert not checkpoint.read(without.path).part("seen")
    settings = ["--set", "train.steps=3", "--set", "data.leak_check=false", "--set", "transfer.recipe=full"]
    tuned = ptft("finetune", streaming, "--from", checked.path, "--out", "c", *settings)
    assert checkpoint.read(tuned.path).part("seen").keys() == checkpoint.read(checked.path).part("seen").keys()
    leak = ptft("leak", without.path, "--json")
    assert leak.json["num_seen"] == 0, "made again from the shards"


def test_a_test_image_that_a_stream_trained_on_is_found(ptft: Ptft, streaming: Path, photos: Path) -> None:
    found = task_of(hub(Path("packed")))
    trained, tested = found.train.names[0], found.parts["test"].names[0]
    (photos / tested).write_bytes((photos / trained).read_bytes())
    Path("packed").rename("old")
    ptft("pack", "--data", photos, "--out", "packed", "--images-per-shard", "7")
    assert "1 of 12 test images seen" in ptft("pretrain", streaming, "--out", "a", "--set", "train.steps=3").err


def test_a_checkpoint_of_a_stream_evaluates_and_finetunes(ptft: Ptft, streaming: Path) -> None:
    trained = ptft("pretrain", streaming, "--out", "a", "--json", "--set", "train.steps=12").json
    assert ptft("evaluate", trained["checkpoint"], "--json").json["top1"] == trained["test"]["top1"]
    assert ptft("evaluate", trained["checkpoint"], "--data", "packed").code == 0
    tuned = ptft("finetune", "--from", trained["checkpoint"], "--data", "packed", "--set", "train.steps=4")
    assert tuned.code == 0
    assert "shards in packed" in tuned.err


def test_a_bad_image_ends_a_stream_with_its_name(ptft: Ptft, streaming: Path, tmp_path: Path) -> None:
    write_tar(tmp_path / "bad.tar", [*samples(20), ("9999.png", png(3)[:-50]), ("9999.cls", b"cat")])
    settings = ["--set", "data.path=bad.tar", "--set", "data.validation=0", "--set", "data.test=0"]
    ended = ptft("pretrain", streaming, "--out", "a", "--set", "data.leak_check=false", *settings)
    assert ended.code == 3
    assert "bad.tar/9999.png: cannot be read: truncated" in ended.err


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"read": "streaming", "on_bad_image": "skip"}, "on_bad_image: skip goes with read: memory"),
        ({"shuffle_buffer": 5}, "shuffle_buffer goes with read: streaming, not with read: memory"),
        ({"read": "stream"}, "'memory', 'mapped' or 'streaming'"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        hub(Path("x"), **keys)


def test_a_stream_needs_the_size_of_its_images_and_cannot_be_balanced(ptft: Ptft, streaming: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.image_size is missing"):
        task_of(hub(Path("packed"), read="streaming"))
    balanced = ptft("pretrain", streaming, "--out", "a", "--set", "train.sampling=balanced")
    assert balanced.code == 2
    assert "balanced takes images from all shards at once" in balanced.err


def test_grey_shards_stay_grey(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    members = []
    for index in range(8):
        file = BytesIO()
        Image.open(BytesIO(png(index))).convert("L").save(file, "PNG")
        members += [(f"{index}.png", file.getvalue()), (f"{index}.cls", b"ab"[index % 2 : index % 2 + 1])]
    write_tar(tmp_path / "x.tar", members)
    assert task_of(hub(tmp_path / "x.tar", read="streaming", image_size=12)).format.in_channels == 1
    write_tar(tmp_path / "y.tar", [*members, *samples(2, ("a", "b"))])
    assert task_of(hub(tmp_path / "y.tar", read="streaming", image_size=12, test=0)).format.in_channels == 3


PEAK = r"""
import re, sys
from pathlib import Path
import torch
from ptft.augment import NoAugment
from ptft.data.ahead import Ahead
from ptft.data.batches import Batches
from ptft.data.sources import Hub
from ptft.data.stream import StreamOrder
from ptft.data.batches import Order
from ptft.data.task import prepare

torch.set_num_threads(1)
path, read = sys.argv[1:]
keys = {"shuffle_buffer": 64} if read == "streaming" else {}
keys |= {"mean": [0.5] * 3, "std": [0.25] * 3}
config = Hub.model_validate({"name": "hub", "path": path, "read": read, "image_size": 96, "test": 0} | keys)
task = prepare(config.open(), config, seed=0)
order = StreamOrder(task.train.groups, 16, 0, 64) if read == "streaming" else Order(task.train.labels, 16, 0)
batches = Batches(task.train, task.format, order, NoAugment().build(96), torch.device("cpu"))
for step in range(len(task.train) // 16):
    batches.at(step)
# Not getrusage: a process begins with the peak of the one that started it.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def bitmap(seed: int) -> bytes:
    """An image of 96x96 pixels and 28 kB."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


def peak_mb(path: Path, read: str) -> int:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), read], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_peak_memory_does_not_grow_with_the_number_of_shards(tmp_path: Path) -> None:
    """10 against 60 shards of 1 MB: the stream needs as much for both, memory needs the difference more."""
    contents = [bitmap(seed) for seed in range(40)]
    for shards in (10, 60):
        for number in range(shards):
            members = []
            for index, content in enumerate(contents):
                members += [(f"{index}.bmp", content), (f"{index}.cls", b"ab"[index % 2 : index % 2 + 1])]
            write_tar(tmp_path / str(shards) / f"{number:03d}.tar", members)
    few, many = peak_mb(tmp_path / "10", "streaming"), peak_mb(tmp_path / "60", "streaming")
    assert abs(many - few) < 12, (few, many)
    assert peak_mb(tmp_path / "60", "memory") - many > 30


def test_a_missing_shard_is_an_error_and_not_a_shorter_epoch(ptft: Ptft, streaming: Path) -> None:
    next(Path("packed").glob("*.tar")).unlink()
    with pytest.raises(DataError, match="of the manifest is missing"):
        hub(Path("packed"), read="streaming").open()


class TestAhead:
    def test_batches_made_ahead_are_the_same_in_any_order_of_steps(self, ptft: Ptft, photos: Path) -> None:
        ptft("pack", "--data", photos, "--out", "packed")
        task = task_of(hub(Path("packed"), read="streaming", **WHOLE))
        ahead, plain = Ahead(batches_of(task, window=25)), batches_of(task, window=25)
        for step in (0, 1, 2, 7, 8, 8, 3, 4):
            ours, theirs = ahead.at(step), plain.at(step)
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.indices, theirs.indices)

    def test_the_next_batch_is_made_before_it_is_asked_for(self, ptft: Ptft, photos: Path) -> None:
        ptft("pack", "--data", photos, "--out", "packed")
        task = task_of(hub(Path("packed"), read="streaming", **WHOLE))
        ahead = Ahead(batches_of(task, window=25))
        expected = batches_of(task, window=25).at(1).images
        ahead.at(0)
        assert ahead._next is not None
        ahead._next[1].result()
        for shard in Path("packed").glob("*.tar"):
            shard.unlink()
        assert torch.equal(ahead.at(1).images, expected)
        with pytest.raises(DataError, match="no such file"):
            ahead.at(2)
