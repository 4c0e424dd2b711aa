"""Every recipe from the command line: it trains what it says, resumes to the same bits, and is evaluated."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from making import Ptft, make_images
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from ptft import checkpoint
from ptft.data.images import ResidentImages
from ptft.data.task import Examples, Format
from ptft.inference import load_classifier
from ptft.models import SmallCnn
from ptft.transfer.recipes import RECIPES, RecipeName, TransferConfig
from ptft.transfer.statistics import measure_statistics

SHIFTED = {"cyan": (60, 190, 200), "orange": (230, 150, 40), "violet": (180, 140, 220)}
STEPS = 8
STAGES = ("stage1", "stage2", "stage3")
NEEDED = {"surgical": {"stages": "[stage2]"}}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Three classes that the source does not know."""
    return make_images(tmp_path / "target", SHIFTED, 15)


def options(recipe: str, **transfer: object) -> list[str]:
    """Flags of a quick run of 8 steps with a checkpoint after each third."""
    keys = {"recipe": recipe} | NEEDED.get(recipe, {}) | transfer
    settings = [f"transfer.{key}={value}" for key, value in keys.items()]
    settings += [f"train.steps={STEPS}", "train.batch_size=8", "train.precision=fp32", "optim.lr=0.05", "device=cpu"]
    settings += ["train.memory_format=contiguous", "checkpoint.every={steps: 3}", "checkpoint.keep=9"]
    return [part for text in settings for part in ("--set", text)]


def moved(source: Path, after: Path) -> set[str]:
    """Stages of which any tensor, buffers too, is not the same bits."""
    old, new = checkpoint.read(source).tensors, checkpoint.read(after).tensors
    names = [name for name in old if name.startswith("backbone.") and not torch.equal(old[name], new[name])]
    return {name.split(".")[1] for name in names}


def last(path: Path) -> dict[str, Tensor]:
    return dict(checkpoint.read(path.with_name("last.pt")).tensors)


def test_list_tells_every_recipe(ptft: Ptft) -> None:
    assert [line.split()[0] for line in ptft("list", "recipes").out.splitlines()] == list(get_args(RecipeName))
    assert list(RECIPES) == list(get_args(RecipeName))


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_recipe_trains_evaluates_and_resumes_to_the_same_bits(
    ptft: Ptft, source: Path, target: Path, recipe: str
) -> None:
    arguments = ["finetune", "--from", source, "--data", target, *options(recipe)]
    whole = ptft(*arguments, "--out", "whole").path
    path = ptft(*arguments, "--out", "cut").path
    newest = sorted(path.parent.glob("step-*.pt"))
    for later in (path, path.with_name("last.pt"), *newest[-2:]):
        later.unlink()
    (path.parent.parent / "status.json").unlink()
    resumed = ptft(*arguments, "--out", "cut", "--resume", page=True)
    assert resumed.path == path
    assert ("resumed at step 3 of 8" in resumed.err) == (recipe != "probe"), resumed.err
    ends = last(whole), last(path)
    assert ends[0].keys() == ends[1].keys()
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []
    assert ptft("evaluate", path, "--json").json["top1"] > 0.3
    status = json.loads(Path("cut/status.json").read_text())
    assert (status["state"], status["step"]) == ("done", 1 if recipe == "probe" else STEPS)
    assert Path("cut/report.html").exists()
    assert ptft("check", "whole/config.yaml", "--from", source).code == 0


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [
        ("full", set(STAGES)),
        ("lp-ft", set(STAGES)),
        ("gradual", set(STAGES)),
        ("probe", set()),
        ("surgical", {"stage2"}),
    ],
)
def test_frozen_stages_are_bit_identical_after_training_buffers_included(
    ptft: Ptft, source: Path, target: Path, recipe: str, stages: set[str]
) -> None:
    path = ptft("finetune", "--from", source, "--data", target, *options(recipe)).path
    assert moved(source, path.with_name("last.pt")) == stages


def test_batch_norm_left_in_training_mode_is_caught(
    ptft: Ptft, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above: weights frozen, statistics not."""
    from ptft.train.regime import Regime

    set_out = Regime.set

    def drift(self: Regime, model: torch.nn.Module, step: int) -> None:
        set_out(self, model, step)  # type: ignore[arg-type]
        model.train()

    monkeypatch.setattr(Regime, "set", drift)
    path = ptft("finetune", "--from", source, "--data", target, *options("surgical")).path
    assert moved(source, path.with_name("last.pt")) == set(STAGES)
    old, new = checkpoint.read(source).tensors, last(path)
    assert torch.equal(old["backbone.stage1.conv.weight"], new["backbone.stage1.conv.weight"])
    assert not torch.equal(old["backbone.stage1.bn.running_mean"], new["backbone.stage1.bn.running_mean"])


def test_gradual_thaws_a_stage_a_phase_from_head_to_stem(ptft: Ptft, source: Path, target: Path) -> None:
    """Four phases in 8 steps; each stage's batch norm moves only from its phase on."""
    path = ptft("finetune", "--from", source, "--data", target, *options("gradual", bn="train")).path
    found = {step: moved(source, path.with_name(f"step-{step:09d}.pt")) for step in (3, 6, 8)}
    assert found == {3: {"stage3"}, 6: {"stage2", "stage3"}, 8: set(STAGES)}


def test_the_probe_is_scikit_learns_logistic_regression_on_the_features(ptft: Ptft, source: Path, target: Path) -> None:
    result = ptft("finetune", "--from", source, "--data", target, *options("probe"), "--json")
    path = Path(result.json["checkpoint"])
    assert "chosen by 5-fold cross-validation" in result.err
    assert "Not used: optim, schedule, augment, the length of train." in result.err
    penalty = float(result.err.partition("L2 penalty ")[2].split()[0])
    from ptft.config.load import load
    from ptft.report.console import Console
    from ptft.run.preparation import prepare_finetune
    from ptft.run.surroundings import Surroundings
    from ptft.settings import FinetuneConfig
    from ptft.train.evaluate import features_of

    with Path("said.txt").open("w") as stream:
        prepared = prepare_finetune(
            load(Path("runs/target/config.yaml"), FinetuneConfig), source, Surroundings.of(Console(stream))
        )
    task, classifier = prepared.task, load_classifier(checkpoint.read(path))
    features = features_of(classifier, task.train, task.format, prepared.device).double()
    mean, std = features.mean(0), features.std(0, correction=0)
    rows = ((features - mean) / torch.where(std > 1e-6 * mean.abs(), std, torch.inf)).numpy()
    theirs = LogisticRegression(
        C=1 / (10 ** (round(2 * torch.tensor(penalty).log10().item()) / 2) * len(rows)), tol=1e-9
    )
    theirs.max_iter = 5000
    theirs.fit(rows, task.train.labels.numpy())
    with torch.no_grad():
        ours = classifier.head(features.float()).softmax(1)
    torch.testing.assert_close(ours.double(), torch.from_numpy(theirs.predict_proba(rows)), rtol=0, atol=1e-3)


def test_a_probe_says_what_it_has_no_use_for(ptft: Ptft, source: Path, target: Path) -> None:
    more = ["--set", "objective.mixup=0.2", "--set", "train.ema=0.9", "--set", "train.sampling=balanced"]
    result = ptft("finetune", "--from", source, "--data", target, *options("probe"), *more)
    assert "objective.mixup, train.ema." in result.err
    assert not checkpoint.read(result.path).part("ema")


def test_batch_norms_statistics_hold_or_are_measured_anew(ptft: Ptft, source: Path, target: Path) -> None:
    before, ends = checkpoint.read(source).tensors, {}
    for policy in ("train", "frozen", "recalibrate"):
        path = ptft("finetune", "--from", source, "--data", target, "--out", policy, *options("full", bn=policy)).path
        ends[policy] = path.with_name("step-000000003.pt"), path.with_name("last.pt")
    buffers = [name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]

    def same(first: Path, second: Path) -> bool:
        a, b = checkpoint.read(first).tensors, checkpoint.read(second).tensors
        return all(torch.equal(a[name], b[name]) for name in buffers)

    assert {policy: same(*paths) for policy, paths in ends.items()} == {
        "train": False,
        "frozen": True,
        "recalibrate": True,
    }
    assert same(source, ends["frozen"][1])
    assert not same(source, ends["recalibrate"][1])


def test_single_images_do_where_batch_norm_takes_no_statistics_of_them(ptft: Ptft, source: Path, target: Path) -> None:
    for recipe, more, code in (("full", {}, 2), ("full", {"bn": "frozen"}, 0), ("probe", {}, 0)):
        flags = [*options(recipe, **more), "--set", "train.batch_size=1"]
        result = ptft("finetune", "--from", source, "--data", target, *flags, "--out", f"{recipe}-{code}")
        assert result.code == code, result.err
        assert ("leaves single images, of which batch norm knows no statistics" in result.err) == bool(code)


def test_micro_batches_without_an_image_are_refused(ptft: Ptft, source: Path, target: Path) -> None:
    for accumulate, code in ((33, 2), (32, 0)):
        flags = [*options("full", bn="frozen"), "--set", f"train={{steps: 1, accumulate: {accumulate}}}"]
        result = ptft("finetune", "--from", source, "--data", target, *flags, "--out", f"run-{accumulate}")
        assert result.code == code, result.err
        assert ("train.batch_size: 32 in 33 micro-batches leaves some empty" in result.err) == bool(code)


def test_measured_statistics_are_the_mean_and_variance_of_the_training_images(
    ptft: Ptft, source: Path, target: Path
) -> None:
    path = ptft("finetune", "--from", source, "--data", target, *options("full", bn="recalibrate")).path
    from ptft.config.load import load
    from ptft.report.console import Console
    from ptft.run.preparation import prepare_finetune
    from ptft.run.surroundings import Surroundings
    from ptft.settings import FinetuneConfig

    with Path("said.txt").open("w") as stream:
        config = load(Path("runs/target/config.yaml"), FinetuneConfig)
        task = prepare_finetune(config, source, Surroundings.of(Console(stream))).task
    before = load_classifier(checkpoint.read(source)).backbone.stage1
    images = task.format.normalize(task.train.images.take(torch.arange(len(task.train))))
    with torch.no_grad():
        maps = torch.nn.functional.max_pool2d(before.conv(images), 2)  # type: ignore[operator,union-attr]
    found = last(path)
    torch.testing.assert_close(found["backbone.stage1.bn.running_mean"], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["backbone.stage1.bn.running_var"], maps.var((0, 2, 3)), rtol=1e-3, atol=1e-5)


def examples_of(images: Tensor) -> Examples:
    return Examples(ResidentImages(images), torch.zeros(len(images)).long(), ["image"] * len(images))


AS_THEY_ARE = Format(12, 3, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("is_training", [True, False])
def test_measuring_statistics_leaves_the_mode_and_the_momentum_as_they_were(is_training: bool) -> None:
    classifier = SmallCnn(width=4).build(2, 3).train(is_training)
    norms = [part for part in classifier.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    images = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8)
    measure_statistics(classifier, examples_of(images), AS_THEY_ARE, torch.device("cpu"))
    assert [norm.momentum for norm in norms] == momenta
    assert {part.training for part in classifier.modules()} == {is_training}


def test_of_many_images_evenly_spread_ones_are_measured_and_other_norms_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third of 13, in a batch of 3 and one of 2: no batch of a single image has a say of its own."""
    monkeypatch.setattr("ptft.transfer.statistics._MOST", 5)
    monkeypatch.setattr("ptft.transfer.statistics._BATCH", 2)
    classifier = SmallCnn(width=4).build(2, 3)
    images = torch.randint(0, 256, (13, 3, 12, 12), dtype=torch.uint8)
    first, *others = (part for part in classifier.modules() if isinstance(part, nn.BatchNorm2d))
    arguments = (classifier, examples_of(images), AS_THEY_ARE, torch.device("cpu"))
    assert measure_statistics(*arguments, norms=[first]) == 5
    with torch.no_grad():
        maps = nn.functional.max_pool2d(classifier.backbone.stage1.conv(AS_THEY_ARE.normalize(images[::3])), 2)  # type: ignore[operator,union-attr]
    expected = (maps[:3].mean((0, 2, 3)) + maps[3:].mean((0, 2, 3))) / 2
    torch.testing.assert_close(first.running_mean, expected, rtol=1e-4, atol=1e-5)
    assert not any(norm.running_mean.any() for norm in others if norm.running_mean is not None)
    assert others


def test_a_strong_l2_sp_holds_the_backbone_at_its_start_across_a_resume(ptft: Ptft, source: Path, target: Path) -> None:
    before, distances = checkpoint.read(source).tensors, {}
    weights = [name for name in before if name.startswith("backbone.") and name.endswith("weight")]
    for alpha in (0.0, 5.0):
        arguments = ["finetune", "--from", source, "--data", target, *options("full", l2_sp=alpha)]
        path = ptft(*arguments, "--out", f"whole-{alpha}").path
        distances[alpha] = sum((last(path)[name] - before[name]).norm().item() for name in weights)
    assert distances[5.0] < 0.7 * distances[0.0]
    saved = checkpoint.read(path.with_name("last.pt"))
    assert all(torch.equal(saved.tensors[f"start.{name}"], before[name]) for name in weights)
    assert not any(name.startswith("start.") for name in saved.weights())
    cut = ptft(*arguments, "--out", "cut").path
    for name in ("best.pt", "last.pt", "step-000000006.pt", "step-000000008.pt"):
        cut.with_name(name).unlink()
    Path("cut/status.json").unlink()
    source.unlink()
    ptft(*arguments, "--out", "cut", "--resume")
    assert all(torch.equal(tensor, last(cut)[name]) for name, tensor in last(path).items())


def test_interpolation_chooses_a_share_and_lies_on_the_line(ptft: Ptft, source: Path, target: Path) -> None:
    flags = options("lp-ft", interpolate="true")
    result = ptft("finetune", "--from", source, "--data", target, *flags, "--set", "data.validation=0.3")
    found = checkpoint.read(result.path)
    share = found.metadata.interpolated
    assert share is not None
    assert f"interpolate: {share:.1f} of the way from start to end is best on validation" in result.err
    trained = last(result.path)
    start, ends = trained["start.head.weight"], sorted(result.path.parent.glob("step-*.pt"))
    lines = [torch.lerp(start, checkpoint.read(end).tensors["head.weight"], share) for end in ends]
    assert any(torch.allclose(line, found.tensors["head.weight"], atol=1e-6) for line in lines)
    own = ptft("finetune", "--from", source, "--data", "photos", *options("full", interpolate="true"), "--out", "own")
    assert own.code == 0, own.err
    again = ptft("finetune", "--from", source, "--data", target, *flags, "--set", "data.validation=0.3", "--resume")
    assert again.path == result.path


@pytest.mark.parametrize("validation", ["0", "0.3"])
def test_a_share_that_is_given_needs_no_validation(ptft: Ptft, source: Path, target: Path, validation: str) -> None:
    arguments = ("finetune", "--from", source, "--data", target, *options("lp-ft", interpolate=0.25))
    arguments += ("--set", f"data.validation={validation}", "--set", "checkpoint.keep=20")
    result = ptft(*arguments)
    assert result.path.name == "best.pt"
    found = checkpoint.read(result.path)
    assert found.metadata.interpolated == 0.25
    assert "interpolate: the result lies 0.25 of the way from start to end" in result.err
    assert (found.metadata.lineage[-1].top1 is None) == (validation == "0")
    ends = [checkpoint.read(end).tensors for end in sorted(result.path.parent.glob("step-*.pt"))]
    start = last(result.path)["start.head.weight"]
    lines = [torch.lerp(start, end["head.weight"], 0.25) for end in (ends[-1:] if validation == "0" else ends)]
    assert any(torch.allclose(line, found.tensors["head.weight"], atol=1e-6) for line in lines)
    assert not torch.equal(start, ends[-1]["head.weight"])
    summary = json.loads(Path("runs/target/summary.json").read_text())
    scored = json.loads(ptft("evaluate", result.path, "--json").out)
    assert scored["top1"] == summary["test"]["top1"]
    assert summary["interpolated"] == 0.25
    told = "0.25 of the way from the start of finetuning to its end (WiSE-FT)"
    assert told in ptft("inspect", result.path).out
    assert told in ptft("report", "runs/target").path.read_text()
    assert told not in ptft("inspect", result.path.with_name("last.pt")).out
    longer = ptft(*arguments, "--set", "train.steps=12", "--resume")
    assert longer.code == 0, longer.err
    again = checkpoint.read(longer.path)
    end = checkpoint.read(longer.path.with_name(f"step-{again.metadata.step:09d}.pt")).tensors["head.weight"]
    assert again.metadata.interpolated == 0.25
    assert torch.allclose(torch.lerp(start, end, 0.25), again.tensors["head.weight"], atol=1e-6)
    assert again.metadata.step == 12 or validation != "0"


def test_the_share_is_the_best_by_merit_then_by_loss_then_the_nearest_to_the_end(ptft: Ptft, source: Path) -> None:
    from ptft.config.load import load
    from ptft.distributed.ranks import ALONE
    from ptft.models.classifier import Classifier
    from ptft.report.console import Console
    from ptft.run.interpolation import interpolate
    from ptft.run.preparation import prepare_finetune
    from ptft.run.surroundings import Surroundings
    from ptft.run_folder import RunFolder
    from ptft.settings import FinetuneConfig
    from ptft.train.metrics import Scores

    path = ptft("finetune", "--from", source, "--data", "photos", *options("full")).path
    start, end, before = checkpoint.read(source).weights(), checkpoint.read(path).weights(), path.read_bytes()
    for cases, expected in (
        ([(80, 2.0) if place == 3 else (50, 1.0) for place in range(11)], 3),
        ([(50, 0.5) if place == 6 else (50, 1.0) for place in range(11)], 6),
        ([(50, 1.0)] * 11, 10),
    ):
        path.write_bytes(before)
        seen: list[dict[str, Tensor]] = []

        def score(
            model: Classifier, cases: list[tuple[int, float]] = cases, seen: list[dict[str, Tensor]] = seen
        ) -> Scores:
            right, loss = cases[len(seen)]
            seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            return Scores(torch.tensor([[right, 100 - right], [0, 0]]), loss, None)

        with Path("said.txt").open("w") as stream:
            console = Console(stream)
            config = load(Path("runs/photos/config.yaml"), FinetuneConfig)
            transfer = config.transfer.model_copy(update={"interpolate": True})
            prepared = prepare_finetune(
                config.model_copy(update={"transfer": transfer}), source, Surroundings.of(console)
            )
            for _ in range(2):  # what is one already is left alone
                interpolate(prepared, RunFolder(path.parent.parent), score, console, ALONE)
        assert len(seen) == 11
        for place, tensors in enumerate(seen):
            for name, tensor in tensors.items():
                line = end[name] if "num_batches" in name else torch.lerp(start[name], end[name], place / 10)
                torch.testing.assert_close(tensor, line, rtol=1e-5, atol=1e-6)
        found = checkpoint.read(path)
        assert found.metadata.interpolated == expected / 10
        assert found.metadata.lineage[-1].top1 == cases[expected][0] / 100
        weights = found.weights()
        assert all(torch.equal(weights[name], tensor) for name, tensor in seen[expected].items())
    assert all(torch.equal(weights[name], tensor) for name, tensor in end.items())


ERRORS = [
    ({"recipe": "surgical"}, "recipe surgical needs `stages`, for example [stage1]"),
    ({"recipe": "surgical", "stages": "[stage9]"}, "no stage 'stage9'. From stem to head: stage1, stage2, stage3."),
    ({"recipe": "full", "stages": "[stage1]"}, "`stages` belongs to recipe surgical; leave it out."),
    ({"recipe": "probe", "l2_sp": 0.1}, "`l2_sp` has no meaning for recipe probe"),
    ({"recipe": "probe", "bn": "recalibrate"}, "`bn` has no meaning for recipe probe"),
    ({"recipe": "full", "interpolate": "true"}, "transfer.interpolate: training begins with a new head"),
    ({"recipe": "full", "interpolate": 0.5}, "transfer.interpolate: training begins with a new head"),
    ({"recipe": "lp-ft", "interpolate": 1.5}, "transfer.interpolate"),
    ({"recipe": "lp-ft", "interpolate": "half"}, "transfer.interpolate"),
    ({"recipe": "lp_ft"}, "'lp_ft' is not a recipe. Did you mean lp-ft? `ptft list recipes` shows all."),
    ({"recipe": "full", "layer_decay": 0}, "transfer.layer_decay"),
    ({"recipe": "full", "bn": "freeze"}, "transfer.bn"),
]


def test_options_that_do_not_fit_exit_2_with_a_sentence(ptft: Ptft, source: Path, target: Path) -> None:
    for keys, sentence in ERRORS:
        settings = [part for key, value in keys.items() for part in ("--set", f"transfer.{key}={value}")]
        result = ptft("finetune", "--from", source, "--data", target, *settings, "--set", "device=cpu")
        assert (result.code, result.out) == (2, ""), keys
        assert sentence in result.err, (keys, result.err)


def test_interpolation_needs_validation_images(ptft: Ptft, source: Path, target: Path) -> None:
    flags = [*options("lp-ft", interpolate="true"), "--set", "data.validation=0"]
    result = ptft("finetune", "--from", source, "--data", target, *flags)
    assert result.code == 2
    assert "transfer.interpolate: there are no validation images to choose by." in result.err


def test_the_learning_rate_falls_from_stage_to_stage_away_from_the_head() -> None:
    from ptft.models import SmallCnn
    from ptft.train.regime import Regime

    model = SmallCnn(name="small-cnn", width=4).build(3, 3)
    regime = Regime.of(TransferConfig(recipe="full", layer_decay=0.5, head_lr=3.0), model, num_steps=10)
    assert [regime.factor(name, 4) for name in (*STAGES, "head")] == [0.125, 0.25, 0.5, 3.0]
    gradual = Regime.of(TransferConfig(recipe="gradual", layer_decay=0.5), model, num_steps=40)
    assert gradual.factor("stage3", 10) == pytest.approx(0.5 * 0.1, abs=1e-6)
    assert gradual.factor("stage3", 11) == pytest.approx(0.5 * 0.55, abs=1e-6)
    assert gradual.factor("stage3", 12) == gradual.factor("stage3", 39) == 0.5
