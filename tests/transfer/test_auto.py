"""Recipe auto tries before it commits: what it chose is written down, never raced for again, and the same bits."""

import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from faults.program import start
from making import Ptft, make_images
from torch import nn

from ptft import checkpoint
from ptft.race.racers import Racer
from ptft.race.results import Result

SHIFTED = {"cyan": (60, 190, 200), "orange": (230, 150, 40), "violet": (180, 140, 220)}
QUICKLY = ("train.steps=40", "train.batch_size=8", "train.precision=fp32", "train.memory_format=contiguous")
BUDGET = "transfer.race.budget=7.5"
"""Enough for nine racers on one fold."""
ALL_FOLDS = "transfer.race.budget=22.0"


def sets(*settings: str) -> list[str]:
    """Flags of a quick run that races."""
    given = (*QUICKLY, BUDGET, "device=cpu", "data.leak_check=false", "checkpoint.every={steps: 15}", *settings)
    return [part for text in given for part in ("--set", text)]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Three classes that the source does not know."""
    return make_images(tmp_path / "target", SHIFTED, 12)


@pytest.fixture
def spoilt(source: Path, tmp_path: Path) -> Path:
    """A checkpoint whose convolutions give nothing, whatever the image."""
    found = checkpoint.read(source)
    dead = {name: torch.zeros_like(tensor) if tensor.ndim == 4 else tensor for name, tensor in found.tensors.items()}
    checkpoint.write(tmp_path / "spoilt.pt", found.metadata, dead)
    return tmp_path / "spoilt.pt"


def chosen(folder: str) -> tuple[str, float]:
    """Recipe and learning rate that a run's config.yaml names."""
    config = yaml.safe_load(Path(folder, "config.yaml").read_text())
    return config["transfer"]["recipe"], config["optim"]["lr"]


def share(folder: str) -> str:
    """`transfer.interpolate` of a run's config.yaml, for a flag."""
    return str(yaml.safe_load(Path(folder, "config.yaml").read_text())["transfer"]["interpolate"]).lower()


def differing(first: Path, second: Path) -> list[str]:
    """Names of tensors that are not the same bits in two checkpoints."""
    a, b = checkpoint.read(first).tensors, checkpoint.read(second).tensors
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def last(path: Path) -> Path:
    return path.with_name("last.pt")


def test_the_choice_is_told_and_written_down_and_gives_the_same_bits_as_an_explicit_config(
    ptft: Ptft, source: Path, target: Path
) -> None:
    result = ptft("finetune", "--from", source, "--data", target, *sets(), "--out", "auto")
    recipe, lr = chosen("auto")
    assert recipe in ("full", "lp-ft", "random", "probe")
    assert "nearest neighbours in the source's features name" in result.err
    assert "9 racers and the probe on images held out, 10 steps each, then 40 for the best of each recipe" in result.err
    assert f"In config.yaml: transfer.recipe: {recipe}" in result.err
    assert any("auto: chose" in sentence for sentence in checkpoint.read(result.path).metadata.start)
    interpolate = f"transfer.interpolate={share('auto')}"
    explicit = sets(f"transfer.recipe={recipe}", f"optim.lr={lr}", interpolate)
    other = ptft("finetune", "--from", source, "--data", target, *explicit, "--out", "explicit")
    assert "auto:" not in other.err
    assert differing(last(result.path), last(other.path)) == []
    changed = sets(f"transfer.recipe={recipe}", f"optim.lr={lr * 1.01}", interpolate)
    control = ptft("finetune", "--from", source, "--data", target, *changed, "--out", "control").path
    assert differing(last(result.path), last(control)) or recipe == "probe"


def test_a_run_that_goes_on_does_not_race_again(ptft: Ptft, source: Path, target: Path) -> None:
    command = ["finetune", "--from", source, "--data", target, *sets("transfer.layer_decay=0.9", "checkpoint.keep=9")]
    whole = ptft(*command, "--out", "whole").path
    shutil.copytree("whole", "cut")
    cut, decision = Path("cut/checkpoints", whole.name), chosen("cut")
    for path in (cut, last(cut), *sorted(cut.parent.glob("step-*.pt"))[1:]):
        path.unlink(missing_ok=True)
    Path("cut/status.json").unlink()
    resumed = ptft(*command, "--out", "cut", "--resume")
    assert "resumed at step 15 of 40" in resumed.err
    assert "auto:" not in resumed.err
    assert chosen("cut") == decision == chosen("whole")
    assert differing(last(whole), last(resumed.path)) == []


def test_weights_drawn_back_that_win_go_on_and_are_had_again_from_the_config(
    ptft: Ptft, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn_back(results: dict[Racer, Result], **_: object) -> Racer:
        return next(racer for racer in results if racer.share < 1)

    monkeypatch.setattr("ptft.race.decide.winner_of", drawn_back)
    command = ["finetune", "--from", source, "--data", target, *sets("checkpoint.keep=9"), "--out"]
    whole = ptft(*command, "whole")
    assert (chosen("whole"), share("whole")) == (("lp-ft", 0.01), "0.5")
    assert checkpoint.read(whole.path).metadata.interpolated == 0.5
    assert ptft(*command, "whole", "--resume").path == whole.path
    shutil.copytree("whole", "cut")
    cut = Path("cut/checkpoints")
    for path in (cut / "best.pt", cut / "last.pt", *sorted(cut.glob("step-*.pt"))[1:]):
        path.unlink()
    Path("cut/status.json").unlink()
    resumed = ptft(*command, "cut", "--resume")
    assert "resumed at step 15 of 40" in resumed.err
    again = ptft("finetune", "whole/config.yaml", "--out", "again")
    for other in (resumed, again):
        assert other.code == 0, other.err
        assert "auto:" not in other.err
        assert differing(whole.path, other.path) == differing(last(whole.path), last(other.path)) == []
    refused = ptft(*command, "whole", "--resume", "--set", "transfer.recipe=lp-ft")
    assert refused.code == 2
    assert "transfer.interpolate: the run has 0.5, now false" in refused.err


def test_a_run_killed_while_it_races_decides_the_same(ptft: Ptft, source: Path, target: Path, tmp_path: Path) -> None:
    command = ["finetune", "--from", source, "--data", target, *sets(), "--resume", "--out"]
    whole = ptft(*command, "whole").path
    running = start(*command, "killed", cwd=tmp_path)
    while running.is_alive() and "steps in all" not in running.err.read_text():
        time.sleep(0.002)
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    assert not Path("killed/config.yaml").exists()
    again = ptft(*command, "killed")
    assert chosen("killed") == chosen("whole")
    assert differing(last(whole), last(again.path)) == []


def test_random_weights_that_win_clearly_are_used_and_it_is_said(ptft: Ptft, spoilt: Path, target: Path) -> None:
    settings = sets("checkpoint.keep=9", "transfer.layer_decay=0.9", "transfer.head_lr=2.0")
    command = ["finetune", "--from", spoilt, "--data", target, *settings, "--out"]
    result = ptft(*command, "random")
    assert chosen("random")[0] == "random", result.err
    assert "random weights win clearly: the source's weights are set aside." in result.err
    found = checkpoint.read(result.path).metadata
    assert len(found.lineage) == 1
    assert {entry["outcome"] for entry in found.transfer} == {"fresh"}
    assert any("random weights: nothing of" in sentence for sentence in found.start)
    for path in (result.path, last(result.path), *sorted(result.path.parent.glob("step-*.pt"))[1:]):
        path.unlink(missing_ok=True)
    Path("random/status.json").unlink()
    resumed = ptft(*command, "random", "--resume")
    assert "resumed at step 15" in resumed.err


def test_random_weights_are_those_of_a_pretraining(ptft: Ptft, source: Path, target: Path) -> None:
    """Without a step that matters, recipe random leaves the very weights that `pretrain` draws."""
    still = sets("transfer.recipe=random", "optim.lr=1e-30", "optim.weight_decay=0")
    path = ptft("finetune", "--from", source, "--data", target, *still, "--out", "random").path
    from ptft.config.load import load
    from ptft.report.console import Console
    from ptft.run.preparation import prepare_pretrain
    from ptft.run.surroundings import Surroundings
    from ptft.settings import PretrainConfig

    Path("own.yaml").write_text(f"data: {{name: folder, root: {target}}}\nmodel: {{name: small-cnn, width: 4}}\n")
    with Path("said.txt").open("w") as stream:
        own = prepare_pretrain(
            load(Path("own.yaml"), PretrainConfig), Surroundings.of(Console(stream))
        ).classifier.state_dict()
    found = checkpoint.read(last(path)).tensors
    weights = [name for name in own if name.endswith("weight")]
    assert all(torch.equal(found[name], own[name]) for name in weights)
    stem = "backbone.stage1.conv.weight"
    assert not torch.equal(found[stem], checkpoint.read(source).tensors[stem])


def test_a_learning_rate_in_the_config_is_the_only_one_tried(ptft: Ptft, source: Path, target: Path) -> None:
    result = ptft("finetune", "--from", source, "--data", target, *sets("optim.lr=0.05"))
    rows = [line.split("  ")[1] for line in result.err.splitlines() if ", lr " in line and line.startswith("  ")]
    assert {row.strip() for row in rows} >= {"full, lr 0.05", "lp-ft, lr 0.05"}
    assert all("lr 0.05" in row for row in rows)
    assert chosen("runs/target")[1] == 0.05


def test_without_the_budget_for_a_race_it_is_lp_ft_to_the_bit(ptft: Ptft, source: Path, target: Path) -> None:
    result = ptft("finetune", "--from", source, "--data", target, *sets("transfer.race.budget=0.1"), "--out", "auto")
    assert "auto: lp-ft, lr 0.01 without a race: they may take" in result.err
    assert "transfer.race.budget: 5.0 is 5 times the 40 of the run." in result.err
    assert chosen("auto") == ("lp-ft", 0.01)
    explicit = sets("transfer.recipe=lp-ft", "optim.lr=0.01")
    same = ptft("finetune", "--from", source, "--data", target, *explicit, "--out", "same").path
    assert differing(last(result.path), last(same)) == []


def test_without_a_race_a_head_for_the_very_classes_is_kept(ptft: Ptft, source: Path, photos: Path) -> None:
    result = ptft("finetune", "--from", source, "--data", photos, *sets("train.steps=39"), "--out", "own")
    assert "auto: full without a race" in result.err
    assert chosen("own") == ("full", 0.02)


def test_with_one_image_a_class_there_is_no_race_and_it_is_lp_ft(ptft: Ptft, source: Path, target: Path) -> None:
    few = sets("data.labels_per_class=1", "data.validation=0", "train.steps=40")
    result = ptft("finetune", "--from", source, "--data", target, *few)
    assert "auto: lp-ft, lr 0.01 without a race: no class has images to hold out." in result.err


def test_a_run_too_short_for_races_is_not_told_of_a_budget(ptft: Ptft, source: Path, target: Path) -> None:
    result = ptft("finetune", "--from", source, "--data", target, *sets("train.steps=39"))
    assert "auto: lp-ft, lr 0.01 without a race: the run has 39 steps, and races need one of at least 40." in result.err
    assert "transfer.race.budget" not in result.err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["train.patience=5"], "train.patience: there are no validation images"),
        (["transfer.soup=2"], "transfer.soup: there are no validation images"),
        (["train.precision=fp16"], "train.precision: fp16 needs a GPU"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_races(
    ptft: Ptft, source: Path, target: Path, settings: list[str], words: str
) -> None:
    result = ptft("finetune", "--from", source, "--data", target, *sets("data.validation=0", *settings))
    assert result.code == 2
    assert words in result.err
    assert "auto:" not in result.err


def test_check_tells_the_races_and_does_not_run_them(ptft: Ptft, source: Path, target: Path) -> None:
    Path("t.yaml").write_text(f"data: {{name: folder, root: {target}}}\ntrain: {{steps: 40, batch_size: 8}}\n")
    found = ptft("check", "t.yaml", "--from", source, "--set", "device=cpu", "--set", ALL_FOLDS, "--json")
    assert found.code == 0, found.err
    assert "auto: a run would race first: 9 racers and the probe on 3 folds of the training images" in found.err
    assert found.json["race_steps"] == 3 * (9 * 10 + 5 * 40)
    assert "chose" not in found.err


def test_check_accepts_what_a_run_would_and_counts_every_seed_of_a_soup(ptft: Ptft, source: Path, target: Path) -> None:
    """With a new head a soup is for lp-ft, which is then all that races."""
    Path("t.yaml").write_text(f"data: {{name: folder, root: {target}}}\ntrain: {{steps: 40, batch_size: 8}}\n")
    found = ptft("check", "t.yaml", "--from", source, *sets("transfer.soup=3"), "--json")
    assert found.code == 0, found.err
    assert "auto: a run would race first: 1 racer on" in found.err
    steps = 3 * found.json["num_steps"] + found.json["race_steps"]
    assert found.json["estimated_seconds"] == pytest.approx(steps * found.json["seconds_per_step"])


def test_check_of_gradual_unfreezing_times_steps_that_train_all_stages(ptft: Ptft, source: Path, target: Path) -> None:
    trained: list[bool] = []

    def note(module: nn.Module, _: object, maps: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            trained.append(maps.requires_grad)

    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        found = ptft("check", "--from", source, "--data", target, *sets("transfer.recipe=gradual"))
    finally:
        hook.remove()
    assert found.code == 0, found.err
    assert trained[-4:] == [True] * 4
