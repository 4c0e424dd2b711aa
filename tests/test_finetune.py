"""Finetuning from the command line: nothing is loaded silently."""

import json
from pathlib import Path

import pytest
import torch
from making import Ptft, make_images, write_config

from ptft import checkpoint

SHIFTED = {"green": (40, 180, 60), "red": (210, 50, 40), "violet": (180, 140, 220), "yellow": (220, 210, 60)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder of green, red, violet and yellow: two classes that the source knows, at other places."""
    return make_images(tmp_path / "target", SHIFTED, 15)


def sets(**values: object) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


QUICKLY = sets(train__steps=5, train__precision="fp32", train__memory_format="contiguous", device="cpu")


def test_without_a_config_everything_comes_from_checkpoint_and_folder(ptft: Ptft, source: Path, target: Path) -> None:
    result = ptft("finetune", "--from", source, "--data", target, *QUICKLY)
    found, before = checkpoint.read(result.path).metadata, checkpoint.read(source).metadata
    assert found.classes == ("green", "red", "violet", "yellow")
    assert (found.mean, found.std, found.image_size) == (before.mean, before.std, before.image_size)
    assert found.config["model"]["width"] == 4
    assert result.path == Path("runs/target/checkpoints/best.pt")
    assert "100.0 % of the backbone loaded" in result.err
    assert "head rows kept by class name: green, red" in result.err


def test_what_the_model_section_leaves_open_is_the_sources(ptft: Ptft, source: Path, target: Path) -> None:
    grey = ptft(
        "finetune", "--from", source, "--data", target, *QUICKLY, *sets(model="{name: small-cnn, in_channels: 1}")
    )
    assert grey.code == 0, grey.err
    found = checkpoint.read(grey.path).metadata
    assert (found.config["model"]["width"], found.in_channels) == (4, 1)
    settings = [*QUICKLY, *sets(model__name="small-resnet"), "--out", "b"]
    other = ptft("finetune", "--from", source, "--data", target, *settings)
    assert other.code == 4  # another network takes nothing over


def test_without_steps_the_budget_suits_the_data(ptft: Ptft, source: Path, target: Path) -> None:
    result = ptft("check", write_config(Path("t.yaml"), data={"root": "target"}, train=None, model=None), "--json")
    assert result.code == 2  # a section must be a section
    config = Path("t.yaml")
    config.write_text(json.dumps({"data": {"name": "folder", "root": "target"}, "device": "cpu"}))
    found = ptft("check", config, "--from", source, "--json")
    assert found.code == 0, found.err
    assert found.json["num_steps"] == 200


def test_head_rows_are_kept_by_name_never_by_place(ptft: Ptft, source: Path, target: Path) -> None:
    path = ptft("finetune", "--from", source, "--data", target, *QUICKLY, *sets(optim__lr="1e-30")).path
    old, new = checkpoint.read(source), checkpoint.read(path)
    for name in ("green", "red"):
        before, after = old.metadata.classes.index(name), new.metadata.classes.index(name)
        assert before != after
        assert torch.equal(new.tensors["head.weight"][after], old.tensors["head.weight"][before])
    fresh = new.metadata.classes.index("violet")
    assert not any(torch.equal(new.tensors["head.weight"][fresh], row) for row in old.tensors["head.weight"])


def test_a_permuted_class_order_gives_the_same_predictions_by_name(ptft: Ptft, source: Path, photos: Path) -> None:
    settings = [*QUICKLY, *sets(optim__lr="1e-30", data__classes="[red, blue, green]", train__steps=1)]
    permuted = ptft("finetune", "--from", source, "--data", photos, *settings).path
    rows = [ptft("predict", path, photos).out.splitlines() for path in (source, permuted)]
    labels = [[row.split(",")[1] for row in lines] for lines in rows]
    assert labels[0] == labels[1]
    assert len(set(labels[0])) == 4  # the header and three classes


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrapped_weights_load_fully_and_it_is_said(ptft: Ptft, source: Path, target: Path, prefix: str) -> None:
    found = checkpoint.read(source)
    wrapped = {prefix + name: tensor for name, tensor in found.weights().items()}
    checkpoint.write(Path("wrapped.pt"), found.metadata, found.weights())
    torch.save(wrapped, "bare.pt")
    config = write_config(Path("t.yaml"), data={"root": "target", "image_size": 12}, train={"steps": 1})
    result = ptft("finetune", config, "--from", "bare.pt", "--out", "wrapped")
    assert result.code == 0, result.err
    assert "100.0 % of the backbone loaded" in result.err
    assert "took the wrapper prefix" in result.err
    assert all(word + "." in result.err for word in prefix.split(".") if word)


def test_a_wrapped_ptft_checkpoint_loads_fully_and_it_is_said(ptft: Ptft, source: Path, target: Path) -> None:
    found = checkpoint.read(source)
    wrapped = {f"module.{name}": tensor for name, tensor in found.weights().items()}
    checkpoint.write(Path("wrapped.pt"), found.metadata, wrapped)
    result = ptft("finetune", "--from", "wrapped.pt", "--data", target, *QUICKLY)
    assert result.code == 0, result.err
    assert "100.0 % of the backbone loaded" in result.err
    assert "took the wrapper prefix module." in result.err


def test_a_wrong_architecture_exits_4_with_both_lists(ptft: Ptft, source: Path, target: Path) -> None:
    settings = [*QUICKLY, *sets(model="{name: small-resnet, width: 4}")]
    result = ptft("finetune", "--from", source, "--data", target, *settings)
    assert result.code == 4
    assert "only 0.0 % of the backbone" in result.err
    assert "tensors of the target without weights" in result.err
    assert "backbone.stem" in result.err
    assert "tensors of the source without a place" in result.err
    assert not list(Path("runs/target/checkpoints").glob("*.pt"))


def test_another_width_is_refused_tensor_by_tensor_unless_the_floor_is_lowered(
    ptft: Ptft, source: Path, target: Path
) -> None:
    settings = [*QUICKLY, *sets(model="{name: small-cnn, width: 5}")]
    result = ptft("finetune", "--from", source, "--data", target, *settings)
    assert result.code == 4
    assert "the source has 4×3×3×3, the target 5×3×3×3" in result.err
    assert "\n0 tensors of the source without a place.\n" in result.err
    allowed = ptft("finetune", "--from", source, "--data", target, *settings, *sets(transfer__min_loaded=0.0))
    assert allowed.code == 0
    assert "allowed by transfer.min_loaded: 0.0" in allowed.err


def test_every_tensor_has_a_line_in_the_report(ptft: Ptft, source: Path, target: Path) -> None:
    summary = ptft("finetune", "--from", source, "--data", target, *QUICKLY, "--json").json
    names = {entry["name"] for entry in summary["transfer"]}
    assert names == checkpoint.read(source).weights().keys()
    assert {entry["outcome"] for entry in summary["transfer"]} == {"loaded", "adapted"}


def test_probe_leaves_the_backbone_bit_identical_statistics_included(ptft: Ptft, source: Path, target: Path) -> None:
    changed = {}
    for recipe in ("probe", "full"):
        settings = [*QUICKLY, *sets(transfer__recipe=recipe)]
        path = ptft("finetune", "--from", source, "--data", target, "--out", recipe, *settings).path
        old, new = checkpoint.read(source).tensors, checkpoint.read(path).tensors
        changed[recipe] = {
            name for name in old if name.startswith("backbone.") and not torch.equal(old[name], new[name])
        }
        assert not torch.equal(new["head.weight"], old["head.weight"])
    assert changed["probe"] == set()
    assert any("running_mean" in name for name in changed["full"])


def test_the_lineage_names_the_parent_and_every_data_set(ptft: Ptft, source: Path, target: Path) -> None:
    path = ptft("finetune", "--from", source, "--data", target, *QUICKLY).path
    lineage = ptft("inspect", path, "--json").json["lineage"]
    assert [run["command"] for run in lineage] == ["pretrain", "finetune"]
    assert lineage[0]["digest"] == checkpoint.read(source).digest
    assert lineage[0]["data"]["fingerprint"] != lineage[1]["data"]["fingerprint"]
    told = ptft("inspect", path).out
    assert "1. pretrain small-cnn" in told
    assert "2. finetune small-cnn" in told


def test_finetuning_resumes_without_the_source_file(ptft: Ptft, source: Path, target: Path) -> None:
    arguments = ["finetune", "--from", source, "--data", target, *QUICKLY, "--set", "train.steps=8"]
    whole = ptft(*arguments, "--out", "whole").path
    path = ptft(*arguments, "--out", "cut", "--set", "checkpoint.every={steps: 3}").path
    for later in ("best.pt", "last.pt", "step-000000008.pt"):
        path.with_name(later).unlink()
    (path.parent.parent / "status.json").unlink()
    source.unlink()
    resumed = ptft(*arguments, "--out", "cut", "--resume", "--set", "checkpoint.every={steps: 3}")
    assert "resumed at step 6 of 8" in resumed.err
    found = [checkpoint.read(folder / "last.pt") for folder in (whole.parent, resumed.path.parent)]
    assert all(torch.equal(tensor, found[1].tensors[name]) for name, tensor in found[0].tensors.items())
    for key in ("lineage", "transfer", "start"):
        assert getattr(found[0].metadata, key) == getattr(found[1].metadata, key)


def test_finetune_needs_a_config_or_data_and_a_checkpoint(ptft: Ptft, target: Path) -> None:
    assert ptft("finetune", "--from", "a.pt").code == 2
    assert ptft("finetune", "--data", target).code == 2
    missing = ptft("finetune", "--from", "nowhere.pt", "--data", target)
    assert (missing.code, missing.out) == (4, "")
    assert "nowhere.pt" in missing.err


def test_bare_weights_without_a_model_are_recognised(ptft: Ptft, source: Path, target: Path) -> None:
    torch.save(checkpoint.read(source).weights(), "bare.pt")
    result = ptft("finetune", "--from", "bare.pt", "--data", target, *QUICKLY)
    assert result.code == 0, result.err
    assert "recognised as small-cnn with width: 4" in result.err
    assert checkpoint.read(result.path).metadata.config["model"]["width"] == 4


def test_a_run_folder_is_of_one_command_and_one_source(ptft: Ptft, config: Path, source: Path, target: Path) -> None:
    other = ptft("pretrain", config, "--out", "other", "--set", "seed=1").path
    arguments = ["finetune", "--data", target, *QUICKLY, "--resume", "--from"]
    path = ptft(*arguments, source).path
    assert ptft(*arguments, source).path == path
    refused = ptft(*arguments, other)
    assert refused.code == 2
    assert "from another checkpoint" in refused.err
    mixed = ptft(*arguments, source, "--out", "other")
    assert mixed.code == 2
    assert "holds a pretrain run" in mixed.err


def test_data_replaces_the_place_of_the_images_and_keeps_the_other_keys(ptft: Ptft, source: Path, target: Path) -> None:
    config = Path("t.yaml")
    config.write_text("data: {name: csv, path: nowhere.csv, classes: [red, green]}\ndevice: cpu\n")
    path = ptft("finetune", config, "--from", source, "--data", target, *QUICKLY).path
    assert checkpoint.read(path).metadata.classes == ("red", "green")


def test_channels_other_than_the_sources_are_adapted_and_proved_on_grey_images(
    ptft: Ptft, source: Path, target: Path
) -> None:
    settings = sets(model="{name: small-cnn, width: 4, in_channels: 1}")
    result = ptft("finetune", "--from", source, "--data", target, *QUICKLY, *settings)
    assert result.code == 0, result.err
    assert "adapted backbone.stage1.conv.weight: input channels 3 to 1, filters summed" in result.err
    assert "proof: on 4 fixed grey images" in result.err
    found, before = checkpoint.read(result.path).metadata, checkpoint.read(source).metadata
    assert found.in_channels == 1
    assert found.mean == pytest.approx([sum(before.mean) / 3])


def test_the_proof_is_said_and_kept_in_the_checkpoint(ptft: Ptft, source: Path, target: Path) -> None:
    path = ptft("finetune", "--from", source, "--data", target, *QUICKLY).path
    proof, *others = checkpoint.read(path).metadata.start
    assert all(sentence.startswith("auto: ") for sentence in others)
    assert proof.startswith("proof: on 4 fixed images the backbone gives the features of the source's own network")
    assert proof in ptft("inspect", path).out


def test_the_source_may_stand_in_the_config_and_the_flag_wins(ptft: Ptft, source: Path, target: Path) -> None:
    config = Path("t.yaml")
    config.write_text(f"data: {{name: folder, root: target}}\ndevice: cpu\ntransfer: {{from: {source}}}\n")
    path = ptft("finetune", config, *QUICKLY).path
    assert checkpoint.read(path).metadata.config["transfer"]["from"] == str(source)
    again = ptft("finetune", path.parent.parent / "config.yaml", "--out", "again").path
    tensors = [checkpoint.read(one).tensors for one in (path, again)]
    assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())
    missing = ptft("finetune", config, "--from", "nowhere.pt", "--out", "other")
    assert (missing.code, "nowhere.pt" in missing.err) == (4, True)


def test_channel_statistics_of_the_config_win_over_the_sources(ptft: Ptft, source: Path, target: Path) -> None:
    settings = sets(data__mean="[0.5, 0.4, 0.3]", data__std="[0.2, 0.2, 0.1]")
    path = ptft("finetune", "--from", source, "--data", target, *QUICKLY, *settings).path
    metadata = checkpoint.read(path).metadata
    assert (metadata.mean, metadata.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    short = ptft("finetune", "--from", source, "--data", target, "--out", "b", *sets(data__mean="[1]", data__std="[1]"))
    assert (short.code, "give 3, one for each channel, not 1" in short.err) == (2, True)
    half = ptft("finetune", "--from", source, "--data", target, "--out", "c", *sets(data__mean="[1]"))
    assert (half.code, "mean and std go together" in half.err) == (2, True)


def test_a_run_folder_given_as_checkpoint_is_told_where_it_lies(ptft: Ptft, source: Path, target: Path) -> None:
    result = ptft("finetune", "--from", source.parent.parent, "--data", target)
    assert result.code == 4
    assert "checkpoints/best.pt" in result.err


def test_without_batch_norm_statistics_the_model_must_be_named_and_they_are_measured(
    ptft: Ptft, source: Path, target: Path
) -> None:
    weights = checkpoint.read(source).weights()
    torch.save({name: tensor for name, tensor in weights.items() if "running" not in name}, "bare.pt")
    arguments = ["finetune", "--from", "bare.pt", "--data", target, *QUICKLY, "--set", "optim.lr=1e-30"]
    refused = ptft(*arguments)
    assert (refused.code, "stage1.bn.running_mean (missing)" in refused.err) == (4, True)
    result = ptft(*arguments, *sets(model="{name: small-cnn, width: 4}"), "--set", "transfer.recipe=probe")
    assert result.code == 0, result.err
    assert "measured on 44 training images" in result.err
    assert "finetune small-cnn: 1 step on folder " in ptft("inspect", result.path).out
    measured = checkpoint.read(result.path).tensors["backbone.stage3.bn.running_mean"]
    assert not torch.equal(measured, torch.zeros_like(measured))
