"""Who races: recipes, each at a few learning rates."""

from dataclasses import dataclass

from ptft.settings import FinetuneConfig
from ptft.train.optim import Optim
from ptft.transfer.recipes import LR_FACTORS, RecipeName, lr_grid

_BOLD = 1.0
"""Times the optimizer's usual learning rate: far from the source its weights bear what random weights want."""

_CALM = 0.1
"""For LP-FT, whose head is solved already, the only one, as races cost; for random weights on few images."""


@dataclass(frozen=True)
class Racer:
    """One way to train.

    Attributes:
        recipe: probe, full, lp-ft or random.
        lr: peak learning rate; None for the probe, which takes none.
    """

    recipe: RecipeName
    lr: float | None = None

    @property
    def name(self) -> str:
        """For tables."""
        words = "random weights" if self.recipe == "random" else self.recipe
        return words if self.lr is None else f"{words}, lr {self.lr:g}"


PROBE = Racer("probe")


def racers_of(config: FinetuneConfig, *, has_own_head: bool) -> list[Racer]:
    """All that the config's options admit, the recipes that matter most first.

    Args:
        config: as the user gave it; a learning rate in it is the only one that is tried.
        has_own_head: whether the source's head is one for the very classes of the target.
    """
    transfer, optim = config.transfer, config.optim
    source = LR_FACTORS["source"]
    racers = [
        *_at(optim, "full", (*source, _BOLD)),
        *_at(optim, "lp-ft", (_CALM,)),
        *_at(optim, "random", (_CALM, *LR_FACTORS["random"])),
        PROBE,
    ]
    if transfer.given(("interpolate", "soup")) and not has_own_head:
        return [racer for racer in racers if racer.recipe == "lp-ft"]
    if not transfer.race.random_weights:
        racers = [racer for racer in racers if racer.recipe != "random"]
    return [racer for racer in racers if transfer.admits(racer.recipe)]


def _at(optim: Optim, recipe: RecipeName, factors: tuple[float, ...]) -> list[Racer]:
    return [Racer(recipe, lr) for lr in ((optim.lr,) if optim.lr else lr_grid(factors, optim.usual_lr))]


def decided(config: FinetuneConfig, racer: Racer) -> FinetuneConfig:
    """The config with a racer's recipe and learning rate written out; random weights train alike in every layer."""
    alike = {"layer_decay": 1.0, "head_lr": 1.0} if racer.recipe == "random" else {}
    transfer = config.transfer.model_copy(update={"recipe": racer.recipe, **alike})
    optim = config.optim if racer.lr is None else config.optim.model_copy(update={"lr": racer.lr})
    return config.model_copy(update={"transfer": transfer, "optim": optim})
