"""WiSE-FT: weights between those that finetuning began with and those it ended with."""

from collections.abc import Callable

import torch

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

SHARES = tuple(place / 10 for place in range(11))
"""Of the end weights."""


def interpolate(
    prepared: Prepared, folder: RunFolder, score: Callable[[Classifier], TaskScores], console: Console, ranks: Ranks
) -> None:
    """Makes the best weights between start and end the run's `best.pt`, where the config asks for it.

    Weights are (1 - share) * start + share * end, batch-norm statistics too (Wortsman et al. 2022, "Robust fine-tuning
    of zero-shot models", eq. 1, their α); the end is the best checkpoint so far. The share is the best on validation,
    by its merit (accuracy, mAP or R²), then by loss; 1 is among them, so validation never says that it is worse.

    Args:
        prepared: after training; its classifier's weights are overwritten.
        folder: of the run; a `best.pt` that is an interpolation already is left alone.
        score: on validation.
        console: told the share.
        ranks: of which the first one writes.
    """
    config = prepared.config
    if not isinstance(config, FinetuneConfig) or not config.transfer.interpolate:
        return
    end = checkpoint.on_every_rank(ranks, lambda: checkpoint.read(folder.best))
    if end.metadata.interpolated is not None:
        return
    found = {share: _score(prepared, end, share, score) for share in SHARES}
    share = max(SHARES, key=lambda share: (found[share].merit, -found[share].loss, share))
    told = ", ".join(f"{one:.1f}: {found[one].short()}" for one in SHARES)
    console.say(f"interpolate: {share:.1f} of the way from start to end is best on validation ({told}).")
    _load(prepared, end, share)
    if ranks.is_first:
        replace_best(folder, end, prepared.classifier, found[share], {"interpolated": share})


def _score(prepared: Prepared, end: Checkpoint, share: float, score: Callable[[Classifier], TaskScores]) -> TaskScores:
    _load(prepared, end, share)
    return score(prepared.classifier)


@torch.no_grad()
def _load(prepared: Prepared, end: Checkpoint, share: float) -> None:
    """Counters are the end's; share 1 is the end to the bit."""
    last = end.weights()
    for name, tensor in prepared.classifier.state_dict().items():
        tensor.copy_(last[name])
        if tensor.is_floating_point() and share < 1:
            tensor.lerp_(prepared.state.start[name], 1 - share)
