"""`ptft check` of a comparison: what its hundred runs would meet, tried out with one."""

import json
from pathlib import Path

import pytest
from making import Ptft, make_images, write_config

SECTION = {"labels_per_class": [2, "all"], "seeds": 3, "tuning_seeds": 1, "jobs": 2}
SECTION |= {"lrs": {"random": [0.01, 0.1], "pretrained": [0.01, 0.1]}}


@pytest.fixture
def source(ptft: Ptft, config: Path) -> Path:
    return ptft("pretrain", config, "--out", "source").path


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    make_images(tmp_path / "things", {"dark": (60, 60, 60), "light": (120, 120, 120)}, 20)
    return write_config(tmp_path / "c.yaml", data={"root": "things"}, compare=SECTION)


def test_a_comparison_is_counted_and_timed_and_nothing_is_written(
    ptft: Ptft, source: Path, comparison: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = ptft("check", comparison, "--from", source, "--json")
    assert found.code == 0, found.err
    told = found.json
    # At each of two numbers of labels: two arms, two learning rates on one seed, two seeds more; three probes.
    assert told["num_runs"] == 2 * (2 * (2 + 2) + 3)
    assert told["num_steps"] == {"2": 12, "all": 12}
    per_step = told["seconds_per_step"]["8"]
    assert told["estimated_seconds"] == pytest.approx(2 * 2 * (2 + 2) * 12 * per_step / 2)
    assert told["counts"] == {"train": [13, 13], "validation": [3, 3], "test": [4, 4]}
    assert told["peak_bytes"] > 0
    assert sorted(tmp_path.rglob("*")) == before
    said = ptft("check", comparison, "--from", source)
    assert said.out.startswith("ok: small-cnn, ")
    assert "at least 22 runs, 2 side by side, about " in said.out
    assert "12x12 RGB" in said.err
    assert "at least 22 runs.\n" in said.err, "the plan is that of ptft compare"


def test_it_counts_the_runs_that_compare_then_makes(ptft: Ptft, source: Path, comparison: Path) -> None:
    one_lr = {arm: [0.05] for arm in ("random", "pretrained")}  # a grid of one does not grow
    sets = ("--set", f"compare.lrs={json.dumps(one_lr)}", "--set", "compare.labels_per_class=[2]")
    told = ptft("check", comparison, "--from", source, "--json", *sets).json
    done = ptft("compare", comparison, "--from", source, "--out", "done", *sets)
    assert done.code == 0, done.err
    assert told["num_runs"] == len(list(Path("done/cells").iterdir()))


def test_a_section_on_the_command_line_makes_it_a_comparison(ptft: Ptft, source: Path, comparison: Path) -> None:
    words = ("check", "--data", "things", "--from", source)
    assert "runs" not in ptft(*words, "--set", "train.steps=2", "--set", "transfer.recipe=full").out
    told = ptft(*words, "--set", "train.steps=2", "--set", "compare.seeds=4", "--set", "compare.probe=false", "--json")
    assert told.json["num_runs"] == 2 * 2 * (3 * 3 + 1)  # arms, numbers of labels; three learning rates on three seeds


def test_what_the_comparison_would_meet_is_told(ptft: Ptft, source: Path, comparison: Path) -> None:
    (Path("things") / "dark" / "broken.png").write_bytes(b"not an image")
    bad = ptft("check", comparison, "--from", source)
    assert bad.code == 3
    assert "dark/broken.png" in bad.err
    assert ptft("check", comparison, "--from", source, "--set", "data.on_bad_image=skip").code == 0
    (Path("things") / "dark" / "broken.png").unlink()
    for code, words, arguments in (
        (4, "nowhere.pt: no such checkpoint file", ["--from", "nowhere.pt"]),
        (2, "give the weights to start from: --from SOURCE or transfer.from", []),
        (2, "cannot be shared out among 2 checkpoints", ["--from", source, "--from", "other.pt"]),
        (2, "compare.sedes: unknown key", ["--from", source, "--set", "compare.sedes=3"]),
        (3, "labels_per_class", ["--from", source, "--set", "compare.labels_per_class=[50]"]),
    ):
        refused = ptft("check", comparison, *arguments)
        assert (refused.code, refused.out) == (code, "")
        assert words in refused.err
    several = ptft("check", "--data", "things", "--from", source, "--from", "other.pt")
    assert several.code == 2
    assert "several --from belong to a comparison" in several.err
