"""`ptft score`: the ranking of checkpoints as a table on the console."""

import numpy as np

from ptft.proof.ranking import Ranking, told
from ptft.proof.scores.worth import Worth, accuracy
from ptft.report.console import Console


def print_ranking(console: Console, ranking: Ranking) -> None:
    """One row a checkpoint, best first, then one for random weights of each model; and how to read them."""
    columns = ["checkpoint", "error", "less than random", "more than first", "probe", "k-NN", "LogME", "H-score"]
    rows = [
        _row(
            str(place.measured.path),
            place.measured.worth,
            told(place.over_random),
            "" if place.behind is None else told(place.behind),
        )
        for place in ranking.places
    ]
    zeros = {
        f"random weights, {one.model} at {one.image_size} px": one.random
        for one in (place.measured for place in ranking.places)
    }
    rows += [_row(name, zero, "", "") for name, zero in zeros.items()]
    console.table(columns, rows)
    num_images = len(ranking.best.measured.worth.neighbours_right)
    console.say(
        "error: squared error of a linear probe on the features of all stages, cross-validated; the least is first.\n"
        f"Differences have intervals of {100 * ranking.confidence:.1f} %; those of the first hold together in 95 of "
        f"100 cases. probe and k-NN: share of {num_images:,} images named right, each left out, with 95 % intervals."
    )


def _row(name: str, worth: Worth, less: str, more: str) -> list[str]:
    accuracies = [_accuracy(worth.probe.right), _accuracy(worth.neighbours_right)]
    return [name, f"{worth.probe.error:.3f}", less, more, *accuracies, f"{worth.logme:.3f}", f"{worth.h_score:.2f}"]


def _accuracy(right: np.ndarray) -> str:
    top1, low, high = (100 * share for share in accuracy(right).values())
    return f"{top1:.1f} % ({low:.1f} to {high:.1f})"
