"""Greedy soup: the mean of the weights of several seeds, as far as validation gains from it."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ptft import checkpoint
from ptft.checkpoint import Checkpoint
from ptft.report.console import Console
from ptft.run.assembly import Prepared
from ptft.run_folder import RunFolder
from ptft.settings import FinetuneConfig
from ptft.train.metrics import TaskScores
from ptft.train.saver import replace_best
from ptft.transfer.statistics import measure_statistics


def cook(
    prepared: Prepared,
    folder: RunFolder,
    finetuned: Callable[[FinetuneConfig, RunFolder], None],
    score: Callable[[], TaskScores],
    console: Console,
    check_stop: Callable[[], None],
) -> None:
    """Makes a soup of several seeds the run's `best.pt`, where the config asks for one.

    Wortsman et al. 2022, "Model soups", recipe 1: from the best on validation down, an ingredient stays in where
    validation says that the mean is no worse with it. Batch-norm statistics are no weights, so they are measured anew
    for each mean (as Izmailov et al. 2018 do for SWA, section 3.2); those that are held are all the same and stay.

    Args:
        prepared: after training, which made the first ingredient; its classifier's weights are overwritten.
        folder: of the run; the other ingredients are runs in its `soup/`. A `best.pt` that is a soup is left alone.
        finetuned: runs a config in a folder, or goes on with it.
        score: of the classifier of `prepared` on validation.
        console: told what went in.
        check_stop: raises when a signal asked to stop.
    """
    config = prepared.config
    if not isinstance(config, FinetuneConfig) or config.transfer.soup is None:
        return
    own = checkpoint.read(folder.best)
    if own.metadata.souped:
        return
    found = {config.seed: own}
    alone = config.transfer.model_copy(update={"soup": None})
    for seed in range(config.seed + 1, config.seed + config.transfer.soup):
        console.say(f"soup: finetuning with seed {seed}.")
        part = RunFolder(folder.path / "soup" / f"seed-{seed}")
        finetuned(config.model_copy(update={"seed": seed, "transfer": alone}), part)
        found[seed] = checkpoint.read(part.best)
    taste = _Taste(prepared, score, check_stop)
    kept, scores, alone_scores = choose(found, lambda seeds: taste([found[seed] for seed in seeds]))
    told = ", ".join(f"seed {seed}: {one.short()}" for seed, one in alone_scores.items())
    console.say(
        f"soup: {len(kept)} of {len(found)} went in (seed {', '.join(map(str, kept))}): {scores.short()} on "
        f"validation; alone {told}."
    )
    taste([found[seed] for seed in kept])
    replace_best(folder, own, prepared.classifier, scores, {"souped": tuple(kept), "interpolated": None})


def choose(
    seeds: Iterable[int], score: Callable[[Sequence[int]], TaskScores]
) -> tuple[list[int], TaskScores, dict[int, TaskScores]]:
    """The greedy choice.

    Args:
        seeds: of the ingredients.
        score: of the mean of some of them.

    Returns:
        The seeds that went in, the best first; the score of their mean; and that of each seed alone.
    """
    alone = {seed: score([seed]) for seed in seeds}
    ranked = sorted(alone, key=lambda seed: (-alone[seed].merit, alone[seed].loss))
    kept, best = ranked[:1], alone[ranked[0]]
    for seed in ranked[1:]:
        mixed = score([*kept, seed])
        if mixed.merit >= best.merit:
            kept, best = [*kept, seed], mixed
    return kept, best, alone


class _Taste:
    """Puts the mean of ingredients into the classifier of a run and scores it.

    Args:
        prepared: of the run.
        score: of its classifier.
        check_stop: raises when a signal asked to stop.
    """

    def __init__(self, prepared: Prepared, score: Callable[[], TaskScores], check_stop: Callable[[], None]) -> None:
        self._prepared = prepared
        self._score = score
        self._check_stop = check_stop

    def __call__(self, ingredients: Sequence[Checkpoint]) -> TaskScores:
        prepared = self._prepared
        with torch.no_grad():
            mean = mean_of([ingredient.weights() for ingredient in ingredients])
            for name, tensor in prepared.classifier.state_dict().items():
                tensor.copy_(mean[name])
        if norms := self._moved_norms(ingredients):
            task, device = prepared.task, prepared.device
            measure_statistics(prepared.classifier, task.train, task.format, device, self._check_stop, norms)
        return self._score()

    def _moved_norms(self, ingredients: Sequence[Checkpoint]) -> list[_BatchNorm]:
        """Batch norms whose statistics training has moved: not those of stages that stayed frozen, nor any held."""
        config = self._prepared.config
        if not (isinstance(config, FinetuneConfig) and config.transfer.bn == "train"):
            return []
        first, *others = (ingredient.weights() for ingredient in ingredients)
        return [
            part
            for name, part in self._prepared.classifier.named_modules()
            if isinstance(part, _BatchNorm) and name.startswith("backbone.")
            if any(not torch.equal(other[f"{name}.running_var"], first[f"{name}.running_var"]) for other in others)
        ]


def mean_of(weights: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of tensors of the same names, in float64; one alone is itself to the bit, and so are counters."""
    first = weights[0]
    if len(weights) == 1:
        return dict(first)
    return {
        name: torch.stack([one[name].double() for one in weights]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }
