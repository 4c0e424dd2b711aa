"""The ranking of checkpoints as a table on the console."""

import numpy as np

from ptft.proof.ranking import Ranking, told
from ptft.proof.scores.worth import Worth
from ptft.report.console import Console
from ptft.train.metrics import wilson_interval


def print_ranking(console: Console, ranking: Ranking) -> None:
    """One row a checkpoint, best first, then one for random weights of each model; and how to read them."""
    columns = ["checkpoint", "LogME", "over random", "behind the first", "linear probe", "k-NN", "H-score"]
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
    num_images = len(ranking.best.measured.worth.probe_right)
    console.say(
        f"LogME ranks: log evidence of the labels given the features, nats a label. Its differences have intervals of "
        f"{100 * ranking.confidence:.1f} %\neach, so that all hold together in 95 of 100 cases. Linear probe and k-NN: "
        f"share of {num_images:,} images named right that were left out, with 95 % intervals."
    )


def _row(name: str, worth: Worth, over_random: str, behind: str) -> list[str]:
    accuracies = [_accuracy(worth.probe_right), _accuracy(worth.neighbours_right)]
    return [name, f"{worth.logme:.3f}", over_random, behind, *accuracies, f"{worth.h_score:.2f}"]


def _accuracy(right: np.ndarray) -> str:
    low, high = wilson_interval(int(right.sum()), len(right))
    return f"{100 * right.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f})"
