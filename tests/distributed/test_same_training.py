"""One, two and four ranks see the same images and come to the same weights; evaluation is exact on any number."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.job import differing, largest_difference, run_job, weights
from making import COLOURS, Ptft, make_images, write_config

SIZES = (1, 2, 4)
LIVELY: dict[str, Any] = {
    "augment": {"name": "photo"},
    "model": {"dropout": 0.3},
    "objective": {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1, "class_weights": "balanced"},
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and a network pretrained on them for a moment, whose batch norm a finetuning can hold."""
    path = tmp_path_factory.mktemp("ranks")
    make_images(path / "photos", COLOURS, 20)
    write_config(path / "source.yaml")
    assert run_job(1, "pretrain", "source.yaml", "--out", "source", cwd=path).code == 0
    return path


def record_batches() -> None:
    """Writes what each step gives to this rank's share: rows, pixels after mixing, targets."""
    import ptft.train.step

    shares: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    gradient = ptft.train.step.Stepper._gradient

    def recorded(stepper: Any, state: Any, own: Any, buffers: Any) -> torch.Tensor:
        shares.append((own.indices[: len(own.images)].clone(), own.images.clone(), own.labels.clone()))
        torch.save(shares, f"seen-{os.environ.get('WORLD_SIZE', '1')}-{os.environ.get('RANK', '0')}.pt")
        return gradient(stepper, state, own, buffers)

    ptft.train.step.Stepper._gradient = recorded  # type: ignore[method-assign]


def seen(path: Path, size: int) -> list[list[torch.Tensor]]:
    """The global batch of each step, its shares in the order of the ranks."""
    shares = [torch.load(path / f"seen-{size}-{rank}.pt", weights_only=True) for rank in range(size)]
    return [[torch.cat(parts) for parts in zip(*step, strict=True)] for step in zip(*shares, strict=True)]


def test_ranks_take_the_same_images_in_the_same_order_with_the_same_mixing(scene: Path) -> None:
    """A batch of 10 on 4 ranks, in shares of 2 and 3; to the bit."""
    write_config(scene / "lively.yaml", **LIVELY, train={"steps": 8, "batch_size": 10})
    for size in SIZES:
        run_job(size, "pretrain", "lively.yaml", "--out", f"seen-{size}", cwd=scene, before=record_batches)
    alone = seen(scene, 1)
    assert len(alone) == 8
    for size in SIZES[1:]:
        for step, (ours, theirs) in enumerate(zip(seen(scene, size), alone, strict=True)):
            assert [one.equal(other) for one, other in zip(ours, theirs, strict=True)] == [True] * 3, (size, step)


def weigh_shares_alike() -> None:
    """Breaks the mean: that of the ranks' means, whatever the sizes of their shares."""
    import ptft.data.batches

    world_size = int(os.environ["WORLD_SIZE"])
    ptft.data.batches.Batch.size = property(lambda batch: len(batch.images) * world_size)  # type: ignore[assignment]


def finetune(scene: Path, size: int, out: str, **more: Any) -> dict[str, torch.Tensor]:
    result = run_job(
        size, "finetune", "target.yaml", "--from", "source/checkpoints/last.pt", "--out", out, cwd=scene, **more
    )
    assert result.code == 0, result.err
    return weights(scene / out)


def told(path: Path) -> torch.Tensor:
    """Loss and gradient norm of each step, as metrics.jsonl tells them."""
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return torch.tensor([[line["train_loss"], line["grad_norm"]] for line in lines if "train_loss" in line])


def test_50_steps_come_to_the_same_weights_within_1e_5(scene: Path) -> None:
    """fp32, class weights, smoothing, clipping, accumulation; batch norm held, which each rank would else take of
    its own images. A batch of 18 is shared by 4 ranks as 4, 5, 4, 5."""
    write_config(
        scene / "target.yaml",
        model=None,
        objective={"label_smoothing": 0.1, "class_weights": "balanced"},
        transfer={"recipe": "full", "bn": "frozen"},
        train={"steps": 50, "batch_size": 18, "accumulate": 2, "clip_norm": 1.0},
    )
    alone = finetune(scene, 1, "fine-1")
    for size in SIZES[1:]:
        assert largest_difference(finetune(scene, size, f"fine-{size}"), alone) < 1e-5
        torch.testing.assert_close(told(scene / f"fine-{size}"), told(scene / "fine-1"), rtol=1e-4, atol=1e-5)
    assert largest_difference(finetune(scene, 4, "unweighted", before=weigh_shares_alike), alone) > 1e-3


def test_weights_that_are_trained_from_a_later_step_on_are_trained_by_all_ranks(scene: Path) -> None:
    """Recipe gradual; gradients of 8 bits come near, and no nearer."""
    write_config(
        scene / "target.yaml",
        model=None,
        transfer={"recipe": "gradual", "bn": "frozen"},
        train={"steps": 12, "batch_size": 10},
    )
    alone, pair = finetune(scene, 1, "gradual-1"), finetune(scene, 2, "gradual-2")
    assert largest_difference(pair, alone) < 1e-5
    write_config(
        scene / "target.yaml",
        model=None,
        transfer={"recipe": "gradual", "bn": "frozen"},
        train={"steps": 12, "batch_size": 10, "compress_gradients": "bf16"},
    )
    assert 1e-5 < largest_difference(finetune(scene, 2, "rounded"), alone) < 1e-2


def test_the_running_statistics_of_batch_norm_are_the_mean_over_the_ranks(scene: Path) -> None:
    """Of two ranks with 5 images each the mean of the first layer, in front of which nothing differs, is that of 10."""
    for size in (1, 2):
        write_config(scene / "norm.yaml", train={"steps": 1, "batch_size": 10})
        assert run_job(size, "pretrain", "norm.yaml", "--out", f"norm-{size}", cwd=scene).code == 0
    alone, pair = (weights(scene / f"norm-{size}") for size in (1, 2))
    first = "backbone.stage1.bn."
    torch.testing.assert_close(pair[f"{first}running_mean"], alone[f"{first}running_mean"])
    assert alone[f"{first}running_mean"].abs().max() > 1e-3
    assert not torch.equal(pair[f"{first}running_var"], alone[f"{first}running_var"])
    assert pair[f"{first}num_batches_tracked"] == 1


def add_as_they_come() -> None:
    """Breaks the tree: each rank adds its own from left to right, and then the ranks are added."""
    import ptft.train.elastic

    def push(tree: Any, start: int, size: int, vector: torch.Tensor) -> None:
        if tree.nodes:
            start, before, total = tree.nodes.pop()
            size, vector = size + before, total + vector
        tree.nodes.append((start, size, vector))

    ptft.train.elastic.Tree.push = push  # type: ignore[method-assign]


def test_elastic_weights_are_the_same_bits_on_any_number_of_ranks(scene: Path) -> None:
    """Everything random is on, batch norm and a moving average too; 5 micro-batches of 2 and 3 images."""
    lively = LIVELY | {
        "train": {"steps": 10, "batch_size": 13, "accumulate": 5, "ema": 0.9, "deterministic": "elastic"}
    }
    write_config(scene / "elastic.yaml", **lively)
    for size in SIZES:
        assert run_job(size, "pretrain", "elastic.yaml", "--out", f"elastic-{size}", cwd=scene).code == 0
        assert differing(weights(scene / f"elastic-{size}"), weights(scene / "elastic-1")) == []
    for size in (1, 2):
        out = ("--out", f"by-rank-{size}")
        assert run_job(size, "pretrain", "elastic.yaml", *out, cwd=scene, before=add_as_they_come).code == 0
    assert differing(weights(scene / "by-rank-2"), weights(scene / "by-rank-1"))


def test_an_elastic_run_computes_with_one_thread(ptft: Ptft, tmp_path: Path) -> None:
    make_images(tmp_path / "photos", COLOURS, 4)
    config = write_config(tmp_path / "run.yaml", train={"steps": 1, "deterministic": "elastic"})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert ptft("pretrain", config).code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def tell_only_oneself() -> None:
    """Breaks the exchange of logits: every rank takes its own for those of the others."""
    import ptft.distributed.ranks

    ptft.distributed.ranks.Ranks.gather = lambda ranks, tensor: [tensor] * ranks.world_size  # type: ignore[method-assign]


def test_evaluation_counts_every_image_once_on_any_number_of_ranks(scene: Path) -> None:
    """701 images are five batches of 128 and one of 61, on up to 3 ranks; on 3 ranks 12 images are one batch."""
    make_images(scene / "many", COLOURS, 234)
    (scene / "many" / "red" / "000.jpg").unlink()
    make_images(scene / "few", COLOURS, 4)
    for data in ("many", "few"):
        found = [
            run_job(size, "evaluate", "source/checkpoints/last.pt", "--data", data, "--json", cwd=scene).json
            for size in (1, 2, 3)
        ]
        assert found[0]["num_examples"] == {"many": 701, "few": 12}[data]
        assert found == [found[0]] * 3
    result = run_job(
        2, "evaluate", "source/checkpoints/last.pt", "--data", "many", "--json", cwd=scene, before=tell_only_oneself
    )
    assert json.loads(result.out) != found[0]


def test_a_batch_smaller_than_the_ranks_is_refused_in_a_sentence(scene: Path) -> None:
    result = run_job(4, "pretrain", "source.yaml", "--set", "train.batch_size=3", "--out", "refused", cwd=scene)
    assert result.code == 2
    assert "train.batch_size: 3 images cannot be shared by 4 ranks" in result.err
    assert json.loads((scene / "refused" / "status.json").read_text())["exit_code"] == 2


def test_synchronised_batch_norm_is_refused_on_a_cpu(scene: Path) -> None:
    result = run_job(2, "pretrain", "source.yaml", "--set", "train.sync_bn=true", "--out", "synced", cwd=scene)
    assert (result.code, result.out) == (2, "")
    assert "train.sync_bn: torch synchronises batch norm on GPUs only" in result.err
