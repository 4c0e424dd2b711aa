"""Learning rates are chosen by validation alone, and looked for beyond the edge of a grid."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ptft.compare.cells import Cell, Setting
from ptft.compare.learning_rates import Choice, choose_learning_rates, widened
from ptft.settings import CompareConfig
from ptft.transfer.recipes import Budget

Score = Callable[[Cell], float]


def choose(
    out: Path, score: Score, loss: Score = lambda cell: 1.0, **compare: object
) -> tuple[dict[str, Choice], list[Cell]]:
    """Chooses among run folders that say what `score` gives, on validation, and the contrary on test; and the cells."""
    section = {"probe": False, "seeds": 3, "tuning_seeds": 2} | compare
    config = CompareConfig.model_validate({"data": {"name": "fashion-mnist-10k"}, "compare": section})
    setting = Setting(config, Path("none.pt"), out, {5: Budget(10, 8)}, 0)
    ran: list[Cell] = []

    def run(cells: Sequence[Cell]) -> None:
        for cell in cells:
            if cell not in ran:
                ran.append(cell)
                write(setting, cell, score(cell), loss(cell))

    choices = choose_learning_rates(setting, run)
    return {arm: choice for (arm, _), choice in choices.items()}, ran


def write(setting: Setting, cell: Cell, top1: float, loss: float) -> None:
    folder = setting.folder(cell)
    folder.path.mkdir(parents=True)
    diverged = math.isnan(top1)
    folder.status.write_text(json.dumps({"state": "failed", "exit_code": 6} if diverged else {"state": "done"}))
    if diverged:
        return
    scores = {"validation": {"top1": top1, "loss": loss}, "test": {"top1": 1 - top1, "loss": 1.0}}
    folder.summary.write_text(json.dumps(scores))


def peak(best: float) -> Score:
    """Accuracy that falls away from one learning rate."""
    return lambda cell: 0.9 - 0.1 * abs(math.log10(cell.lr / best))


@pytest.mark.parametrize("best", [0.003, 0.03, 0.1, 1.0, 3.0])
def test_the_best_is_found_inside_the_grid_and_beyond_it(tmp_path: Path, best: float) -> None:
    choices, _ = choose(tmp_path, peak(best))
    assert choices["random"].lr == best
    assert not choices["random"].is_at_edge


def test_each_arm_has_its_own_grid_and_its_own_choice(tmp_path: Path) -> None:
    choices, _ = choose(tmp_path, lambda cell: peak(0.3 if cell.arm == "random" else 0.001)(cell))
    assert (choices["random"].lr, choices["pretrained"].lr) == (0.3, 0.001)


def test_a_grid_of_the_config_is_that_of_its_arm(tmp_path: Path) -> None:
    _, ran = choose(tmp_path, peak(0.01), lrs={"random": [0.2, 0.1], "pretrained": [0.02, 0.01]})
    assert {cell.lr for cell in ran if cell.arm == "random"} == {0.1, 0.2}
    assert {cell.lr for cell in ran if cell.arm == "pretrained"} == {0.01, 0.02}


def test_of_equal_accuracies_the_one_of_less_loss_is_chosen(tmp_path: Path) -> None:
    choices, _ = choose(tmp_path, lambda cell: 0.5, lambda cell: 2 - peak(0.1)(cell))
    assert choices["random"].lr == 0.1


def test_of_equal_accuracies_the_mean_loss_over_the_seeds_decides(tmp_path: Path) -> None:
    by_seed = {0: {0.03: 0.1, 0.1: 0.4}, 1: {0.03: 1.5, 0.1: 0.4}}
    choices, _ = choose(tmp_path, lambda cell: 0.5, lambda cell: by_seed[cell.seed].get(cell.lr, 1.0))
    assert choices["random"].lr == 0.1


def test_no_more_seeds_are_tuned_on_than_there_are(tmp_path: Path) -> None:
    _, ran = choose(tmp_path, peak(0.1), seeds=2, tuning_seeds=5)
    assert {cell.seed for cell in ran} == {0, 1}


@pytest.mark.parametrize(("best", "edge"), [(10.0, 0.1), (0.0001, 0.01)])
def test_a_short_grid_is_taken_as_it_is_and_its_edge_is_told(tmp_path: Path, best: float, edge: float) -> None:
    choices, ran = choose(tmp_path, peak(best), lrs={"random": [0.1, 0.01]})
    assert choices["random"].lr == edge
    assert choices["random"].is_at_edge
    assert {cell.lr for cell in ran if cell.arm == "random"} == {0.01, 0.1}


def test_the_search_ends_although_more_is_always_better(tmp_path: Path) -> None:
    choices, _ = choose(tmp_path, lambda cell: 1 - 1 / (1 + cell.lr))
    assert choices["random"].is_at_edge
    assert list(choices["random"].tried) == [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]


def test_only_the_tuning_seeds_are_run_and_their_mean_decides(tmp_path: Path) -> None:
    by_seed = {0: {0.03: 0.9, 0.1: 0.6, 0.3: 0.5}, 1: {0.03: 0.5, 0.1: 0.9, 0.3: 0.5}}
    choices, ran = choose(tmp_path, lambda cell: by_seed[cell.seed].get(cell.lr, 0.5))
    assert choices["random"].lr == 0.1
    assert choices["random"].tried[0.03] == pytest.approx(0.7)
    assert {cell.seed for cell in ran} == {0, 1}


@pytest.mark.parametrize("top1", [0.4, 0.0])
def test_a_learning_rate_that_diverges_loses(tmp_path: Path, top1: float) -> None:
    choices, _ = choose(tmp_path, lambda cell: math.nan if cell.lr > 0.05 else top1)
    assert choices["random"].lr <= 0.03
    assert choices["random"].tried[0.3] == 0.0


def test_a_learning_rate_at_which_one_seed_diverges_loses_whatever_the_others_reach(tmp_path: Path) -> None:
    choices, _ = choose(tmp_path, lambda cell: (0.95, math.nan)[cell.seed] if cell.lr == 0.1 else 0.4)
    assert choices["random"].lr != 0.1
    assert choices["random"].tried[0.1] == pytest.approx(0.475)


def test_a_single_learning_rate_is_at_no_edge(tmp_path: Path) -> None:
    choices, _ = choose(tmp_path, peak(0.1), lrs={"random": [0.1]})
    assert not choices["random"].is_at_edge


def test_a_grid_grows_in_its_own_rhythm() -> None:
    assert widened((0.03, 0.1, 0.3), 0.03) == (0.01, 0.03, 0.1, 0.3)
    assert widened((0.03, 0.1, 0.3), 0.3) == (0.03, 0.1, 0.3, 1.0)
    assert widened((0.1, 0.2, 0.4), 0.4) == (0.1, 0.2, 0.4, 0.8)
    assert widened((0.03, 0.1, 0.3), 0.1) == (0.03, 0.1, 0.3)
