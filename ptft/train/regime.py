"""Which parts of a network a step trains, and how fast: a recipe applied to the stages of a backbone."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.nn.modules.batchnorm import _BatchNorm

from ptft.errors import UsageError
from ptft.models.classifier import Classifier
from ptft.train.optim import Group
from ptft.transfer.recipes import Recipe, TransferConfig
from ptft.transfer.stages import Stage, stages_of

HEAD = "head"


@dataclass(frozen=True)
class Regime:
    """A function of the step alone.

    Attributes:
        recipe: which stages, when.
        stages: of the backbone in training.
        num_steps: of the run.
        layer_decay: factor on the learning rate from each stage to the one before it.
        head_lr: factor on the head's.
        holds_statistics: the statistics of no batch norm move, not even of a stage that is trained.
        l2_sp: α of L2-SP; the backbone then has no weight decay. None is off.
    """

    recipe: Recipe
    stages: Sequence[Stage]
    num_steps: int
    layer_decay: float = 1.0
    head_lr: float = 1.0
    holds_statistics: bool = False
    l2_sp: float | None = None

    @classmethod
    def of(cls, config: TransferConfig, model: Classifier, num_steps: int) -> "Regime":
        """The regime that a config asks for.

        Raises:
            UsageError: transfer.stages names one that the backbone does not have.
        """
        stages = stages_of(model.backbone)
        names = [stage.name for stage in stages]
        unknown = [name for name in config.stages or () if name not in names]
        if unknown:
            known = ", ".join(names)
            raise UsageError(f"transfer.stages: the model has no stage {unknown[0]!r}. From stem to head: {known}.")
        holds = config.bn != "train"
        return cls(config.build(), stages, num_steps, config.layer_decay, config.head_lr, holds, config.l2_sp)

    def groups(self, model: Classifier) -> list[Group]:
        """What the optimizer gets: each stage that is ever trained, and the head."""
        ever = self.recipe.trained(self._names, 1.0)
        decays = self.l2_sp is None
        stages = [Group(stage.name, [*stage.parameters()], decays) for stage in self.stages if stage.name in ever]
        return [*stages, Group(HEAD, [*model.head.parameters()])]

    def set(self, model: Classifier, step: int) -> None:
        """Freezes and thaws for the step counted from 0; the model is in training mode, or put into it."""
        model.train()
        trained = self.recipe.trained(self._names, step / self.num_steps)
        if not trained:
            model.backbone.eval()
        for stage in self.stages:
            is_trained = stage.name in trained
            for module in stage.modules:
                module.train(is_trained).requires_grad_(is_trained)
        for part in model.backbone.modules() if self.holds_statistics else ():
            if isinstance(part, _BatchNorm):
                part.eval()

    def factor(self, name: str, step: int) -> float:
        """Factor on the learning rate of the group of this name."""
        if name == HEAD:
            return self.head_lr
        names = self._names
        decay = self.layer_decay ** (len(names) - names.index(name))
        return decay * self.recipe.factor(names, name, step / self.num_steps)

    @property
    def _names(self) -> list[str]:
        return [stage.name for stage in self.stages]
