"""The parts of recipe auto: folds, the budget, who wins, how near the source is."""

import io
import math
from dataclasses import replace

import pytest
import torch

from ptft.data.images import ResidentImages
from ptft.data.records import Part
from ptft.data.task import Examples, Format, Task
from ptft.models import Model, SmallCnn, SmallResnet, SmallVgg, TorchvisionCnn
from ptft.models.classifier import Classifier
from ptft.models.outline import outline
from ptft.race.decide import Course, decide
from ptft.race.folds import folds_of
from ptft.race.nearness import Nearness
from ptft.race.pace import allowance, pace
from ptft.race.racers import PROBE, Racer, count_runners, decided, racers_of
from ptft.race.results import Result, _gain, best_of_each, winner_of
from ptft.report.console import Console
from ptft.settings import FinetuneConfig
from ptft.tasks import SingleLabel
from ptft.train.evaluate import Predictions
from ptft.transfer.recipes import RaceConfig

FORMAT = Format(8, 1, (0.5,), (0.5,))


def examples(counts: list[int], first: int = 0) -> Examples:
    """Images whose pixels all say which image it is."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pixels = torch.arange(first, first + len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    return Examples(ResidentImages(pixels.contiguous()), labels, [f"image {first + row}" for row in range(len(labels))])


def task(counts: list[int], **parts: Examples) -> Task:
    named: dict[Part, Examples] = {"train": examples(counts)} | parts  # type: ignore[dict-item]
    return Task("test", tuple("abcdef"[: len(counts)]), FORMAT, named, "", "", "", ())


def config(**sections: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"data": {"name": "fashion-mnist-10k"}} | sections)


def numbers(images: Examples) -> list[int]:
    """Which images these are, by their pixels; names and labels agree."""
    found = images.images.take(torch.arange(len(images)))[:, 0, 0, 0].tolist()
    assert list(images.names) == [f"image {number}" for number in found]
    return found  # type: ignore[no-any-return]


def test_few_images_are_held_out_once_each_and_never_trained_on_meanwhile() -> None:
    found = folds_of(task([7, 5, 2], test=examples([3, 3, 3], first=100)), seed=0)
    held = [number for fold in found for number in numbers(fold.held)]
    assert sorted(held) == list(range(14))
    for fold in found:
        assert not set(numbers(fold.held)) & set(numbers(fold.task.train))
        assert len(fold.held) + len(fold.task.train) == 14
        assert fold.task.parts.keys() == {"train"}
        assert set(fold.task.train.labels.tolist()) == {0, 1, 2}


def test_a_class_of_one_image_is_always_trained_on() -> None:
    found = folds_of(task([6, 1]), seed=0)
    assert all(6 in numbers(fold.task.train) for fold in found)
    assert folds_of(task([1, 1, 1]), seed=0) == []


def test_many_images_need_fewer_folds_and_enough_validation_images_none() -> None:
    assert [len(folds_of(task([count, count]), 0)) for count in (30, 60, 100, 120)] == [3, 3, 3, 3]
    many = Examples(ResidentImages(torch.zeros(900, 1, 8, 8, dtype=torch.uint8)), torch.arange(900) % 2, [""] * 900)
    assert len(folds_of(replace(task([1, 1]), parts={"train": many}), 0)) == 1
    validation = examples([100, 100])
    (only,) = folds_of(task([20, 20], validation=validation), seed=0)
    assert numbers(only.held) == list(range(200))
    assert len(only.task.train) == 40


def test_other_seeds_hold_out_other_images() -> None:
    first, same, other = (folds_of(task([9, 9]), seed) for seed in (0, 0, 1))
    assert [numbers(fold.held) for fold in first] == [numbers(fold.held) for fold in same]
    assert [numbers(fold.held) for fold in first] != [numbers(fold.held) for fold in other]


def test_the_races_never_take_more_steps_than_allowed() -> None:
    racers = racers_of(config(), has_own_head=False)
    assert [racer.lr for racer in racers if racer.recipe == "full"] == [0.003, 0.01, 0.03, 0.1]
    for allowed in (0, 25, 31, 200, 650, 4_000, 100_000):
        for num_steps in (5, 39, 40, 200, 10_000):
            for folds in (1, 3):
                found = pace(racers, folds, allowed, num_steps)
                if found is not None:
                    assert found.num_steps <= allowed
                    assert found.first >= 10
                    assert found.last <= num_steps
    assert pace(racers, 3, 100_000, 39) is None
    assert pace(racers, 3, 29, 10_000) is None
    assert {racer.recipe for racer in pace(racers, 3, 40, 200).racers} == {"full", "probe"}  # type: ignore[union-attr]


def recipes(has_own_head: bool = False, **transfer: object) -> set[str]:
    """Who races under these options."""
    return {racer.recipe for racer in racers_of(config(transfer=transfer), has_own_head=has_own_head)}


def test_options_keep_out_of_the_race_whom_they_mean_nothing_to() -> None:
    assert recipes() == {"full", "lp-ft", "random", "probe"}
    assert recipes(race={"random_weights": False}) == {"full", "lp-ft", "probe"}
    assert recipes(l2_sp=0.01) == recipes(bn="frozen") == recipes(co_tuning=1.0) == {"full", "lp-ft"}
    assert recipes(layer_decay=0.8) == recipes(dropout=0.1) == {"full", "lp-ft", "random"}
    assert recipes(interpolate=True) == recipes(soup=2) == {"lp-ft"}
    assert recipes(interpolate=True, has_own_head=True) == {"full", "lp-ft"}


def test_weights_drawn_back_race_where_nothing_else_becomes_of_the_end() -> None:
    def shares(**transfer: object) -> list[float]:
        racers = racers_of(config(transfer=transfer), has_own_head=False)
        return [racer.share for racer in racers if racer.recipe == "lp-ft"]

    assert shares() == shares(l2_sp=0.01) == shares(bn="frozen") == [1.0, 0.5]
    assert shares(interpolate=True) == shares(soup=2) == [1.0]
    assert shares(interpolate=0.3) == [0.3]
    own = racers_of(config(transfer={"interpolate": 0.3}), has_own_head=True)
    assert {(racer.recipe, racer.share) for racer in own} == {("full", 0.3), ("lp-ft", 0.3)}
    assert count_runners(own) == {"full": 4, "lp-ft": 1}
    drawn_back = decided(config(), Racer("lp-ft", 0.01, 0.5))
    assert (drawn_back.transfer.recipe, drawn_back.optim.lr, drawn_back.transfer.interpolate) == ("lp-ft", 0.01, 0.5)
    assert decided(config(transfer={"interpolate": 0.3}), CALM).transfer.interpolate == 0.3
    assert decided(config(), CALM).transfer.interpolate is False


def test_weights_half_way_win_where_they_alone_are_right_and_take_no_steps() -> None:
    """Heads solved, or trained from random ones, name one class only; others end as the right one reflected at them."""
    torch.manual_seed(0)
    source = SmallCnn(width=4).build(2, 1).eval()
    target = task([60, 60])
    with torch.no_grad():
        features = source.backbone(target.train.images.take(torch.arange(120)).float() / 255).flatten(1)
        sides = 2.0 * target.train.labels - 1
        design = torch.cat([features, torch.ones(120, 1)], dim=1)
        line = torch.linalg.lstsq(design.double(), sides[:, None].double(), driver="gelsd").solution.float().squeeze(1)
    right = {"head.weight": torch.stack([-line[:-1], line[:-1]]), "head.bias": torch.stack([-line[-1], line[-1]])}
    solved = {"head.weight": torch.zeros(2, 4 * 4), "head.bias": torch.tensor([50.0, 0.0])}
    steps = 0

    def train(lap: FinetuneConfig, fold: Task, classifier: Classifier) -> Classifier:
        nonlocal steps
        if lap.transfer.recipe == "probe":
            classifier.load_state_dict(classifier.state_dict() | solved)
            return classifier
        assert lap.transfer.interpolate is False
        steps += lap.train.num_steps(len(fold.train))
        before = classifier.state_dict()
        reflected = {name: 2 * right[name] - before[name] for name in right}
        is_from_solved = torch.equal(before["head.bias"], solved["head.bias"])
        classifier.load_state_dict(before | (reflected if is_from_solved else solved))
        return classifier

    given = config(
        data={"name": "fashion-mnist-10k", "mean": [0.0], "std": [1.0]},
        train={"steps": 100, "batch_size": 8},
        optim={"lr": 0.01},
        transfer={"race": {"budget": 3.0, "random_weights": False}},
    )
    plain = replace(target, format=Format(8, 1, (0.0,), (1.0,)))
    cpu, console = torch.device("cpu"), Console(said := io.StringIO())
    course = Course(given, given, plain, source, source, "none", cpu, train, console, lambda: None)
    found = decide(course).config
    assert (found.transfer.recipe, found.transfer.interpolate) == ("lp-ft", 0.5), said.getvalue()
    assert "transfer.recipe: lp-ft, optim.lr: 0.01, transfer.interpolate: 0.5." in said.getvalue()
    assert "auto: 2 racers and the probe" in said.getvalue()
    assert f"at most {steps:,} steps in all" in said.getvalue()


def test_what_spares_the_sources_layers_does_not_hold_random_weights_back() -> None:
    given = config(transfer={"layer_decay": 0.5, "head_lr": 10.0})
    kept = {recipe: decided(given, Racer(recipe, 0.1)).transfer for recipe in ("full", "random")}
    assert (kept["full"].layer_decay, kept["full"].head_lr) == (0.5, 10.0)
    assert (kept["random"].layer_decay, kept["random"].head_lr) == (1.0, 1.0)


def test_a_warmup_given_takes_the_same_share_of_a_race_as_of_the_run() -> None:
    given = config(
        optim={"lr": 0.1},
        train={"steps": 400, "batch_size": 8},
        schedule={"name": "cosine", "warmup": {"steps": 100}},
        transfer={"race": {"budget": 2.0, "random_weights": False}},
    )
    laps: list[tuple[int, int]] = []

    def train(lap: FinetuneConfig, fold: Task, classifier: Classifier) -> Classifier:
        if lap.transfer.recipe != "probe":
            num_steps = lap.train.num_steps(len(fold.train))
            laps.append((lap.schedule.build(num_steps, len(fold.train), 8).warmup_steps, num_steps))
        return classifier

    source, untrained = (SmallCnn(width=4).build(2, 1) for _ in range(2))
    cpu, console = torch.device("cpu"), Console(io.StringIO())
    decide(Course(given, given, task([15, 15]), source, untrained, "none", cpu, train, console, lambda: None))
    assert len({num_steps for _, num_steps in laps}) == 2
    assert all(warmup == round(num_steps / 4) for warmup, num_steps in laps)


def test_lp_ft_is_bolder_with_more_than_two_hundred_labels_a_class() -> None:
    source = SmallCnn(width=4).build(2, 1)
    cpu, console = torch.device("cpu"), Console(io.StringIO())

    def lr_of(counts: list[int]) -> set[float | None]:
        course = Course(
            config(), config(), task(counts), source, source, "none", cpu, lambda *_: source, console, lambda: None
        )
        return {racer.lr for racer in course.racers() if racer.recipe == "lp-ft"}

    assert lr_of([200, 200]) == {0.01}
    assert lr_of([201, 200]) == {0.03}


def test_a_learning_rate_given_is_the_only_one() -> None:
    assert {racer.lr for racer in racers_of(config(optim={"lr": 0.05}), has_own_head=False)} == {0.05, None}
    many = racers_of(config(), has_own_head=False, has_many_labels=True)
    assert {racer.lr for racer in many if racer.recipe == "lp-ft"} == {0.03}
    assert [racer for racer in many if racer.recipe != "lp-ft"] == [
        racer for racer in racers_of(config(), has_own_head=False) if racer.recipe != "lp-ft"
    ]
    given = racers_of(config(optim={"lr": 0.05}), has_own_head=False, has_many_labels=True)
    assert {racer.lr for racer in given} == {0.05, None}
    adamw = racers_of(config(optim={"name": "adamw"}), has_own_head=False)
    assert [racer.lr for racer in adamw if racer.recipe == "full"] == [3e-5, 1e-4, 3e-4, 1e-3]


@pytest.mark.parametrize(
    "model",
    [
        *(config() for config in (SmallCnn, SmallResnet, SmallVgg)),
        *(
            TorchvisionCnn(name=name)
            for name in (
                "resnet18",
                "mobilenet_v3_small",
                "convnext_tiny",
                "densenet121",
                "shufflenet_v2_x0_5",
                "vgg11",
            )
        ),
    ],
    ids=lambda model: model.name,
)
def test_the_operations_of_a_step_are_those_that_torch_counts(model: Model) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    classifier = outline(model, 3, 3).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier(torch.zeros(1, 3, 64, 64, device="meta"))
    least, batch_size, endless = 1, 7, 10**12
    steps = allowance(RaceConfig(), classifier, Format(64, 3, (0.5,), (0.5,)), batch_size, endless, is_timed=True)
    assert steps == max(least, int(3e13 / (3 * counter.get_total_flops() * batch_size)))


def test_the_allowance_is_the_budget_or_what_the_operations_of_a_step_leave() -> None:
    model = SmallCnn(width=4).build(3, 1)
    assert allowance(RaceConfig(budget=1.5), model, FORMAT, 32, 100) == 150
    assert allowance(RaceConfig(), model, FORMAT, 32, 100) == 1_000
    # 3x3 convolutions 1 -> 4 at 8x8, 4 -> 8 and 8 -> 8 at 4x4, 8 -> 16 at 2x2, and the head; 2 operations a product.
    operations = 2 * (9 * 4 * 64 + 9 * 32 * 16 + 9 * 64 * 16 + 9 * 128 * 4 + 16 * 3)
    steps = math.floor(3e13 / (3 * operations * 1_000_000))
    assert allowance(RaceConfig(), model, FORMAT, 1_000_000, 100) == max(steps, 50)
    assert allowance(RaceConfig(), model, FORMAT, 1_000_000, 10) == max(min(steps, 100), 5)


def result(*right: int, loss: float = 1.0) -> Result:
    return Result(torch.tensor(right).double(), loss, "", len(right))


def judged(*folds: Predictions) -> Result:
    """Of predictions for images of one of two classes."""
    return Result.of(SingleLabel(), task([1, 1]), list(folds))


FULL, BOLD, RANDOM = Racer("full", 0.01), Racer("full", 0.03), Racer("random", 0.1)
CALM, DRAWN_BACK = Racer("lp-ft", 0.01), Racer("lp-ft", 0.01, 0.5)


def test_a_result_is_accuracy_then_loss_over_all_folds() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([0, 1, 1, 1])
    found = judged(Predictions(logits[:1], labels[:1]), Predictions(logits[1:], labels[1:]))
    assert found.merits.tolist() == [1, 1, 0, 1]
    assert (found.told, found.num_images) == ("75.0 %", 4)
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    assert result(1, 1, 0, loss=0.5).rank > result(1, 0, 1, loss=0.6).rank > result(1, 0, 0, loss=0.1).rank
    assert result(1, loss=math.nan).rank < result(1, loss=9.0).rank


def test_the_best_of_each_recipe_goes_on_with_the_next_timider() -> None:
    timid = Racer("full", 0.003)
    results = {timid: result(0, 0), FULL: result(1, 0), BOLD: result(1, 1), RANDOM: result(0, 0), PROBE: result(1, 1)}
    assert best_of_each(results) == [FULL, BOLD, RANDOM]
    assert best_of_each(results | {timid: result(1, 1, loss=0.5)}) == [timid, RANDOM]
    bold = {racer: replace(racer, lr=0.1) for racer in (CALM, DRAWN_BACK)}
    ways = {CALM: result(0, 0), DRAWN_BACK: result(0, 0), bold[CALM]: result(0, 0), bold[DRAWN_BACK]: result(1, 1)}
    assert best_of_each(ways) == list(ways)
    assert best_of_each(ways | {DRAWN_BACK: result(1, 1, loss=0.5)}) == [CALM, DRAWN_BACK]


def test_few_images_leave_it_to_lp_ft_and_many_decide_alone() -> None:
    for times, winner in ((1, CALM), (30, FULL)):
        ahead, behind = result(*([0, 1, 1] + [1] * 20) * times), result(*([1, 0, 0] + [1] * 20) * times)
        for other in (FULL, DRAWN_BACK):
            expected = winner if winner == CALM else other
            assert winner_of({other: ahead, CALM: behind}, is_clear=False, deviation=0.03) == expected


def test_few_labels_and_clearly_good_features_favour_weights_drawn_back_else_the_probe() -> None:
    alike = [1, 0] * 10
    for is_clear, favoured in ((True, DRAWN_BACK), (True, PROBE), (False, CALM)):
        racers = {CALM, PROBE, favoured}
        results = {racer: result(*(alike[::-1] if racer == favoured else alike), loss=1.0) for racer in racers}
        results |= {racer: result(*alike, loss=0.5) for racer in racers - {favoured}}
        assert winner_of(results, is_clear=is_clear, deviation=0.03) == favoured


def test_the_expected_gain_is_that_of_two_normals() -> None:
    variance, error = 0.03**2, 0.09 / 10
    expected = (variance * 0.1 - error * 0.01) / (variance + error)
    assert _gain(result(*[1] * 9, 0), result(*[1] * 8, 0, 0), -0.01, 0.03) == pytest.approx(expected)


def test_random_weights_win_only_where_it_is_no_chance() -> None:
    good, better = [1] * 80 + [0] * 20, [1] * 90 + [0] * 10
    assert winner_of({FULL: result(*good), RANDOM: result(*better)}, is_clear=False, deviation=0.03) == RANDOM
    by_two_of_many_disagreements = [0] * 15 + [1] * 82 + [0] * 3
    assert sum(by_two_of_many_disagreements) > sum(good)
    assert (
        winner_of({FULL: result(*good), RANDOM: result(*by_two_of_many_disagreements)}, is_clear=False, deviation=0.03)
        == FULL
    )
    assert winner_of({FULL: result(*good), RANDOM: result(*good, loss=0.1)}, is_clear=False, deviation=0.03) == FULL
    assert winner_of({PROBE: result(*better), FULL: result(*good)}, is_clear=False, deviation=0.03) == PROBE


def test_random_weights_are_not_tried_where_few_labels_meet_features_far_ahead() -> None:
    assert Nearness(0.8, 0.5, labels_per_class=10).is_clear
    assert not Nearness(0.6, 0.5, labels_per_class=10).is_clear
    assert not Nearness(0.8, 0.5, labels_per_class=100).is_clear


def test_a_racer_that_diverged_names_nothing_and_cannot_win() -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)  # NaN is argmax 0, which most images are
    diverged = judged(Predictions(torch.full((10, 2), float("nan")), labels))
    fair = judged(Predictions(torch.tensor([[2.0, 0.0]] * 7 + [[0.0, 2.0]] * 3), labels))
    assert (diverged.merit, diverged.told) == (0, "not finite")
    assert winner_of({Racer("full", 1.0): diverged, Racer("full", 0.1): fair}, is_clear=False, deviation=0.03) == Racer(
        "full", 0.1
    )


def test_a_run_that_ends_by_the_clock_does_not_race_half_of_the_steps_it_may_take() -> None:
    classifier = SmallCnn(width=4).build(2, 1)
    arguments = (RaceConfig(), classifier, FORMAT, 8)
    endless = 10**12
    assert allowance(*arguments, endless, is_timed=False) == endless // 2
    assert allowance(*arguments, endless, is_timed=True) < endless // 100
