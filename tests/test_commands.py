"""The contracts of the command line: stdout, exit codes, run folder, messages."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults.program import run
from making import COLOURS, Ptft, make_images, run_process, write_config
from PIL import Image
from torch import Tensor, nn

from ptft.models.classifier import Classifier


def test_pretrain_prints_one_line_that_is_the_path_of_a_checkpoint(ptft: Ptft, config: Path) -> None:
    path = ptft("pretrain", config).path
    assert path.name == "best.pt"
    assert path.is_file()


def test_json_is_one_object_on_one_line(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--json")
    assert result.out.count("\n") == 1
    assert Path(result.json["checkpoint"]).is_file()
    assert 0 <= result.json["test"]["top1_low"] <= result.json["test"]["top1"] <= result.json["test"]["top1_high"] <= 1


def test_stdout_is_the_same_when_piped_and_stderr_has_no_control_characters(tmp_path: Path, config: Path) -> None:
    result = run_process("pretrain", config.name, cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.out == "runs/run/checkpoints/best.pt\n"
    assert "\r" not in result.err
    assert "\x1b" not in result.err


def test_the_run_folder_holds_what_the_readme_says(ptft: Ptft, config: Path, tmp_path: Path) -> None:
    folder = ptft("pretrain", config, page=True).path.parent.parent
    names = {entry.name for entry in folder.iterdir()}
    expected = {"config.yaml", "status.json", "metrics.jsonl", "summary.json", "report.html", "log.txt", "checkpoints"}
    assert expected <= names
    assert any(name.startswith("events.") for name in names)
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 12


def test_the_written_config_has_every_default_and_gives_the_same_weights(ptft: Ptft, config: Path) -> None:
    first = ptft("pretrain", config).path
    written = first.parent.parent / "config.yaml"
    assert yaml.safe_load(written.read_text())["optim"]["momentum"] == 0.9
    again = ptft("pretrain", written, "--out", "again").path
    digests = [ptft("inspect", path, "--json").json["tensors"] for path in (first, again)]
    assert digests[0] == digests[1]
    assert same_weights(first, again)


def same_weights(first: Path, second: Path) -> bool:
    from ptft.checkpoint import read

    a, b = read(first).tensors, read(second).tensors
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def test_another_seed_gives_other_weights(ptft: Ptft, config: Path) -> None:
    first, second = ptft("pretrain", config).path, ptft("pretrain", config, "--set", "seed=1", "--out", "b").path
    assert not same_weights(first, second)


def test_an_existing_run_folder_is_refused_without_resume_and_returned_with_it(ptft: Ptft, config: Path) -> None:
    path = ptft("pretrain", config).path
    before = path.stat().st_mtime_ns
    refused = ptft("pretrain", config)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert ptft("pretrain", config, "--resume").path == path
    assert ptft("pretrain", config, "--resume", "--json").json["checkpoint"] == str(path)
    assert path.stat().st_mtime_ns == before


def test_resume_with_another_config_is_refused_by_key(ptft: Ptft, config: Path) -> None:
    ptft("pretrain", config)
    result = ptft("pretrain", config, "--resume", "--set", "optim.lr=0.5")
    assert result.code == 2
    assert "optim.lr: the run has 0.1, now 0.5" in result.err


def test_a_folder_with_other_files_is_refused(ptft: Ptft, config: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("do not touch")
    result = ptft("pretrain", config, "--out", "mine")
    assert result.code == 2
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_second_process_on_the_same_folder_exits_75_and_names_the_holder(ptft: Ptft, config: Path) -> None:
    from ptft.run_folder import RunFolder

    with RunFolder(Path("runs/run")).hold(resume=False):
        result = ptft("pretrain", config)
    assert result.code == 75
    assert str(os.getpid()) in result.err
    assert ptft("pretrain", config).code == 0


def test_the_three_faults_of_the_design_are_told_at_once_and_nothing_is_written(ptft: Ptft, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "data: {name: fashion-mnist-10k}\ntrain:\n  batchsize: 64\n  epochs: ten\nmodel:\n  name: resnet17\n"
    )
    result = ptft("pretrain", "run.yaml")
    assert result.code == 2
    assert result.out == ""
    assert result.err.splitlines() == [
        "run.yaml:3: train.batchsize: unknown key. Did you mean train.batch_size?",
        "run.yaml:4: train.epochs: expected a whole number, got 'ten'. Write for example 10.",
        "run.yaml:6: model.name: 'resnet17' is not a model. Did you mean resnet18? `ptft list models` shows all.",
        "3 faults in run.yaml; nothing was run.",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {name: fashion-mnist-10k}\noptim: {name: sgd, lr: 1e-3, lr: 0.1}\n", "optim.lr"),
        ("data: {name: fashion-mnist-10k}\nlr: 0.1\n", "lr: unknown key. Did you mean optim.lr?"),
        ("data: {name: fashion-mnist-10k}\ntrain: {batch_size: 1.5}\n", "train.batch_size: expected a whole number"),
        (
            "data: {name: fashion-mnist-10k}\ntrain: {epochs: 1, steps: 2}\n",
            "give only one of steps, epochs, examples, not steps and epochs. --set train.steps=null or "
            "--set train.epochs=null takes one out.",
        ),
        ("data: {name: fashion-mnist-10k}\ncheckpoint: {every: {steps: 0}}\n", "run.yaml:2: checkpoint.every: must be"),
        (
            "data:\n  name: fashion-mnist-10k\n  mean: [73]\n  std: [90]\n",
            "run.yaml:3: data.mean[0]: must be at most 1",
        ),
        ("data: {name: folder}\n", "data.root: missing. Write for example photos."),
        (
            "# a run\ndata:\n  name: fashion-mnist-10k\n  store_size: 56\n",
            "run.yaml:4: data.store_size: augment.name: standard takes images at image_size",
        ),
        (
            "data: {name: fashion-mnist-10k}\noptim: {beta1: 0.9}\n",
            "optim.beta1: unknown key. Known here: name, lr, weight_decay, momentum, nesterov.",
        ),
        ("data: {name: fashion-mnist-10k}\ntrain: {batch_size: 3000000000}\n", "batch_size: must be at most 1048576"),
        ("data: {name: fashion-mnist-10k}\nschedule: {name: step, milestones: [30, 60]}\n", "a fraction of the run"),
        ("data: {name: fashion-mnist-10k}\nschedule: {name: step, milestones: [0.9, 0.5]}\n", "they must rise"),
        ("data: {name: fashion-mnist-10k}\nmodel: {name: vgg11, small_stem: true}\n", "vgg11 has no stem to change"),
        ("train: {epochs: 1}\n", "data: missing"),
        ("data: {name: fashion-mnist-10k}\nseed: &a 1\n", "run.yaml:2"),
        ("data: {name: fashion-mnist-10k}\nseed: -1\n", "seed: must be at least 0, got -1"),
    ],
)
def test_a_faulty_config_exits_2_with_a_sentence(ptft: Ptft, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    result = ptft("pretrain", "run.yaml")
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_number_like_1e_3_is_a_number(ptft: Ptft, config: Path) -> None:
    assert ptft("pretrain", config, "--set", "optim.lr=1e-3", "--set", "train.steps=1").code == 0


def test_a_key_of_another_command_is_named_with_it(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--set", "transfer.recipe=full")
    assert result.code == 2
    assert "--set transfer: a key of `ptft finetune`" in result.err


def test_bf16_where_it_is_only_imitated_is_told(ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "train.precision: bf16 is imitated here"
    for computes in (True, False):
        monkeypatch.setattr("ptft.run.decisions.computes_bf16", lambda device, computes=computes: computes)
        result = ptft(
            "pretrain", config, "--set", "train.precision=bf16", "--set", "train.steps=1", "--out", f"{computes}"
        )
        assert (result.code, said in result.err) == (0, not computes)


def test_init_into_a_file_exits_2(ptft: Ptft, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    result = ptft("init", "taken")
    assert (result.code, (tmp_path / "taken").read_text()) == (2, "mine")
    assert "taken is a file, not a folder" in result.err


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (5, ("leak", "nowhere.pt", "--page", "LONG/p.html")),
        (5, ("export", "nowhere.pt", "--out", "LONG.onnx")),
        (4, ("score", "nowhere.pt", "--data", "LONG")),
        (4, ("finetune", "--from", "nowhere.pt", "--data", "LONG", "--out", "run")),
        (5, ("report", "LONG/run")),
        (5, ("init", "LONG/x")),
        (5, ("pack", "--data", "photos", "--out", "LONG/p")),
    ],
)
def test_a_path_that_cannot_be_looked_up_is_told_in_a_sentence(
    ptft: Ptft, photos: Path, code: int, arguments: tuple[str, ...]
) -> None:
    """A name that no file system takes; a folder that may not be entered is the same kind of error, but not to root."""
    result = ptft(*(text.replace("LONG", "x" * 300) for text in arguments))
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("ptft: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", ["finetune", "compare", "check"])
def test_a_config_given_as_data_is_told(ptft: Ptft, config: Path, command: str) -> None:
    result = ptft(command, "--from", "any.pt", "--data", config)
    assert result.code == 2
    assert f"--data {config}: a config, not images. Give it without --data." in result.err


def test_classes_are_balanced_once(ptft: Ptft, config: Path) -> None:
    flags = ("--set", "train={steps: 2, batch_size: 8, sampling: balanced}", "--out", "run")
    both = (*flags, "--set", "objective.class_weights=balanced")
    for command in ("pretrain", "check"):
        refused = ptft(command, config, *(both if command == "pretrain" else both[:2] + both[4:]))
        assert refused.code == 2
        assert "both balanced: rare classes would count more than common ones. Leave one out." in refused.err
    assert ptft("pretrain", config, *flags).code == 0


def test_a_warmup_that_takes_the_whole_run_is_told(ptft: Ptft, config: Path) -> None:
    for warmup, is_told in ((4, True), (3, False)):
        given = ("--set", "train={steps: 4, batch_size: 8}", "--set", f"schedule.warmup={{steps: {warmup}}}")
        result = ptft("pretrain", config, "--out", f"run-{warmup}", *given)
        assert ("schedule.warmup takes all of the run (4 steps)" in result.err) == is_told


def test_what_no_test_image_shows_is_told(ptft: Ptft, tmp_path: Path) -> None:
    make_images(tmp_path / "photos", COLOURS, 20)
    for path in sorted((tmp_path / "photos/red").iterdir())[2:]:
        path.unlink()
    result = ptft("check", write_config(tmp_path / "run.yaml"))
    assert "data: no test images of red: what the test says leaves that out." in result.err
    for name in COLOURS:
        for path in sorted((tmp_path / "photos" / name).iterdir())[2:]:
            path.unlink()
    assert "neither validation nor test images: nothing will be scored" in ptft("check", "run.yaml").err


def test_a_missing_config_exits_2(ptft: Ptft) -> None:
    result = ptft("pretrain", "nowhere.yaml")
    assert (result.code, result.out) == (2, "")
    assert "nowhere.yaml" in result.err


def test_missing_data_exits_3_and_the_run_can_be_started_again(ptft: Ptft, tmp_path: Path) -> None:
    config = write_config(tmp_path / "run.yaml")
    result = ptft("pretrain", config)
    assert result.code == 3
    assert "photos" in result.err
    assert json.loads(Path("runs/run/status.json").read_text())["exit_code"] == 3
    make_images(tmp_path / "photos", COLOURS, 10)
    assert ptft("pretrain", config).code == 0


def test_a_run_that_reads_its_images_is_running_whatever_the_last_attempt_came_to(
    ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, seen = Image.open, []

    def watched(*arguments: Any, **more: Any) -> Image.Image:
        seen.append(json.loads(Path("runs/run/status.json").read_text()))
        return opened(*arguments, **more)

    monkeypatch.setattr(Image, "open", watched)
    assert ptft("pretrain", config, "--set", "data.max_pixels=1").code == 3
    assert [status["state"] for status in seen] == ["running"] * len(seen)
    assert "ended before it began" in ptft("report", "runs/run").err
    seen.clear()
    assert ptft("pretrain", config, "--set", "train.steps=1", "--no-cache").code == 0
    assert seen[0]["state"] == "running"
    assert "reason" not in seen[0]
    Path("runs/run/config.yaml").unlink()
    Path("runs/run/status.json").write_text(json.dumps(seen[0]))
    assert "is reading its images" in ptft("report", "runs/run").err


def test_a_loss_that_is_not_finite_exits_6_and_leaves_no_bad_checkpoint(ptft: Ptft, config: Path) -> None:
    import torch

    from ptft.checkpoint import read

    result = ptft("pretrain", config, "--set", "optim.lr=1e30", "--set", "checkpoint.every={steps: 1}")
    assert result.code == 6
    assert "is not finite" in result.err
    for path in Path("runs/run/checkpoints").glob("*.pt"):
        assert all(torch.isfinite(tensor).all() for tensor in read(path).tensors.values())


def test_too_small_images_for_a_model_exit_2_with_advice(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--set", "model={name: vgg11}")
    assert result.code == 2
    assert "at least 32 pixels" in result.err


def test_unwritable_place_exits_5(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--out", "/proc/nowhere/run")
    assert result.code == 5
    assert "/proc/nowhere/run" in result.err


def test_help_tells_the_exit_codes_and_leaves_torch_unimported(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['ptft', '--help']\n"
        "from ptft.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'torchvision', 'matplotlib', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "75 another process" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_tells_counts_parameters_and_time_and_writes_nothing(ptft: Ptft, config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = ptft("check", config, "--json")
    assert result.code == 0, result.err
    assert result.json["counts"]["train"] == [14, 14, 14]
    assert result.json["num_steps"] == 12
    assert result.json["peak_bytes"] > 0
    assert "12x12 RGB" in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_check_times_every_size_of_growing_images(ptft: Ptft, config: Path) -> None:
    sides: list[int] = []

    def note(module: nn.Module, images: tuple[Tensor, ...]) -> None:
        if isinstance(module, Classifier):
            sides.append(images[0].shape[-1])

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        result = ptft("check", config, "--set", "train.resize.initial_scale=0.67")
    finally:
        hook.remove()
    assert result.code == 0, result.err
    assert "train.resize: images of 8 pixels up to step 9, then 12." in result.err
    assert sides == [8] * 4 + [12] * 3


def test_growing_images_that_begin_too_small_are_refused_with_what_to_write(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--set", "train.resize.initial_scale=0.3")
    assert result.code == 2
    assert "train.resize.initial_scale: training would begin with images of 4 pixels" in result.err
    assert "at least 8. Write at least 0.67." in result.err


def test_check_names_an_unreadable_image(ptft: Ptft, config: Path, photos: Path) -> None:
    (photos / "red" / "broken.png").write_bytes(b"not an image")
    (photos / "red" / "phone.heic").write_bytes(b"not an image either")
    result = ptft("check", config)
    assert result.code == 3
    assert "red/broken.png" in result.err
    assert "data: not read, as their names do not end like those of images: 1 .heic." in result.err
    skipped = ptft("check", config, "--set", "data.on_bad_image=skip")
    assert skipped.code == 0
    assert "left out: red/broken.png" in skipped.err


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("models", "resnet18"),
        ("datasets", "fashion-mnist-10k"),
        ("objectives", "supervised"),
        ("augmentations", "standard"),
        ("optimizers", "adamw"),
        ("schedules", "cosine"),
        ("recipes", "probe"),
    ],
)
def test_list_has_a_line_for_each_name(ptft: Ptft, what: str, name: str) -> None:
    lines = ptft("list", what).out.splitlines()
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert name in {line.split()[0] for line in lines}


def test_list_of_an_unknown_kind_exits_2(ptft: Ptft) -> None:
    assert ptft("list", "optimisers").code == 2


def test_init_writes_a_pair_that_is_valid_and_never_overwrites(ptft: Ptft, tmp_path: Path) -> None:
    from ptft.config.load import load
    from ptft.settings import FinetuneConfig, PretrainConfig

    result = ptft("init", "new")
    pretrain, finetune = map(Path, result.out.splitlines())
    load(pretrain, PretrainConfig)
    load(finetune, FinetuneConfig)
    assert json.loads(Path("new/ptft-pretrain.schema.json").read_text())["type"] == "object"
    pretrain.write_text("mine")
    assert ptft("init", "new").code == 2
    assert pretrain.read_text() == "mine"


@pytest.mark.parametrize("what", ["pretrain", "finetune", "compare"])
def test_schema_is_json(ptft: Ptft, what: str) -> None:
    properties = ptft("schema", what).json["properties"]
    assert {"data", "model", "train"} <= properties.keys()
    assert ("transfer" in properties) == (what != "pretrain")
    assert ("compare" in properties) == (what == "compare")


def limit_files() -> None:
    """No file may grow beyond 12 KiB, as `ulimit -f 12` has it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (12 << 10, 12 << 10))


def test_a_file_size_limit_exits_5_in_a_sentence_and_a_raised_one_goes_on(
    ptft: Ptft, tmp_path: Path, config: Path
) -> None:
    done = run("pretrain", "run.yaml", cwd=tmp_path, before=limit_files)
    assert done.code == 5, done.err
    assert "checkpoints/step-" in done.err
    assert "Traceback" not in done.err
    assert json.loads((tmp_path / "runs/run/status.json").read_text())["exit_code"] == 5
    assert not list((tmp_path / "runs/run/checkpoints").iterdir())
    assert ptft("pretrain", "run.yaml", "--resume").code == 0


def test_a_last_step_that_spoils_the_weights_exits_6(ptft: Ptft, config: Path) -> None:
    for validation in ("0.1", "0.0"):
        settings = ["--set", "optim.lr=1e38", "--set", "train.steps=1", "--set", f"data.validation={validation}"]
        assert ptft("pretrain", config, "--out", f"runs/{validation}", *settings).code == 6
    assert not list(Path("runs", "0.1", "checkpoints").glob("*.pt"))


def test_a_defect_of_ptft_ends_the_run_as_failed(ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("defect")

    monkeypatch.setattr("ptft.run.training.conclude", fail)
    assert ptft("pretrain", config).code == 1
    status = json.loads(Path("runs/run/status.json").read_text())
    assert (status["state"], status["exit_code"], status["reason"]) == ("failed", 1, "KeyError('defect')")


def test_a_finished_run_can_be_moved(ptft: Ptft, config: Path) -> None:
    ptft("pretrain", config)
    Path("runs/run").rename("moved")
    assert ptft("pretrain", config, "--out", "moved", "--resume").path == Path("moved/checkpoints/best.pt")


def test_class_names_may_hold_any_characters(ptft: Ptft, config: Path, photos: Path) -> None:
    (photos / "red").rename(photos / "$_{no")
    (photos / "blue").rename(photos / "日本, \\'012'")
    result = ptft("pretrain", config, "--json", page=True)
    assert result.code == 0, result.err
    assert "could not be made" not in result.err
    assert result.json["classes"][0] == "$_{no"


def test_a_micro_batch_of_one_is_refused_with_batch_norm(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--set", "train.accumulate=5")
    assert result.code == 2
    assert "batch norm" in result.err


def test_patience_without_validation_is_refused(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--set", "train.patience=2", "--set", "data.validation=0.0")
    assert result.code == 2
    assert "train.patience" in result.err


def test_a_run_folder_among_the_images_is_refused(ptft: Ptft, config: Path, photos: Path) -> None:
    result = ptft("pretrain", config, "--out", photos / "runs")
    assert result.code == 2
    assert not (photos / "runs").exists()


def test_check_lists_every_bad_image(ptft: Ptft, config: Path, photos: Path) -> None:
    for name in ("a", "b"):
        (photos / "red" / f"{name}.png").write_bytes(b"not an image")
    result = ptft("check", config)
    assert result.code == 3
    assert "red/a.png" in result.err
    assert "red/b.png" in result.err
    assert "2 images cannot be read" in result.err


def test_a_reader_that_goes_away_does_not_end_a_run(tmp_path: Path, config: Path) -> None:
    command = f"{sys.executable} -m ptft pretrain run.yaml 2>&1 >/dev/null | true"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=120, check=True)
    assert json.loads((tmp_path / "runs/run/status.json").read_text())["state"] == "done"


def test_a_finetune_config_given_to_pretrain_or_check_says_what_it_is(ptft: Ptft, tmp_path: Path) -> None:
    ptft("init", ".")
    for command, words in (("pretrain", "config of `ptft finetune`"), ("check", "give the weights to start from")):
        result = ptft(command, "finetune.yaml")
        assert result.code == 2
        assert words in result.err


def test_a_compare_config_given_to_another_command_names_the_one_it_is_for(ptft: Ptft, tmp_path: Path) -> None:
    write_config(tmp_path / "c.yaml", compare={"seeds": 3})
    result = ptft("finetune", "c.yaml", "--from", "source.pt")
    assert result.code == 2
    assert "c.yaml is a config of `ptft compare`: it has `compare:`. Give it to that command." in result.err


def test_check_tries_a_finetuning_without_a_config(ptft: Ptft, config: Path, photos: Path) -> None:
    source = ptft("pretrain", config).path
    found = ptft("check", "--from", source, "--data", photos, "--json")
    assert found.code == 0, found.err
    assert found.json["counts"]["train"] == [14, 14, 14]
    assert " 1 step of " in ptft("check", "--from", source, "--data", photos, "--set", "transfer.recipe=probe").out
    for words, arguments in (
        ("give a CONFIG, or --from SOURCE and --data DIR", []),
        ("give the weights to start from", ["--data", photos]),
        ("--data belongs to a finetuning: give --from SOURCE too", [config, "--data", photos]),
    ):
        refused = ptft("check", *arguments)
        assert refused.code == 2
        assert words in refused.err


def test_version_is_printed(ptft: Ptft) -> None:
    assert ptft("--version").out.startswith("ptft 0.")
