"""The page of `ptft score`: which checkpoint to start from, and how surely."""

from ptft.proof.ranking import Measured, Place, Ranking, Verdict, told
from ptft.proof.score import ScoreResult
from ptft.proof.scores.worth import Worth, accuracy
from ptft.report.figures import COLOURS, INK, blank, picture
from ptft.report.page import Block, Cell, Code, Fact, Page, Picture, Prose, Section, Table, left_out

_HEADS: dict[Verdict, str] = {
    "use": "Start from the first",
    "cannot tell": "The first ones cannot be told apart",
    "none": "None is surely better than random weights",
}
_MAX_NAME = 28


def page_of_score(result: ScoreResult, command: str) -> Page:
    """What `ptft score` found, as a page.

    Args:
        result: see `ptft.proof.score.score`.
        command: as typed.
    """
    ranking = result.ranking
    return Page(
        title=f"score on {result.origin}",
        verdict=_HEADS[ranking.verdict],
        lead=ranking.sentence()[0].upper() + ranking.sentence()[1:],
        facts=_facts(result),
        notes=_notes(result),
        sections=[
            Section("Ranking", [_against_random(ranking), _table(ranking), _how_to_read(ranking)]),
            *left_out(result.bad_images),
            Section("To do it again", [Code(command)]),
        ],
    )


def _facts(result: ScoreResult) -> list[Fact]:
    first = result.ranking.best.measured
    return [
        Fact("first", _names(result.ranking)[0], f"{first.model}, {first.image_size} px"),
        Fact("a probe on its features", *_accuracy(first.worth)),
        Fact("on random weights'", *_accuracy(first.random)),
        Fact(
            "images",
            f"{result.num_images:,}",
            f"of {result.num_available:,} for training, {len(result.classes)} classes",
        ),
    ]


def _accuracy(worth: Worth) -> tuple[str, str]:
    top1, low, high = (100 * share for share in accuracy(worth.probe.right).values())
    return f"{top1:.1f} %", f"{low:.1f} to {high:.1f} %, n = {len(worth.probe.right):,}"


def _notes(result: ScoreResult) -> list[str]:
    notes = ["Nothing was finetuned, and no validation or test image was looked at."]
    if result.ranking.verdict == "cannot tell":
        names = ", ".join(str(place.measured.path) for place in result.ranking.rivals)
        notes.append(f"Not to be told from the first: {names}. Finetune from each, or score with more labelled images.")
    return notes


def _against_random(ranking: Ranking) -> Picture:
    """By how much random weights err more, with its interval, the first on top."""
    places = list(reversed(ranking.places))
    figure, axes = blank(4.2, 0.9 + 0.34 * len(places))
    for row, place in enumerate(places):
        gain = place.over_random
        axes.plot([gain.low, gain.high], [row, row], color=COLOURS[0], linewidth=1.8)
        axes.plot([gain.mean], [row], color=COLOURS[0], marker="o", markersize=5)
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (3, 3)))
    names = _names(ranking)
    axes.set_yticks(range(len(places)), reversed(names))
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.set(xlabel="error of a probe, less than on random weights")
    gains = [place.over_random.mean for place in ranking.places]
    order = ", ".join(f"{name} {gain:+.3f}" for name, gain in zip(names, gains, strict=True))
    return picture(
        figure,
        f"Dot chart: by how much each checkpoint's probe errs less than that on random weights: {order}.",
        f"Right of the dashed line is better than random weights. Intervals of {100 * ranking.confidence:.1f} %.",
    )


def _names(ranking: Ranking) -> list[str]:
    """A short name of each: its run's where it lies in a run folder; where two are alike, what differs in the paths."""
    paths = [place.measured.path for place in ranking.places]
    runs = [path.parent.parent.name if path.parent.name == "checkpoints" else "" for path in paths]
    names = [run or path.name for run, path in zip(runs, paths, strict=True)]
    if len(set(names)) < len(names):
        parts = [list(path.parts) for path in paths]
        for place in (-1, 0):
            while len({one[place] for one in parts}) == 1 < min(map(len, parts)):
                parts = [one[:-1] if place else one[1:] for one in parts]
        names = ["/".join(one) for one in parts]
    half = _MAX_NAME // 2
    return [name if len(name) <= _MAX_NAME else f"{name[: half - 1]}…{name[-half:]}" for name in names]


def _table(ranking: Ranking) -> Table:
    rows = [_row(place) for place in ranking.places]
    zeros = {f"random weights, {one.model} at {one.image_size} px": one.random for one in _measured(ranking)}
    rows += [[name, *_scores(zero, Cell("–"), Cell("–"))] for name, zero in zeros.items()]
    columns = ["checkpoint", "error", "less than random", "more than first", "probe", "k-NN", "LogME", "H-score"]
    return Table(columns, rows, "Best first; each score on images left out of what it was fitted to.")


def _measured(ranking: Ranking) -> list[Measured]:
    return [place.measured for place in ranking.places]


def _row(place: Place) -> list[str | Cell]:
    behind = Cell("–") if place.behind is None else Cell(told(place.behind), place.behind.mean)
    over = Cell(told(place.over_random), place.over_random.mean)
    return [str(place.measured.path), *_scores(place.measured.worth, over, behind)]


def _scores(worth: Worth, over: Cell, behind: Cell) -> list[str | Cell]:
    neighbours = accuracy(worth.neighbours_right)["top1"]
    return [
        Cell(f"{worth.probe.error:.3f}", worth.probe.error),
        over,
        behind,
        Cell(f"{100 * worth.probe.top1:.1f} %", worth.probe.top1),
        Cell(f"{100 * neighbours:.1f} %", neighbours),
        Cell(f"{worth.logme:.3f}", worth.logme),
        Cell(f"{worth.h_score:.2f}", worth.h_score),
    ]


def _how_to_read(ranking: Ranking) -> Block:
    return Prose(
        "Error: squared error of a cross-validated linear probe on the features of all stages (after Evci et al. "
        "2022); it counts how sure an answer is, and ranks. Probe and k-NN: share of images named right, each left "
        "out. LogME (You et al. 2021) and the regularised H-score (Ibrahim et al. 2022), of the last features, are "
        f"higher for better ones. Differences have intervals of {100 * ranking.confidence:.1f} %; those of the first "
        "hold together in 95 of 100 cases.",
        soft=True,
    )
