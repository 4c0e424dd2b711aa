"""Co-Tuning, soup, dropout and stochastic depth: what they compute, that they resume, and where they are refused."""

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.program import start
from making import Ptft, make_images, write_config
from torch.nn import functional

from ptft import checkpoint
from ptft.inference import load_classifier
from ptft.models import SmallResnet, TorchvisionCnn
from ptft.models.stochastic import set_drop_path
from ptft.run.soup import choose, mean_of
from ptft.train.co_tuning import NAMES, co_tuning_loss, relation
from ptft.train.metrics import Scores

SHIFTED = {"cyan": (60, 190, 200), "orange": (230, 150, 40), "violet": (180, 140, 220)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Three classes that the source does not know."""
    return make_images(tmp_path / "target", SHIFTED, 15)


def sets(*settings: str, recipe: str = "full", lr: float = 0.05) -> list[str]:
    given = [
        f"transfer.recipe={recipe}",
        "train.steps=8",
        "train.batch_size=8",
        "train.precision=fp32",
        f"optim.lr={lr}",
    ]
    given += ["train.memory_format=contiguous", "device=cpu", "checkpoint.every={steps: 3}", "checkpoint.keep=9"]
    return [part for text in (*given, *settings) for part in ("--set", text)]


def last(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.read(path.with_name("last.pt")).tensors)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def cut_after_step_3(ptft: Ptft, command: Sequence[str | Path]) -> Path:
    """The end of a run of which all but the first checkpoint were lost."""
    path = ptft(*command, "--out", "cut").path
    for later in (path, path.with_name("last.pt"), *sorted(path.parent.glob("step-*.pt"))[1:]):
        later.unlink(missing_ok=True)
    Path("cut/status.json").unlink()
    resumed = ptft(*command, "--out", "cut", "--resume")
    assert "resumed at step 3 of 8" in resumed.err
    return resumed.path


def test_the_relation_is_the_mean_of_what_the_source_says_of_a_class() -> None:
    probabilities = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.2, 0.8]])
    expected = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.2, 0.8]])
    torch.testing.assert_close(relation(probabilities, torch.tensor([0, 0, 1]), 2), expected)


def test_the_loss_of_co_tuning_is_that_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    features, weight, bias = (torch.randn(*size, generator=generator) for size in ((5, 4), (3, 4), (3,)))
    wanted = torch.rand(2, 3, generator=generator).softmax(dim=1)
    labels = torch.tensor([0, 1, 1, 0, 1])
    start = dict(zip(NAMES, (weight, bias, wanted), strict=True))
    logits = features.double().numpy() @ weight.double().numpy().T + bias.double().numpy()
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        logs = row - np.log(np.exp(row).sum())
        total -= float((wanted[label].double().numpy() * logs).sum()) / 5
    assert co_tuning_loss(features, labels, start).item() == pytest.approx(total, rel=1e-5)
    rows = functional.one_hot(labels, 2).float()
    torch.testing.assert_close(co_tuning_loss(features, rows, start), co_tuning_loss(features, labels, start))


def test_co_tuning_keeps_the_sources_view_of_the_images_and_resumes_to_the_same_bits(
    ptft: Ptft, source: Path, target: Path
) -> None:
    ends, losses = {}, {}
    for weight in ("null", "5.0"):
        command = ["finetune", "--from", source, "--data", target, *sets(f"transfer.co_tuning={weight}", lr=0.005)]
        path = ptft(*command, "--out", f"whole-{weight}").path.with_name("last.pt")
        ends[weight] = path
    start = checkpoint.read(ends["5.0"]).part("start")
    assert start.keys() == set(NAMES)
    torch.testing.assert_close(start["source_relation"].sum(dim=1), torch.ones(3))
    assert torch.equal(start["source_head.weight"], checkpoint.read(source).tensors["head.weight"])
    from ptft.config.load import load
    from ptft.report.console import Console
    from ptft.run.preparation import prepare_finetune
    from ptft.run.surroundings import Surroundings
    from ptft.settings import FinetuneConfig

    with Path("said.txt").open("w") as stream:
        task = prepare_finetune(
            load(Path("whole-null/config.yaml"), FinetuneConfig), source, Surroundings.of(Console(stream))
        ).task
    images = task.format.normalize(task.train.images.take(torch.arange(len(task.train))))
    for weight, path in ends.items():
        with torch.no_grad():
            features = load_classifier(checkpoint.read(path)).features(images)
        losses[weight] = co_tuning_loss(features, task.train.labels, start).item()
    assert losses["5.0"] < losses["null"] - 0.01
    assert not any(name.startswith("source_") for name in checkpoint.read(ends["5.0"]).weights())
    assert same(last(cut_after_step_3(ptft, command)), last(ends["5.0"]))


def score(top1: float, loss: float | None = None) -> Scores:
    right = round(1000 * top1)
    return Scores(torch.tensor([[right, 1000 - right], [0, 0]]), 1 - top1 if loss is None else loss, None)


def test_the_soup_is_greedy_from_the_best_down() -> None:
    found = {(0,): 0.8, (1,): 0.9, (2,): 0.7, (1, 0): 0.85, (1, 2): 0.9}
    kept, best, alone = choose([0, 1, 2], lambda seeds: score(found[tuple(seeds)]))
    assert (kept, best.top1) == ([1, 2], 0.9)
    assert {seed: one.top1 for seed, one in alone.items()} == {0: 0.8, 1: 0.9, 2: 0.7}


def test_of_equal_seeds_the_one_of_less_loss_is_first_and_a_mean_is_judged_against_the_mean_so_far() -> None:
    found = {(0,): (0.8, 0.5), (1,): (0.8, 0.3), (2,): (0.8, 0.4), (1, 2): (0.9, 0.2), (1, 2, 0): (0.85, 0.1)}
    kept, best, _ = choose([0, 1, 2], lambda seeds: score(*found[tuple(seeds)]))
    assert (kept, best.top1, best.loss) == ([1, 2], 0.9, 0.2)


def test_the_mean_of_weights_is_numpys_and_one_alone_is_itself() -> None:
    parts = [{"w": torch.randn(3, 2), "count": torch.tensor(number)} for number in (4, 7)]
    mean = mean_of(parts)
    expected = np.mean([part["w"].double().numpy() for part in parts], axis=0)
    np.testing.assert_allclose(mean["w"].numpy(), expected, rtol=1e-6)
    assert int(mean["count"]) == 4
    assert torch.equal(mean_of(parts[1:])["w"], parts[1]["w"])


def test_best_is_what_went_into_the_soup_with_the_scores_of_that_and_not_what_was_tasted_last(
    ptft: Ptft, source: Path
) -> None:
    from ptft.config.load import load
    from ptft.report.console import Console
    from ptft.run.preparation import prepare_finetune
    from ptft.run.soup import cook
    from ptft.run.surroundings import Surroundings
    from ptft.run_folder import RunFolder
    from ptft.settings import FinetuneConfig
    from ptft.transfer.statistics import measure_statistics

    def finetuned(config: FinetuneConfig, folder: RunFolder) -> None:
        assert (config.seed, config.transfer.soup) == (1, None)
        folder.best.parent.mkdir(parents=True, exist_ok=True)
        folder.best.write_bytes(other.read_bytes())

    path, other = (
        ptft("finetune", "--from", source, "--data", "photos", *sets(f"seed={seed}"), "--out", f"run-{seed}").path
        for seed in (0, 1)
    )
    own, before = checkpoint.read(path), path.read_bytes()
    with Path("said.txt").open("w") as stream:
        console = Console(stream)
        config = load(Path("run-0/config.yaml"), FinetuneConfig)
        config = config.model_copy(update={"transfer": config.transfer.model_copy(update={"soup": 2})})
        prepared = prepare_finetune(config, source, Surroundings.of(console))
        for mixed, kept in ((0.5, (0,)), (0.9, (0, 1))):
            path.write_bytes(before)
            scores = iter([score(0.8), score(0.7), score(mixed), score(max(0.8, mixed))])
            for _ in range(2):  # what is a soup already is left alone
                cook(prepared, RunFolder(path.parent.parent), finetuned, lambda: next(scores), console, lambda: None)  # noqa: B023
            found = checkpoint.read(path)
            assert found.metadata.souped == kept
            assert found.metadata.lineage[-1].top1 == max(0.8, mixed)
            expected = mean_of([own.weights(), checkpoint.read(other).weights()][: len(kept)])
            if len(kept) == 2:
                prepared.classifier.load_state_dict(expected)
                task = prepared.task
                measure_statistics(prepared.classifier, task.train, task.format, prepared.device)
                expected = prepared.classifier.state_dict()
            assert same(dict(found.weights()), dict(expected))


def test_a_soup_averages_its_seeds_and_goes_on_after_a_signal(
    ptft: Ptft, source: Path, photos: Path, tmp_path: Path
) -> None:
    settings = sets("transfer.soup=2", "data.validation=0.3", "data.leak_check=false")
    command = ["finetune", "--from", source, "--data", photos, *settings, "--resume", "--out"]
    whole = ptft(*command, "whole")
    found = checkpoint.read(whole.path)
    kept = found.metadata.souped
    assert f"soup: {len(kept)} of 2 went in" in whole.err
    others = [checkpoint.read(Path(f"whole/soup/seed-{seed}/checkpoints/best.pt")) for seed in kept if seed]
    assert len(others) == 1
    assert all(not torch.equal(found.tensors["head.weight"], other.tensors["head.weight"]) for other in others)
    running = start(*command, "cut", cwd=tmp_path)
    while running.is_alive() and "soup: finetuning with seed 1" not in running.err.read_text():
        time.sleep(0.002)
    running.send(signal.SIGTERM)
    stopped = running.wait()
    assert stopped.code == 143, stopped.err
    assert "goes on with the run in cut." in stopped.err
    again = ptft(*command, "cut")
    assert same(dict(checkpoint.read(again.path).tensors), dict(found.tensors))
    assert ptft("evaluate", again.path, "--json").code == 0


def test_a_soup_leaves_what_the_recipe_freezes_as_it_was_statistics_included(
    ptft: Ptft, source: Path, photos: Path
) -> None:
    settings = sets("transfer.soup=2", "transfer.stages=[stage3]", "data.validation=0.3", recipe="surgical", lr=1e-4)
    found = checkpoint.read(ptft("finetune", "--from", source, "--data", photos, *settings).path)
    assert len(found.metadata.souped) == 2
    (ingredient,) = Path("runs").glob("*/soup/*/summary.json")
    assert "test" not in json.loads(ingredient.read_text()), "test images are seen by the run alone, once"
    before, after = checkpoint.read(source).weights(), found.weights()
    frozen = [name for name in before if name.startswith(("backbone.stage1.", "backbone.stage2."))]
    assert any(name.endswith("running_var") for name in frozen)
    assert [name for name in frozen if not torch.equal(before[name], after[name])] == []
    assert not torch.equal(before["backbone.stage3.bn.running_var"], after["backbone.stage3.bn.running_var"])


def test_stochastic_depth_rises_with_the_depth() -> None:
    small = SmallResnet(width=4).build(3, 3)
    assert set_drop_path(small, 0.2) == 2
    assert [part.p for part in small.modules() if hasattr(part, "p") and hasattr(part, "mode")] == [0.1, 0.2]
    assert small.state_dict().keys() == SmallResnet(width=4).build(3, 3).state_dict().keys()
    assert set_drop_path(TorchvisionCnn(name="efficientnet_b0").build(3, 3), 0.2) == 16
    assert set_drop_path(TorchvisionCnn(name="resnet18").build(3, 3), 0.2) == 0


def test_what_is_dropped_changes_training_alone_and_resumes_to_the_same_bits(
    ptft: Ptft, tmp_path: Path, photos: Path, target: Path
) -> None:
    config = write_config(tmp_path / "r.yaml", model={"name": "small-resnet"})
    source = ptft("pretrain", config, "--out", "resnet", "--set", "train.steps=2").path
    given = {
        "plain": (),
        "off": ("transfer.drop_path=0.0", "transfer.dropout=0.0"),
        "path": ("transfer.drop_path=0.5",),
        "both": ("transfer.drop_path=0.5", "transfer.dropout=0.5"),
    }
    ends = {}
    for name, settings in given.items():
        command = ["finetune", "--from", source, "--data", target, *sets(*settings)]
        ends[name] = last(ptft(*command, "--out", name).path)
    assert same(ends["plain"], ends["off"])
    assert not same(ends["plain"], ends["path"])
    assert not same(ends["path"], ends["both"])
    assert same(ends["both"], last(cut_after_step_3(ptft, command)))


def test_the_sources_own_classes_in_another_order_are_no_new_head(ptft: Ptft, source: Path, photos: Path) -> None:
    permuted = sets("data.classes=[red, blue, green]", "transfer.interpolate=true", "data.validation=0.3")
    result = ptft("finetune", "--from", source, "--data", photos, *permuted)
    assert result.code == 0, result.err
    assert "adapted head.weight, head.bias: every row kept by class name, in the order of this task's" in result.err


def test_options_that_do_not_fit_exit_2_with_a_sentence(ptft: Ptft, source: Path, target: Path) -> None:
    found = checkpoint.read(source)
    bare = {name: tensor for name, tensor in found.weights().items() if name.startswith("backbone.")}
    torch.save(bare, "bare.pt")
    size = ("data.image_size=12", "model={name: small-cnn, width: 4}")
    cases = [
        (source, sets("transfer.co_tuning=1.0", recipe="probe"), "`co_tuning` has no meaning for recipe probe"),
        (source, sets("transfer.co_tuning=1.0", recipe="random"), "`co_tuning` has no meaning for recipe random"),
        ("bare.pt", sets("transfer.co_tuning=1.0", *size), "transfer.co_tuning: the source has no head that names"),
        (source, sets("transfer.soup=2"), "transfer.soup: training begins with a new head"),
        (source, sets("transfer.soup=2", "data.validation=0", recipe="lp-ft"), "no validation images to choose by"),
        (source, sets("transfer.soup=2", "data.labels_per_class=3"), "every seed draws other labels. Leave one out."),
        (source, sets("transfer.drop_path=0.1"), "transfer.drop_path: small-cnn has no stochastic depth."),
        (source, sets("transfer.dropout=0.1", recipe="probe"), "`dropout` has no meaning for recipe probe"),
    ]
    for weights, settings, sentence in cases:
        result = ptft("finetune", "--from", weights, "--data", target, *settings)
        assert (result.code, result.out) == (2, ""), (settings, result.err)
        assert sentence in result.err, (settings, result.err)
