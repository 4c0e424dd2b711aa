"""The ranking of checkpoints as a table on the console."""

from ptft.proof.paired import Difference
from ptft.proof.ranking import Ranking
from ptft.proof.scores.worth import Worth
from ptft.report.console import Console
from ptft.train.metrics import wilson_interval


def print_ranking(console: Console, ranking: Ranking) -> None:
    """One row a checkpoint, best first, then one for random weights of each model; and how to read them."""
    columns = ["checkpoint", "probe", "over random", "behind the first", "k-NN", "LogME", "H-score"]
    rows = [
        [
            str(place.measured.path),
            _accuracy(place.measured.worth),
            _points(place.over_random),
            "" if place.behind is None else _points(place.behind),
            *_others(place.measured.worth),
        ]
        for place in ranking.places
    ]
    zeros = {
        f"random weights, {one.model} at {one.image_size} px": one.random
        for one in (place.measured for place in ranking.places)
    }
    rows += [[name, _accuracy(zero), "", "", *_others(zero)] for name, zero in zeros.items()]
    console.table(columns, rows)
    console.say(
        "probe: share of images that a linear classifier on the features names right, cross-validated; it ranks. "
        f"Differences in points,\nof the probe on the same images, with intervals of {100 * ranking.confidence:.1f} % "
        "each, so that all hold together in 95 of 100 cases."
    )


def _accuracy(worth: Worth) -> str:
    low, high = wilson_interval(int(worth.probe_right.sum()), len(worth.probe_right))
    return f"{100 * worth.probe:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _others(worth: Worth) -> list[str]:
    return [f"{100 * worth.neighbours:.1f} %", f"{worth.logme:.3f}", f"{worth.h_score:.2f}"]


def _points(difference: Difference) -> str:
    return f"{100 * difference.mean:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
