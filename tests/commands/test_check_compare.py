"""`ptft check` of a comparison: what its hundred runs would meet, tried out with one."""

import json
from pathlib import Path

import pytest
import torch
from making import Ptft, make_images, write_config

from ptft.run.assembly import Prepared
from ptft.runtime import num_cores
from ptft.transfer.recipes import Budget

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
    assert told["steps_at_labels"] == {"2": 12, "all": 12}
    per_step = told["seconds_per_step_at_batch_size"]["8"]
    at_once = min(2, num_cores())
    assert told["estimated_seconds"] > 2 * 2 * (2 + 2) * 12 * per_step / at_once  # looks and beginnings come on top
    assert (told["task"], told["model"], told["jobs"]) == ("single-label", "small-cnn", 2)
    assert told["counts"] == {"train": [13, 13], "validation": [3, 3], "test": [4, 4]}
    assert told["peak_bytes"] > 0
    assert sorted(tmp_path.rglob("*")) == before
    said = ptft("check", comparison, "--from", source)
    assert said.out.startswith("ok: small-cnn, ")
    assert "at least 22 runs, 2 side by side, about " in said.out
    assert "12x12 RGB" in said.err
    assert "at least 22 runs.\n" in said.err, "the plan is that of ptft compare"


def test_more_work_is_estimated_as_more_time(
    ptft: Ptft, source: Path, comparison: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of steps that take a second each, and of nothing else."""
    monkeypatch.setattr("ptft.commands.check_compare.time_steps", lambda prepared: 1.0)
    monkeypatch.setattr("ptft.commands.check_compare.num_cores", lambda: 2)

    def estimate(*settings: str) -> float:
        words = [part for setting in settings for part in ("--set", setting)]
        found = ptft("check", comparison, "--from", source, "--json", *words)
        assert found.code == 0, found.err
        return float(found.json["estimated_seconds"])

    two = 2 * 2 * (2 + 2) * 12 / 2  # arms, numbers of labels, runs, steps; two side by side
    assert estimate() == pytest.approx(two, rel=0.1)
    assert estimate("compare.jobs=1") == pytest.approx(2 * two, rel=0.1)
    assert estimate("compare.jobs=64") == pytest.approx(two, rel=0.1)  # no more cores for that
    # Random weights have the twelve steps of the pretraining in addition.
    assert estimate("compare.charge_pretraining=true") == pytest.approx(1.5 * two, rel=0.1)
    assert estimate("compare.seeds=1", "compare.tuning_seeds=3") == pytest.approx(two / 2, rel=0.1)


def test_each_batch_size_is_timed_once(
    ptft: Ptft, source: Path, comparison: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[tuple[int, int]] = []

    def note(prepared: Prepared) -> float:
        timed.append((prepared.batch_size, torch.get_num_threads()))
        return 1.0 if prepared.batch_size == 32 else 100.0

    monkeypatch.setattr("ptft.commands.check_compare.time_steps", note)
    monkeypatch.setattr("ptft.compare.plan._budget", lambda config, count, size: Budget(10, 32 if count < 10 else 128))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        told = ptft(
            "check", comparison, "--from", source, "--json", "--set", "compare.labels_per_class=[2, 3, all]"
        ).json
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert timed == [(32, 1), (128, 1)], "with one thread, as a worker has"
    assert told["seconds_per_step_at_batch_size"] == {"32": 1.0, "128": 100.0}
    assert told["jobs"] == 2
    runs = 2 * (2 + 2) * 10
    assert told["estimated_seconds"] == pytest.approx(runs * (1 + 1 + 100) / min(2, num_cores()), rel=0.1)


def test_there_are_no_more_side_by_side_than_runs(ptft: Ptft, source: Path, comparison: Path) -> None:
    few = ("--set", "compare.jobs=64", "--set", "compare.labels_per_class=[2]", "--set", "compare.seeds=1")
    assert ptft("check", comparison, "--from", source, "--json", *few).json["jobs"] == 5


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
    assert "1 image cannot be read, named above" in bad.err
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
    inside = ptft("check", comparison, "--from", source, "--cache-dir", "things/cache")
    assert inside.code == 2
    several = ptft("check", "--data", "things", "--from", source, "--from", "other.pt")
    assert several.code == 2
    assert "several --from belong to a comparison" in several.err
