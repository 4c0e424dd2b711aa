"""WiSE-FT: weights between those that finetuning began with and those it ended with, as the result of a run."""

from collections.abc import Callable

from ptft import checkpoint
from ptft.checkpoint import Checkpoint
from ptft.distributed.ranks import Ranks
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.run.assembly import Prepared
from ptft.run_folder import RunFolder
from ptft.settings import FinetuneConfig
from ptft.train.metrics import TaskScores
from ptft.train.saver import replace_best
from ptft.transfer.interpolation import draw_back

SHARES = tuple(place / 10 for place in range(11))
"""Of the end weights."""


def interpolate(
    prepared: Prepared,
    folder: RunFolder,
    score: Callable[[Classifier], TaskScores] | None,
    console: Console,
    ranks: Ranks,
) -> None:
    """Makes weights between start and end the run's `best.pt`, where the config asks for it; see `draw_back`.

    The end is the best checkpoint so far, the last where there is no validation to tell. A share that is left to
    validation is the best by its merit (accuracy, mAP or R²), then by loss; 1 is among them, so validation never says
    that it is worse.

    Args:
        prepared: after training; its classifier's weights are overwritten.
        folder: of the run; a best checkpoint that is an interpolation already is left alone.
        score: on validation; None where there is none, then the config gives the share.
        console: told the share.
        ranks: of which the first one writes.
    """
    config = prepared.config
    if not isinstance(config, FinetuneConfig) or not config.transfer.interpolate:
        return
    end = checkpoint.on_every_rank(ranks, lambda: checkpoint.read(folder.best if score else folder.last))
    if end.metadata.interpolated is not None or end.metadata.souped:
        return
    shares = SHARES if config.transfer.interpolate is True else (config.transfer.interpolate,)
    found = {share: _score(prepared, end, share, score) for share in shares}
    share = max(shares, key=lambda share: (_rank(found[share]), share))
    console.say(_sentence(found, share))
    _load(prepared, end, share)
    if ranks.is_first:
        replace_best(folder, end, prepared.classifier, found[share], {"interpolated": share})


def _rank(scores: TaskScores | None) -> tuple[float, float]:
    return (scores.merit, -scores.loss) if scores else (0.0, 0.0)


def _sentence(found: dict[float, TaskScores | None], share: float) -> str:
    if len(found) > 1:
        told = ", ".join(f"{one:.1f}: {scores.short()}" for one, scores in found.items() if scores)
        return f"interpolate: {share:.1f} of the way from start to end is best on validation ({told})."
    scores = found[share]
    told = f", on validation {scores.short()}" if scores else ""
    return f"interpolate: the result lies {share:g} of the way from start to end{told}."


def _score(
    prepared: Prepared, end: Checkpoint, share: float, score: Callable[[Classifier], TaskScores] | None
) -> TaskScores | None:
    _load(prepared, end, share)
    return score(prepared.classifier) if score else None


def _load(prepared: Prepared, end: Checkpoint, share: float) -> None:
    prepared.classifier.load_state_dict(end.weights())
    draw_back(prepared.classifier, prepared.state.start, share)
