"""How a target task is trained from source weights: the recipes a config can name, one file each, and their options.

Knows no torch.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ptft.config.base import Config, Names
from ptft.transfer.recipes.base import Recipe
from ptft.transfer.recipes.full import Full
from ptft.transfer.recipes.gradual import Gradual
from ptft.transfer.recipes.lp_ft import LpFt
from ptft.transfer.recipes.probe import Probe
from ptft.transfer.recipes.sizes import Budget, budget
from ptft.transfer.recipes.surgical import Surgical

__all__ = ["RECIPES", "Budget", "Recipe", "TransferConfig", "budget"]

RecipeName = Literal["auto", "full", "probe", "lp-ft", "gradual", "surgical"]

RECIPES: dict[str, str] = {
    "auto": "At present another name for `full`, whatever the data. The default.",
    "full": "All weights are trained.",
    "probe": "The backbone stays as it is; the head is solved on its features, computed once: seconds.",
    "lp-ft": "The head is solved as by `probe`, then all weights are trained from there.",
    "gradual": "Stages are unfrozen from head to stem, in phases of equal length.",
    "surgical": "Only the stages named by transfer.stages, and the head, are trained.",
}

_OPTIONS = ("layer_decay", "head_lr", "l2_sp", "bn", "interpolate")


class TransferConfig(Config):
    """How source weights are taken over and trained."""

    from_: str | None = Field(None, alias="from", min_length=1)
    """Weights to start from, where the flag `--from` does not say it: a checkpoint or state dict (file), or
    `torchvision:WEIGHTS`, `timm:NAME`."""
    recipe: RecipeName = "auto"
    """What is trained; `ptft list recipes`."""
    min_loaded: float = Field(0.95, ge=0, le=1)
    """Smallest share of the backbone's weights that must come from the source; less is an error, exit code 4."""
    stages: Names | None = None
    """The stages that `surgical` trains, by name; `ptft inspect` lists those of a checkpoint. An empty list trains the
    head alone."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate from each stage to the one before it, away from the head (Howard & Ruder 2018,
    section 3.1; Clark et al. 2020). 1 is off."""
    head_lr: float = Field(1.0, gt=0)
    """Factor on the head's learning rate."""
    l2_sp: Annotated[float, Field(ge=0, examples=[0.01])] | None = None
    """α of L2-SP (Li et al. 2018): α/2 · ‖w − w₀‖² draws the backbone towards its start weights w₀, in place of
    optim.weight_decay, which stays on the head. Null is off."""
    bn: Literal["train", "frozen", "recalibrate"] = "train"
    """Statistics of the backbone's batch norms: moved by training, held as the source has them, or measured anew on
    the training images before the first step (Li et al. 2016, AdaBN) and then held."""
    interpolate: bool = False
    """WiSE-FT (Wortsman et al. 2022): at the end, weights between start and end, the share chosen on validation. Needs
    a start whose head means something: recipe lp-ft, or the source's own classes."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.recipe == "surgical" and self.stages is None:
            raise ValueError("recipe surgical needs `stages`, for example [stage1]; `ptft inspect` lists a model's.")
        if self.recipe != "surgical" and self.stages is not None:
            raise ValueError("`stages` belongs to recipe surgical; leave it out.")
        if self.recipe == "probe":
            self._refuse_options()
        return self

    def _refuse_options(self) -> None:
        for name in _OPTIONS:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` has no meaning for recipe probe, which leaves the backbone alone.")

    def build(self) -> Recipe:
        """The recipe by its name."""
        recipes: dict[RecipeName, Recipe] = {
            "auto": Full(),
            "full": Full(),
            "probe": Probe(),
            "lp-ft": LpFt(),
            "gradual": Gradual(),
            "surgical": Surgical(self.stages or ()),
        }
        return recipes[self.recipe]
