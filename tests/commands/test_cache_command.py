"""Commands with and without the cache end with the same bits; `ptft cache` tells and clears."""

import time
from pathlib import Path

import pytest
import torch
from making import Ptft, write_config

from ptft import checkpoint


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path).weights()


def test_training_ends_with_the_same_bits_with_and_without(ptft: Ptft, config: Path) -> None:
    without = ptft("pretrain", config, "--no-cache", "--out", "a")
    assert "cache" not in without.err
    first = ptft("pretrain", config, "--cache-dir", "kept", "--out", "b")
    second = ptft("pretrain", config, "--cache-dir", "kept", "--out", "c")
    assert "60 images decoded in" in first.err
    assert "60 images as decoded earlier" in second.err
    expected = weights(without.path)
    for result in (first, second):
        found = weights(result.path)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    metrics = [Path(out, "metrics.jsonl").read_text() for out in "abc"]
    assert metrics[0] == metrics[1] == metrics[2]


def test_what_one_command_decodes_the_others_find(ptft: Ptft, config: Path) -> None:
    trained = ptft("check", config, "--cache-dir", "kept").code or ptft("pretrain", config, "--cache-dir", "kept").path
    for command in (
        ("evaluate", trained),
        ("leak", trained),
        ("score", trained, "--data", "photos"),
        ("finetune", "--from", trained, "--data", "photos", "--set", "train.steps=2", "--out", "runs/next"),
    ):
        result = ptft(*command, "--cache-dir", "kept")
        assert result.code == 0, result.err
        assert "as decoded earlier (" in result.err
    assert '"num_images": 60' in ptft("cache", "list", "--cache-dir", "kept", "--json").out


def test_a_measured_speed_is_remembered(
    ptft: Ptft, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptft.train.calibration.waited_seconds", lambda: 0.0)
    config = write_config(tmp_path / "auto.yaml", train={"precision": "auto", "memory_format": "auto", "steps": 2})
    first = ptft("pretrain", config, "--cache-dir", "kept", "--out", "a").err
    second = ptft("pretrain", config, "--cache-dir", "kept", "--out", "b").err
    anew = ptft("pretrain", config, "--no-cache", "--out", "c").err
    wider = ptft("pretrain", config, "--cache-dir", "kept", "--set", "model.width=8", "--out", "d").err

    def told(text: str) -> str:
        (line,) = [line for line in text.splitlines() if line.startswith("calibration: ")]
        return line

    assert told(second) == told(first).replace(").", "; measured earlier).")
    assert not any("measured earlier" in text for text in (first, anew, wider))
    assert (
        Path("a/config.yaml").read_text().partition("train:")[2]
        == Path("b/config.yaml").read_text().partition("train:")[2]
    )


def test_a_speed_that_other_programs_disturbed_is_not_remembered(
    ptft: Ptft, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptft.train.calibration.waited_seconds", time.perf_counter)
    config = write_config(tmp_path / "auto.yaml", train={"memory_format": "auto", "steps": 2})
    for out in ("a", "b"):
        err = ptft("pretrain", config, "--cache-dir", "kept", "--out", out).err
        assert "not remembered, other programs took the processor" in err
        assert "measured earlier" not in err


def test_list_and_clear(ptft: Ptft, config: Path, photos: Path) -> None:
    ptft("pretrain", config, "--cache-dir", "kept")
    listed = ptft("cache", "list", "--cache-dir", "kept")
    assert listed.code == 0
    assert str(photos) in listed.out
    (source,) = ptft("cache", "list", "--cache-dir", "kept", "--json").json["sources"]
    assert (source["home"], source["image_size"], source["num_images"]) == (str(photos), 12, 60)
    assert source["bytes"] <= 1.1 * 60 * 12 * 12 * 3
    assert "stay" in ptft("cache", "clear", "--cache-dir", "kept", "--keep-gb", "1").out
    assert ptft("cache", "list", "--cache-dir", "kept", "--json").json["sources"] == [source]
    cleared = ptft("cache", "clear", "--cache-dir", "kept", "--json").json
    assert cleared["removed_bytes"] > source["bytes"]
    assert cleared["bytes"] == 0
    assert ptft("cache", "list", "--cache-dir", "kept", "--json").json["sources"] == []
    assert "removed 0 bytes" in ptft("cache", "clear", "--cache-dir", "nowhere").out
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("size", ["inf", "1e+300"])
def test_no_number_of_gigabytes_to_keep_is_refused(ptft: Ptft, size: str) -> None:
    refused = ptft("cache", "clear", "--cache-dir", "kept", "--keep-gb", size)
    assert refused.code == 2
    assert f"--keep-gb: {size} is no number of gigabytes" in refused.err


def test_the_folder_and_its_limit_come_from_the_environment(
    ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PTFT_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert ptft("cache", "list", "--json").json["folder"] == str(tmp_path / "xdg" / "ptft")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert ptft("cache", "list", "--json").json["folder"] == str(tmp_path / "home" / ".cache" / "ptft")
    monkeypatch.setenv("PTFT_CACHE_DIR", "mine")
    monkeypatch.setenv("PTFT_CACHE_GB", "0.00001")
    result = ptft("pretrain", config)
    assert result.code == 0
    assert "do not fit into mine, which may hold 10.0 kB (PTFT_CACHE_GB)" in result.err
    for told in ("much", "1e300"):
        monkeypatch.setenv("PTFT_CACHE_GB", told)
        refused = ptft("pretrain", config, "--out", "b")
        assert refused.code == 2
        assert f"PTFT_CACHE_GB: {told!r} is no number of gigabytes" in refused.err


def test_options_that_contradict_each_other_are_refused(ptft: Ptft, config: Path) -> None:
    for option in (("--verify-cache",), ("--cache-dir", "kept")):
        result = ptft("pretrain", config, "--no-cache", *option)
        assert result.code == 2
        assert "--no-cache: leave out" in result.err


def test_verify_cache_says_what_it_looked_at(ptft: Ptft, config: Path) -> None:
    ptft("pretrain", config, "--cache-dir", "kept", "--out", "a")
    result = ptft("pretrain", config, "--cache-dir", "kept", "--verify-cache", "--out", "b")
    assert "60 image files compared" in result.err
    assert "unchanged" in result.err
