"""How a target task is trained from source weights: the recipes a config can name, one file each, and their options.

Knows no torch.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ptft.config.base import Config, Names
from ptft.transfer.recipes.auto import Auto, RaceConfig
from ptft.transfer.recipes.base import OPTIONS, Recipe
from ptft.transfer.recipes.full import Full
from ptft.transfer.recipes.gradual import Gradual
from ptft.transfer.recipes.lp_ft import LpFt
from ptft.transfer.recipes.probe import Probe
from ptft.transfer.recipes.random_weights import RandomWeights
from ptft.transfer.recipes.sizes import LR_FACTORS, Budget, budget, lr_grid
from ptft.transfer.recipes.surgical import Surgical

__all__ = [
    "LR_FACTORS",
    "OPTIONS",
    "RECIPES",
    "Budget",
    "RaceConfig",
    "Recipe",
    "RecipeName",
    "TransferConfig",
    "budget",
    "lr_grid",
]

RecipeName = Literal["auto", "full", "probe", "lp-ft", "gradual", "surgical", "random"]

RECIPES: dict[RecipeName, type[Recipe]] = {
    "auto": Auto,
    "full": Full,
    "probe": Probe,
    "lp-ft": LpFt,
    "gradual": Gradual,
    "surgical": Surgical,
    "random": RandomWeights,
}


class TransferConfig(Config):
    """How source weights are taken over and trained."""

    from_: str | None = Field(None, alias="from", min_length=1)
    """Weights to start from, where the flag `--from` does not say it: a checkpoint or state dict (file), or
    `torchvision:WEIGHTS`, `timm:NAME`."""
    recipe: RecipeName = "auto"
    """What is trained; `ptft list recipes`. `auto` writes what it chose into the run's config.yaml."""
    race: RaceConfig = RaceConfig()
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
    optim.weight_decay, which stays on the head. With adamw and muon it is decoupled, as their decay is. Null is off."""
    bn: Literal["train", "frozen", "recalibrate"] = "train"
    """Statistics of the backbone's batch norms: moved by training, held as the source has them, or measured anew on
    the training images before the first step (Li et al. 2016, AdaBN) and then held."""
    interpolate: bool | Annotated[float, Field(gt=0, lt=1, examples=[0.5])] = False
    """WiSE-FT (Wortsman et al. 2022): at the end, weights between start and end. A number is the share of the end;
    true chooses it on validation. Needs a start whose head means something: recipe lp-ft, or the source's own
    classes."""
    co_tuning: Annotated[float, Field(gt=0, examples=[2.3])] | None = None
    """λ of Co-Tuning (You et al. 2020): the source's head is kept and trained, too, to name the source classes that
    each target class's training images looked like before the first step; λ times its loss is added. Null is off."""
    soup: Annotated[int, Field(ge=2, examples=[3])] | None = None
    """Greedy soup (Wortsman et al. 2022): finetunes with this many seeds, one after the other, and averages the weights
    of those that validation gains from; batch-norm statistics are measured anew. Needs the start of `interpolate`."""
    dropout: Annotated[float, Field(ge=0, lt=1, examples=[0.2])] | None = None
    """Probability of zeroing a feature before the head while finetuning. Default: the model's own."""
    drop_path: Annotated[float, Field(ge=0, lt=1, examples=[0.1])] | None = None
    """Stochastic depth (Huang et al. 2016) while finetuning: probability of leaving out the last residual block, less
    towards the stem. Default: the model's own. For small-resnet, ConvNeXt and EfficientNet."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.recipe == "surgical" and self.stages is None:
            raise ValueError("recipe surgical needs `stages`, for example [stage1]; `ptft inspect` lists a model's.")
        if self.recipe != "surgical" and self.stages is not None:
            raise ValueError("`stages` belongs to recipe surgical; leave it out.")
        recipe = RECIPES[self.recipe]
        if given := self.given(recipe.refused):
            raise ValueError(f"`{given[0]}` has no meaning for recipe {self.recipe}, which {recipe.reason}.")
        return self

    def given(self, names: Sequence[str] = OPTIONS) -> list[str]:
        """Those of these options that are not at their default."""
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    def admits(self, recipe: RecipeName) -> bool:
        """Whether the options have a meaning for a recipe."""
        return not self.given(RECIPES[recipe].refused)

    def build(self) -> Recipe:
        """The recipe by its name."""
        return RECIPES[self.recipe].of(self.stages or ())
