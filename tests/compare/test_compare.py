"""A real comparison, small: equal terms, no look at the test images while choosing, nothing run twice."""

import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from faults.program import Running, run, start
from making import COLOURS, Ptft, make_images, write_config

from ptft.checkpoint import read
from ptft.compare.compare import _as_begun, _finished
from ptft.config.load import dump, load
from ptft.errors import ConfigError, UsageError
from ptft.run_folder import RunFolder
from ptft.settings import CompareConfig

SECTION = {"labels_per_class": [2, "all"], "seeds": 2, "tuning_seeds": 1, "jobs": 2}
SECTION |= {"lrs": {arm: [0.01, 0.1] for arm in ("random", "pretrained")}}
COMPARE = ("compare", "run.yaml", "--from", "source/checkpoints/best.pt")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a checkpoint trained on them, a compare config, and a comparison, done."""
    folder = tmp_path_factory.mktemp("compare")
    make_images(folder / "photos", COLOURS, 20)
    make_images(folder / "things", {"dark": (60, 60, 60), "light": (120, 120, 120)}, 20)
    write_config(folder / "source.yaml")
    assert run("pretrain", "source.yaml", "--out", "source", cwd=folder).code == 0
    sections = {"data": {"root": "things"}, "train": {"steps": 6, "batch_size": 4}, "optim": {"lr": 0.05}}
    write_config(folder / "run.yaml", **sections, compare=SECTION)
    first = start(*COMPARE, "--json", cwd=folder).wait(600)
    assert first.code == 0, first.err
    (folder / "stdout.json").write_text(first.out)
    (folder / "stderr.txt").write_text(first.err)
    return folder


def cells(folder: Path) -> list[Path]:
    return sorted((folder / "runs" / "run-compare" / "cells").iterdir())


def test_stdout_is_one_object_with_every_point_arm_and_seed(place: Path) -> None:
    text = (place / "stdout.json").read_text()
    assert text.count("\n") == 1
    found = json.loads(text)
    assert found == json.loads((place / "runs/run-compare/compare.json").read_text())
    assert [point["labels_per_class"] for point in found["points"]] == [2, "all"]
    assert [point["num_labels"] for point in found["points"]] == [4, 26]
    for point in found["points"]:
        assert list(point["arms"]) == ["random", "pretrained", "probe"]
        for arm in point["arms"].values():
            assert arm["top1"]["low"] <= arm["top1"]["mean"] <= arm["top1"]["high"]
            assert len(arm["top1_of_seeds"]) == 2
            assert arm["top1"]["num_images"] == found["num_test"] == 8
        gain = point["arms"]["pretrained"]["gain"]
        pairs = zip(point["arms"]["random"]["top1_of_seeds"], point["arms"]["pretrained"]["top1_of_seeds"], strict=True)
        assert gain["difference"]["mean"] == pytest.approx(sum(after - before for before, after in pairs) / 2)
        assert len(gain["mcnemar"]) == 2


def test_stderr_has_the_plan_and_the_table(place: Path) -> None:
    said = (place / "stderr.txt").read_text()
    assert "at least 16 runs" in said
    assert "optim.lr is not used" in said
    assert "worth labels" in said
    assert re.search(r"leak check: \d of 8 test images seen in training", said)
    probes = [line for line in said.splitlines() if re.match(r"\s+\S+\s+frozen probe ", line)]
    assert probes
    assert all(re.search(r"  (at once|never)  ", line) for line in probes)
    assert said.count(", lr ") == 2 * len(probes)
    assert "Give others in compare.lrs" in said


def test_the_page_has_the_verdict_the_pictures_and_every_learning_rate(place: Path) -> None:
    page = (place / "runs/run-compare/report.html").read_text()
    assert page.count("<svg viewBox") >= 3
    assert "All 8 that were tried" in page
    assert "Too few seeds to tell" in page
    assert "ptft compare run.yaml --from source/checkpoints/best.pt --json" in page


def test_the_arms_differ_only_in_weights_and_learning_rate(place: Path) -> None:
    configs = [yaml.safe_load((cell / "config.yaml").read_text()) for cell in cells(place)]
    assert len(configs) == 16
    transfers = [config.pop("transfer", {"recipe": None}) for config in configs]
    assert {transfer["recipe"] for transfer in transfers} == {None, "full", "probe"}  # a comparison has its own races
    for config in configs:
        del config["seed"], config["optim"]["lr"], config["data"]["labels_per_class"]
    assert all(config == configs[0] for config in configs)
    assert configs[0]["train"]["steps"] == 6
    assert read(next(place.glob("runs/run-compare/cells/*/checkpoints/best.pt"))).metadata.in_channels == 3


def test_no_run_looks_at_the_test_images_and_all_have_the_same_validation(place: Path) -> None:
    for cell in cells(place):
        summary = json.loads((cell / "summary.json").read_text())
        assert "test" not in summary
        assert summary["validation"]["num_examples"] == 6
    log = (cells(place)[0] / "log.txt").read_text()
    assert "4 train, 6 validation" in log or "26 train, 6 validation" in log


def test_only_the_chosen_learning_rates_keep_weights_and_meet_the_test_images(place: Path) -> None:
    found = json.loads((place / "stdout.json").read_text())
    chosen = {
        f"{name}-labels-{point['labels_per_class']}-seed-{seed}-lr-{arm['lr']:g}"
        for point in found["points"]
        for name, arm in point["arms"].items()
        for seed in range(2)
    }
    assert {cell.name for cell in cells(place) if list(cell.glob("checkpoints/*.pt"))} == chosen
    assert {cell.name for cell in cells(place) if (cell / "test.json").exists()} == chosen
    assert len(chosen) == 12


def test_its_accuracies_are_those_that_evaluate_gives(ptft: Ptft, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = json.loads((place / "stdout.json").read_text())
    arm = found["points"][0]["arms"]["pretrained"]
    cell = place / f"runs/run-compare/cells/pretrained-labels-2-seed-1-lr-{arm['lr']:g}"
    result = ptft("evaluate", cell / "checkpoints/best.pt", "--json")
    assert result.json["top1"] == arm["top1_of_seeds"][1]


def test_again_it_is_refused_and_with_resume_nothing_is_run_and_the_result_is_the_same(
    ptft: Ptft, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    refused = ptft(*COMPARE)
    assert (refused.code, refused.out) == (2, "")
    assert "--resume" in refused.err
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    (place / "things").rename(place / "gone")
    again = ptft(*COMPARE, "--resume", "--json")
    told = ptft(*COMPARE, "--resume", "--set", "compare.labels_per_class=null")  # left open, they are those it has
    (place / "gone").rename(place / "things")
    assert (again.code, again.out, again.err) == (0, (place / "stdout.json").read_text(), "")
    assert (told.code, told.out, told.err) == (0, f"{again.json['sentence']}\n", "")
    after = {path for path in before if path.stat().st_mtime_ns != before[path]}
    assert after <= {place / "runs/run-compare/.lock"}
    other = ptft(*COMPARE, "--resume", "--set", "augment.shift=1")
    assert other.code == 2
    assert "augment.shift: the run has null, now 1" in other.err
    longer = ptft(*COMPARE, "--resume", "--set", "train.steps=9")
    assert longer.code == 2
    assert "Only the section compare may change" in longer.err


def test_after_a_bad_image_the_advice_that_is_printed_works_and_the_comparison_can_be_extended(
    ptft: Ptft, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    shutil.copytree("things", "spoilt")
    bad = Path("spoilt/light/003.png")
    bad.write_bytes(bad.read_bytes()[:60])
    quick = ["compare.jobs=1", "compare.probe=false", "compare.lrs={random: [0.1], pretrained: [0.1]}"]
    quick.append("compare.labels_per_class=[2]")
    command = [*COMPARE, "--data", "spoilt", "--out", "advised", *(word for key in quick for word in ("--set", key))]
    advice = "data.on_bad_image=skip"
    failed = ptft(*command, "--seeds", "1")
    assert (failed.code, failed.out) == (3, "")
    assert f"--set {advice}" in failed.err
    unchecked = ptft(*command, "--seeds", "1", "--set", "data.leak_check=false", "--out", "unchecked")
    assert unchecked.code == 3
    assert not list(Path("unchecked").glob("cells/*"))
    first = ptft(*command, "--seeds", "1", "--set", advice, "--json")
    assert first.code == 0, first.err
    assert "1 seed, learning rates tried on 1 of them" in first.err
    assert "left out: " in first.err
    assert "light/003.png" in first.err
    more = ptft(*command, "--seeds", "2", "--set", advice, "--resume", "--json")
    assert more.code == 0, more.err
    assert "2 of 4 runs to do" in more.err
    arms = [found.json["points"][0]["arms"]["pretrained"]["top1_of_seeds"] for found in (first, more)]
    assert (len(arms[1]), arms[1][:1]) == (2, arms[0])


def test_a_comparison_from_before_recipe_probe_was_refused_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {name: fashion-mnist-10k}\ntransfer: {recipe: probe}\n")
    assert load(path, CompareConfig, stored=True).transfer.recipe == "probe"
    with pytest.raises(ConfigError, match="the frozen probe is an arm of its own"):
        load(path, CompareConfig)


def test_a_comparison_whose_first_cell_could_not_read_its_images_may_begin_with_another_config(tmp_path: Path) -> None:
    stored = CompareConfig.model_validate({"data": {"name": "fashion-mnist-10k"}})
    given = stored.model_copy(update={"data": stored.data.model_copy(update={"on_bad_image": "skip"})})
    folder = RunFolder(tmp_path)
    folder.config.write_text(dump(stored, header="ptft compare"))
    cell = RunFolder(tmp_path / "cells" / "random-labels-all-seed-0-lr-0.1")
    cell.path.mkdir(parents=True)
    assert _as_begun(folder, given) == given
    cell.config.write_text("")
    with pytest.raises(UsageError, match=r"on_bad_image: was error, is now skip"):
        _as_begun(folder, given)


def test_several_checkpoints_are_draws_of_one_pretraining_and_seeds_that_share_one_count_once(
    ptft: Ptft, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    sources = ["source/checkpoints/best.pt", "other/checkpoints/best.pt"]
    assert ptft("pretrain", "source.yaml", "--set", "seed=1", "--out", "other").code == 0
    given = [word for source in sources for word in ("--from", source)]
    single = [
        "--set",
        "compare.lrs.random=[0.1]",
        "--set",
        "compare.lrs.pretrained=[0.1]",
        "--set",
        "compare.probe=false",
    ]
    command = ["compare", "run.yaml", *given, *single, "--labels-per-class", "2", "--seeds", "4", "--out", "several"]
    result = ptft(*command, "--json")
    assert result.code == 0, result.err
    assert "2 checkpoints, taken for 2 draws of one pretraining" in result.err
    assert result.json["sources"] == sources
    digests = [read(Path(source)).digest for source in sources]
    for seed in range(4):
        cell = read(place / f"several/cells/pretrained-labels-2-seed-{seed}-lr-0.1/checkpoints/best.pt")
        assert cell.metadata.lineage[-2].digest == digests[seed % 2]
    arms = result.json["points"][0]["arms"]
    before, after = (arms[name]["top1_of_seeds"] for name in ("random", "pretrained"))
    assert len(after) == 4
    difference = arms["pretrained"]["gain"]["difference"]
    assert difference["num_seeds"] == arms["pretrained"]["top1"]["num_seeds"] == 2
    assert difference["mean"] == pytest.approx(sum(after) / 4 - sum(before) / 4)
    assert "All: source/checkpoints/best.pt, other/checkpoints/best.pt" in (place / "several/report.html").read_text()


def test_several_checkpoints_that_are_no_draws_of_one_pretraining_are_refused(
    ptft: Ptft, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    first = [*COMPARE, "--out", "refused"]
    assert ptft("pretrain", "source.yaml", "--set", "model.width=6", "--out", "wider").code == 0
    odd = ptft(*first, "--from", "wider/checkpoints/best.pt", "--seeds", "3")
    assert (odd.code, odd.out) == (2, "")
    assert "3 seeds cannot be shared out among 2 checkpoints. Give --seeds 4." in odd.err
    shutil.copy("source/checkpoints/best.pt", "copy.pt")
    twice = ptft(*first, "--from", "copy.pt")
    assert twice.code == 2
    assert "--from copy.pt has the weights of --from source/checkpoints/best.pt" in twice.err
    last = ptft(*first, "--from", "source/checkpoints/last.pt", "--seeds", "2")
    assert last.code == 2
    assert "--from source/checkpoints/last.pt is of the run of --from source/checkpoints/best.pt" in last.err
    wider = ptft(*first, "--from", "wider/checkpoints/best.pt")
    assert wider.code == 2
    assert (
        "wider/checkpoints/best.pt has another model, image size or channels than source/checkpoints/best.pt"
        in wider.err
    )
    assert not (place / "refused/cells").exists()


def test_where_every_learning_rate_diverged_it_is_said_so_and_none_is_run_again(
    ptft: Ptft, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    hopeless = [*COMPARE, "--labels-per-class", "2", "--seeds", "2", "--set", "compare.jobs=1", "--out", "hopeless"]
    hopeless += ["--set", "compare.lrs={random: [1e30], pretrained: [0.1]}", "--set", "compare.probe=false"]
    for command, said in ((hopeless, "2 of 2 runs to do"), ([*hopeless, "--resume"], "learning rates are chosen")):
        result = ptft(*command)
        assert (result.code, result.out) == (6, "")
        assert (
            "every learning rate tried diverged: random weights at 2 labels a class (1e+30). Give lower" in result.err
        )
        assert "good for other seeds" not in result.err
        assert said in result.err
        assert result.err.count("runs to do") == said.count("runs to do")


def children(process: Running) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def state(pid: int) -> str:
    """As the kernel has it; `Z` is a process that ended and nobody asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "gone"


def has_trained(out: Path) -> bool:
    return any('"done"' in path.read_text() for path in out.glob("cells/*/status.json"))


@pytest.mark.skipif(not Path("/proc").exists(), reason="children are found in /proc")
def test_stopped_or_killed_it_leaves_no_process_and_ends_with_the_same_table(
    ptft: Ptft, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    out = place / "killed"
    command = (*COMPARE, "--out", "killed", "--resume", "--json")
    for signum, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        process = start(*command, cwd=place)
        deadline = time.monotonic() + 300
        while not (has_trained(out) and len(children(process)) > 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        left = children(process)
        process.send(signum)
        result = process.wait(300)
        assert result.code == code, result.err
        while not all(state(pid) in "gone Z" for pid in left) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(state(pid) in "gone Z" for pid in left)
    done = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/summary.json")}
    assert done
    result = ptft(*command)
    assert result.code == 0, result.err
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in done.items())
    whole = json.loads((place / "stdout.json").read_text())
    assert result.json["points"] == whole["points"]


def test_faults_of_the_command_are_told_before_anything_is_run(ptft: Ptft, place: Path, tmp_path: Path) -> None:
    source = place / "source/checkpoints/best.pt"
    config = write_config(tmp_path / "run.yaml", data={"root": str(place / "things")}, train={"steps": 6})

    def refusal(*arguments: str) -> tuple[int, str]:
        result = ptft("compare", config, "--from", source, "--out", "out", *arguments)
        assert result.out == ""
        return result.code, result.err

    code, said = refusal("--labels-per-class", "5,alle")
    assert code == 2
    assert "Did you mean all?" in said
    code, said = refusal("--labels-per-class", "5,500")
    assert code == 3
    assert "only 13 training images, 500 were asked for" in said
    code, said = refusal("--set", "train.patience=3")
    assert code == 2
    assert "every run gets the same steps" in said
    for setting, sentence in (
        ("transfer.recipe=random", "random sets the source aside, which would compare nothing"),
        ("transfer.recipe=probe", "the frozen probe is an arm of its own"),
        ("transfer.dropout=0.5", "random weights would not get it"),
        ("transfer.drop_path=0.3", "random weights would not get it"),
    ):
        code, said = refusal("--set", setting)
        assert code == 2
        assert sentence in said
    code, said = refusal("--data", ".")
    assert code == 2
    assert f"the run folder out would lie among the images in {tmp_path}. Choose another with --out." in said
    code, said = refusal("--set", "data.labels_per_class=3")
    assert code == 2
    assert "Set compare.labels_per_class" in said
    make_images(tmp_path / "parts" / "train", COLOURS, 4)
    make_images(tmp_path / "parts" / "val", COLOURS, 2)
    code, said = refusal("--data", "parts")
    assert code == 3
    assert "name it test" in said
    make_images(tmp_path / "single" / "train", COLOURS, 1)
    make_images(tmp_path / "single" / "test", COLOURS, 2)
    code, said = refusal("--data", "single")
    assert code == 3
    assert "a class has 1 training image. compare needs 2 of each" in said
    assert not list(tmp_path.glob("out/cells"))
    result = ptft("finetune", place / "run.yaml", "--from", source)
    assert "is a config of `ptft compare`" in result.err


def test_report_leaves_the_page_of_a_comparison_alone(place: Path) -> None:
    page = place / "runs" / "run-compare" / "report.html"
    before = page.read_bytes()
    refused = run("report", "runs/run-compare", cwd=place)
    assert refused.code == 2
    assert "holds a comparison, not a run. Its page is runs/run-compare/report.html" in refused.err
    assert page.read_bytes() == before


def test_what_is_lost_or_damaged_of_a_finished_comparison_is_made_again(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "runs" / "run-compare", tmp_path / "done")
    folder, section = RunFolder(tmp_path / "done"), load(place / "runs/run-compare/config.yaml", CompareConfig).compare
    assert _finished(folder, section) == json.loads((place / "stdout.json").read_text())
    page = folder.report.read_text()
    folder.report.unlink()
    assert _finished(folder, section) is None
    folder.report.write_text(page)
    for damaged in ("{}", "[]", "{", '{"config": {"compare": 1}}'):
        (folder.path / "compare.json").write_text(damaged)
        assert _finished(folder, section) is None
