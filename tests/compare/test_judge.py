"""From the files of the runs to the numbers of a comparison, for files whose numbers are known."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from ptft.compare.cells import Cell, Setting
from ptft.compare.comparison import Comparison
from ptft.compare.judge import judge
from ptft.compare.learning_rates import Choice, Place
from ptft.compare.plan import Plan
from ptft.compare.verdict import worth_of
from ptft.proof.paired import OF_ACCURACY
from ptft.proof.spread import spread_of
from ptft.settings import CompareConfig
from ptft.transfer.origin import Origin
from ptft.transfer.recipes import Budget

SEEDS, IMAGES, LABELS = 6, 40, (2, 8)
SHARES = {("random", 2): 0.4, ("random", 8): 0.6, ("pretrained", 2): 0.5, ("pretrained", 8): 0.8}
LOOKS = {  # of the seeds in turn: validation top1 after 1, 2 and 3 steps
    "random": ((0.1, 0.5, 0.4), (0.3, 0.7, 0.6)),
    "pretrained": ((0.4, 0.4, 0.9), (0.5, 0.7, 0.7)),
}


@pytest.fixture
def right() -> dict[Place, np.ndarray]:
    """Whether each seed was right on each image, the better seeds more often."""
    rng = np.random.default_rng(0)
    return {
        place: rng.random((SEEDS, IMAGES)) < share + np.array([[0.3], [-0.3], [0.2], [-0.2], [0.1], [-0.1]])
        for place, share in SHARES.items()
    }


def judged(folder: Path, right: dict[Place, np.ndarray], num_sources: int = 1) -> Comparison:
    section = {"seeds": SEEDS, "probe": False, "labels_per_class": LABELS}
    data = {"name": "folder", "root": "photos"}
    config = CompareConfig.model_validate({"data": data, "model": {"name": "small-cnn"}, "compare": section})
    sources: list[Origin] = [Path(f"{number}.pt") for number in range(num_sources)]
    setting = Setting(config, sources, folder, {labels: Budget(3, 4) for labels in LABELS}, 5)
    for (arm, labels), seed in product(right, range(SEEDS)):
        path = setting.folder(Cell(arm, labels, seed, 0.1)).path
        path.mkdir(parents=True)
        predicted = np.where(right[arm, labels][seed], 1, 0).tolist()
        (path / "test.json").write_text(json.dumps({"labels": [1] * IMAGES, "predicted": predicted}))
        looks = enumerate(LOOKS[arm][seed % 2], start=1)
        lines = [{"step": step, "validation_top1": top1} for step, top1 in looks]
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [{"step": 1}, *lines]))
    plan = Plan(setting, "folder photos/", ["a", "b"], {labels: 2 * labels for labels in LABELS}, 6, [], [])
    return judge(plan, {place: Choice(0.1, {0.1: 0.5}, False) for place in right}, None, "ptft compare")


def test_every_number_is_that_of_the_files(tmp_path: Path, right: dict[Place, np.ndarray]) -> None:
    found = judged(tmp_path, right)
    assert (found.num_test, found.num_validation, found.charged_steps, found.classes) == (IMAGES, 6, 5, ["a", "b"])
    assert [(point.labels, point.num_labels) for point in found.points] == [(2, 4), (8, 16)]
    accuracy = [(2.0, right["random", 2].mean()), (8.0, right["random", 8].mean())]
    for point in found.points:
        before, after = (right[arm, point.labels] for arm in ("random", "pretrained"))
        random, pretrained = point.arms["random"], point.arms["pretrained"]
        assert (random.gain, random.num_steps, pretrained.num_steps) == (None, 8, 3)
        assert pretrained.top1_of_seeds == after.mean(axis=1).tolist()
        assert pretrained.top1 == spread_of(after * 1.0, OF_ACCURACY)
        assert [step for step, _ in pretrained.curve] == [1, 2, 3]
        assert [top1 for _, top1 in pretrained.curve] == pytest.approx([0.45, 0.55, 0.8])
        gain = pretrained.gain
        assert gain is not None
        assert gain.difference == spread_of(after * 1.0 - before)
        tests = [(int((one & ~two).sum()), int((two & ~one).sum())) for one, two in zip(before, after, strict=True)]
        assert [(test.num_only_first, test.num_only_second) for test in gain.mcnemar] == tests
        p_values = [binomtest(first, first + second).pvalue for first, second in tests]
        assert gain.p_value == pytest.approx(min(1.0, 2 * np.median(p_values)))
        assert gain.steps_to_baseline == 2  # 0.55 after 2 steps, where random weights end at 0.5
        assert gain.worth == worth_of(float(after.mean()), accuracy)


def test_seeds_that_share_a_source_are_one_draw_of_the_pretraining(
    tmp_path: Path, right: dict[Place, np.ndarray]
) -> None:
    for point in judged(tmp_path, right, num_sources=2).points:
        before, after = (right[arm, point.labels] * 1.0 for arm in ("random", "pretrained"))
        gain = point.arms["pretrained"].gain
        assert gain is not None
        difference = after - before
        assert gain.difference == spread_of(
            np.stack([difference[[0, 2, 4]].mean(axis=0), difference[[1, 3, 5]].mean(axis=0)])
        )
        assert gain.verdict == "too few seeds to tell"
        draws = np.stack([after[[0, 2, 4]].mean(axis=0), after[[1, 3, 5]].mean(axis=0)])
        assert point.arms["pretrained"].top1 == spread_of(draws, OF_ACCURACY) != spread_of(draws)


def test_a_p_value_is_at_most_1(tmp_path: Path, right: dict[Place, np.ndarray]) -> None:
    alike = right | {("pretrained", labels): right["random", labels] for labels in LABELS}
    assert [point.arms["pretrained"].gain.p_value for point in judged(tmp_path, alike).points] == [1.0, 1.0]  # type: ignore[union-attr]


@pytest.mark.parametrize(("num_gained", "num_seeds", "verdict"), [(5, 5, "within noise"), (10, 6, "helped")])
def test_the_verdict_of_a_number_of_labels_is_its_own_and_allows_for_the_others(
    tmp_path: Path, num_gained: int, num_seeds: int, verdict: str
) -> None:
    """Both would be clear alone."""
    right = {place: np.zeros((SEEDS, IMAGES), dtype=bool) for place in SHARES}
    right["pretrained", 8][:num_seeds, :num_gained] = True
    few, many = judged(tmp_path, right).points  # type: ignore[arg-type]
    assert (few.verdict, many.verdict) == ("within noise", verdict)
    assert many.gain.verdict == "helped"
