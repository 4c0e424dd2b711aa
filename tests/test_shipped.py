"""What the project ships works as it says: configs, demo, model zoo."""

from pathlib import Path

import pytest
from making import COLOURS, Ptft, make_images, write_config

from ptft.config.load import load
from ptft.settings import CompareConfig, FinetuneConfig, PretrainConfig, RunConfig

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def kind(path: Path) -> type[RunConfig]:
    if path.stem.startswith("compare"):
        return CompareConfig
    return FinetuneConfig if "finetune" in path.stem else PretrainConfig


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_is_valid_and_states_command_time_and_accuracy(path: Path) -> None:
    load(path, kind(path))
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert header[0].startswith("# yaml-language-server: $schema=")
    assert (path.parent / header[0].partition("$schema=")[2]).is_file()
    text = "\n".join(header)
    assert f"ptft {kind(path).__name__.removesuffix('Config').lower()}" in text
    assert "seeds" in text
    assert "minutes" in text


@pytest.mark.parametrize("command", ["pretrain", "finetune", "compare"])
def test_the_shipped_schemas_are_those_of_the_configs(ptft: Ptft, command: str) -> None:
    assert (ROOT / "configs" / f"{command}.schema.json").read_text() == ptft("schema", command).out


def test_the_configs_are_found() -> None:
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_torchvision_model_trains_and_finetunes_from_the_command_line(ptft: Ptft, tmp_path: Path, name: str) -> None:
    make_images(tmp_path / "photos", COLOURS, 8, size=16)
    config = write_config(tmp_path / "run.yaml", model={"name": name, "small_stem": True}, train={"steps": 2})
    sections = config.read_text().replace('"width": 4, ', "").replace(', "width": 4', "")
    config.write_text(sections)
    source = ptft("pretrain", config).path
    fixed = ("--set", "train.precision=fp32", "--set", "train.memory_format=contiguous")
    result = ptft("finetune", "--from", source, "--data", "photos", "--set", "train.steps=2", *fixed, "--out", "runs/b")
    assert result.code == 0, result.err
    assert "100.0 % of the backbone loaded" in result.err


def test_the_demo_tells_its_table_and_can_be_called_again(ptft: Ptft, monkeypatch: pytest.MonkeyPatch) -> None:
    """With shorter trainings than a user's."""
    monkeypatch.setattr("ptft.commands.demo.SOURCE_EPOCHS", 1)
    monkeypatch.setattr("ptft.commands.demo.STEPS", 15)
    first = ptft("demo", "--seeds", "2", "--json", page=True)
    assert first.code == 0, first.err
    assert len(first.json["random"]) == len(first.json["pretrained"]) == 2
    assert first.json["difference"]["mean"] == pytest.approx(
        sum(first.json["pretrained"]) / 2 - sum(first.json["random"]) / 2
    )
    assert "random weights" in first.err
    assert Path("runs/demo/source/report.html").is_file()
    page = Path("runs/demo/report.html").read_text().replace("\u00a0", " ")
    assert "2 draws × n = 600" in page
    assert f"{100 * first.json['random'][1]:.1f} %" in page
    assert ptft("demo", "--seeds", "2", "--json").json == first.json
