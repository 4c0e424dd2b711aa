"""Who races: recipes, each at a few learning rates."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from ptft.settings import FinetuneConfig
from ptft.train.optim import Optim
from ptft.transfer.recipes import LR_FACTORS, RecipeName, lr_grid

_BOLD = 1.0
"""Times the optimizer's usual learning rate: far from the source its weights bear what random weights want."""

HALF = 0.5
"""The share that Wortsman et al. 2022 recommend where nothing is known to choose it by."""

_CALM = 0.1
"""For LP-FT, whose head is solved already, the only one, as races cost; for random weights on few images."""
_BRISK = 0.3
"""For LP-FT in place of the calm one where labels are many: a calm one is as good after a short race, but not at the
end of a long run (900 labels a class, halves of CIFAR-10: 88.8 % at 0.01, 89.7 at 0.03, 90.2 at 0.1; two draws)."""


@dataclass(frozen=True)
class Racer:
    """One way to train.

    Attributes:
        recipe: probe, full, lp-ft or random.
        lr: peak learning rate; None for the probe, which takes none.
        share: of the end weights; below 1 the weights are drawn back to those that training began with.
    """

    recipe: RecipeName
    lr: float | None = None
    share: float = 1.0

    @property
    def name(self) -> str:
        """For tables."""
        words = "random weights" if self.recipe == "random" else self.recipe
        lr = "" if self.lr is None else f", lr {self.lr:g}"
        return f"{words}{lr}" + (f", interpolate {self.share:g}" if self.share < 1 else "")

    @property
    def runner(self) -> "Racer":
        """Who takes the steps, the same for racers that differ in their share alone."""
        return replace(self, share=1.0)


PROBE = Racer("probe")


def racers_of(config: FinetuneConfig, *, has_own_head: bool, has_many_labels: bool = False) -> list[Racer]:
    """All that the config's options admit, the recipes that matter most first.

    Args:
        config: as the user gave it; a learning rate in it is the only one that is tried.
        has_own_head: whether the source's head is one for the very classes of the target.
        has_many_labels: whether each class has more than two hundred, on average.
    """
    transfer, optim = config.transfer, config.optim
    given = transfer.interpolate if isinstance(transfer.interpolate, float) else 1.0
    shares = (given,) if transfer.given(("interpolate", "soup")) else (1.0, HALF)
    source, lp_ft = LR_FACTORS["source"], (_BRISK if has_many_labels else _CALM,)
    racers = [
        *(replace(racer, share=given) for racer in _at(optim, "full", (*source, _BOLD))),
        *(replace(racer, share=share) for racer in _at(optim, "lp-ft", lp_ft) for share in shares),
        *_at(optim, "random", (_CALM, *LR_FACTORS["random"])),
        PROBE,
    ]
    if transfer.given(("interpolate", "soup")) and not has_own_head:
        return [racer for racer in racers if racer.recipe == "lp-ft"]
    if not transfer.race.random_weights:
        racers = [racer for racer in racers if racer.recipe != "random"]
    return [racer for racer in racers if transfer.admits(racer.recipe)]


def count_runners(racers: Collection[Racer]) -> Counter[RecipeName]:
    """How many of each recipe take steps; the probe takes none."""
    return Counter(runner.recipe for runner in {racer.runner for racer in racers} if runner.lr is not None)


def _at(optim: Optim, recipe: RecipeName, factors: tuple[float, ...]) -> list[Racer]:
    return [Racer(recipe, lr) for lr in ((optim.lr,) if optim.lr else lr_grid(factors, optim.usual_lr))]


def decided(config: FinetuneConfig, racer: Racer) -> FinetuneConfig:
    """The config with all that makes a racer written out; random weights train alike in every layer."""
    alike = {"layer_decay": 1.0, "head_lr": 1.0} if racer.recipe == "random" else {}
    drawn = {"interpolate": racer.share} if racer.share < 1 else {}
    transfer = config.transfer.model_copy(update={"recipe": racer.recipe, **alike, **drawn})
    optim = config.optim if racer.lr is None else config.optim.model_copy(update={"lr": racer.lr})
    return config.model_copy(update={"transfer": transfer, "optim": optim})


def as_decided(given: FinetuneConfig, stored: FinetuneConfig) -> FinetuneConfig:
    """A config that leaves the recipe to auto, with what auto wrote into a run's own; any other config as it is.

    Args:
        given: as loaded now.
        stored: of the run, resolved.
    """
    now, then = given.transfer, stored.transfer
    if now.recipe != "auto" or then.recipe == "auto":
        return given
    is_drawn_back = now.interpolate is False and then.interpolate == HALF
    return decided(given, Racer(then.recipe, share=HALF if is_drawn_back else 1.0))
