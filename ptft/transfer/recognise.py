"""Which of our models a set of foreign tensors belongs to, by their names and shapes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, get_args

from torch import Tensor

from ptft.errors import TransferError
from ptft.models import Model, SmallCnn, SmallResnet, SmallVgg, TorchvisionCnn
from ptft.models.outline import outline
from ptft.models.small import usual_filters
from ptft.models.zoo import TorchvisionName
from ptft.models.zoo_families import family_of
from ptft.transfer.adapt import is_same_numbers, stem_of
from ptft.transfer.layouts import LAYOUTS, Layout
from ptft.transfer.names import unwrap
from ptft.transfer.report import shape

# Where a file holds two networks of one kind, the one its own tool evaluates: MoCo's query, BYOL's online encoder.
_PREFERRED = ("encoder_q", "base_encoder", "online_encoder", "online", "teacher", "ema_model", "ema", "student")
_COUNTER = "num_batches_tracked"
_LISTED = 4


@dataclass(frozen=True)
class Fit:
    """Foreign tensors under the names of one of our models.

    Attributes:
        model: the architecture.
        in_channels: that the source's first convolution takes.
        layout: whose names the source has.
        root: the prefix taken off, with its dot; empty for none.
        stripped: wrapper words taken out of the names.
        tensors: `backbone.*` and `head.*` by our names, whatever else by the source's.
        missing: names of the model's backbone that the source lacks or has in another shape, with the reason.
        strangers: tensors of the source inside the model's modules that the model does not have: a sign of another
            network, not of a leftover such as a projection head.
        num_expected: tensors of the model's backbone, statistics included.
    """

    model: Model
    in_channels: int
    layout: Layout
    root: str
    stripped: tuple[str, ...]
    tensors: Mapping[str, Tensor] = field(repr=False)
    missing: Mapping[str, str] = field(repr=False)
    strangers: tuple[str, ...] = ()
    num_expected: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the backbone is there, and nothing that speaks against the model.

        Counters of batches may be missing (before PyTorch 0.4.1). Batch-norm statistics may not: without them the
        network has another kind of norm under the same names.
        """
        return not self.strangers and all(name.endswith(_COUNTER) for name in self.missing)

    @property
    def misfits_in_stem_alone(self) -> bool:
        """Whether only the first convolution is of another shape."""
        stem = stem_of(_outlined(self.model.model_copy(update={"in_channels": None}), self.in_channels).backbone)
        wrong = [name for name in self.missing if not name.endswith(_COUNTER)]
        return wrong == [stem] and self.missing[stem] != "missing" and not self.strangers

    def sentence(self) -> str:
        """What the source was recognised as."""
        found = self.num_expected - len(self.missing)
        prefixes = [*self.stripped, *([root] if (root := self.root.removesuffix("backbone.")) else [])]
        names = "" if self.layout.title in ("torchvision", "ptft") else f" in the names of {self.layout.title}"
        return (
            f"recognised as {describe_model(self.model)}{names}, {found} tensors of the "
            f"backbone's {self.num_expected}, {self.in_channels} input channels"
            + (f"; took the wrapper prefix {' and '.join(prefixes)} off its names" if prefixes else "")
            + (f"; {self.layout.caution}" if self.layout.caution else ".")
        )


@dataclass(frozen=True)
class _View:
    """The source's tensors below one prefix, in the names that one layout gives them."""

    layout: Layout
    root: str
    stripped: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]


def describe_model(model: Model) -> str:
    """A model in words, with what its config sets."""
    fields = model.model_dump(exclude_unset=True, exclude={"name", "in_channels"})
    more = f" with {', '.join(f'{key}: {str(value).lower()}' for key, value in fields.items())}" if fields else ""
    return f"{model.name}{' of torchvision' if isinstance(model, TorchvisionCnn) else ''}{more}"


def recognise(weights: Mapping[str, Tensor], where: str) -> Fit:
    """The model that the tensors fit wholly.

    Args:
        weights: by the source's names.
        where: how messages name the source.

    Raises:
        TransferError: they fit no model, the nearest is told; or they hold two networks that fit equally.
    """
    fits = [fit for view in _views(weights) for fit in _fits(view)]
    if not (whole := [fit for fit in fits if fit.is_whole]):
        raise TransferError(_unknown(where, list(weights), fits))
    ranks = [_rank(fit.root) for fit in whole]
    best = [fit for fit, rank in zip(whole, ranks, strict=True) if rank == min(ranks)]
    if len({(fit.root, describe_model(fit.model)) for fit in best}) == 1:  # the same network in two tools' names
        best = [max(best, key=lambda fit: "head.weight" in fit.tensors)]
    if len(best) > 1:
        told = ", ".join(f"{fit.root or 'no prefix'} ({describe_model(fit.model)})" for fit in best)
        raise TransferError(
            f"{where} holds several networks that could be meant, by their prefix: {told}. "
            "Save the state dict of the one you want by itself."
        )
    return best[0]


def fit_to(model: Model, weights: Mapping[str, Tensor]) -> Fit:
    """The tensors under the names of a model that was told, whether they fit wholly or not."""
    views = list(_views(weights)) or [_View(Layout("an unknown tool", ()), "", (), weights, {})]
    fits = [_fit(view, model) for view in views]
    return min(fits, key=lambda fit: (not fit.is_whole, len(fit.missing), _rank(fit.root)))


def _views(weights: Mapping[str, Tensor]) -> Iterator[_View]:
    """Every prefix at which the first convolution of some network stands, in every layout that changes names."""
    plain, stripped = unwrap(weights)
    for layout in LAYOUTS:
        seen: set[str] = set()
        for name in plain:
            for anchor in layout.anchors:
                root = name.removesuffix(anchor)
                if root == name or root in seen or (root and not root.endswith(".")):
                    continue
                seen.add(root)
                below = {key: tensor for key, tensor in plain.items() if key.startswith(root)}
                renamed = {layout.rename(key.removeprefix(root)): tensor for key, tensor in below.items()}
                if layout.rules and renamed.keys() == {key.removeprefix(root) for key in below}:
                    continue
                rest = {key: tensor for key, tensor in plain.items() if key not in below}
                yield _View(layout, root, tuple(stripped), renamed, rest)


def _fits(view: _View) -> Iterator[Fit]:
    for model in _candidates(view):
        fit = _fit(view, model)
        yield fit
        if fit.is_whole:
            return


def _candidates(view: _View) -> Iterator[Model]:
    """Models whose first convolution is there and whose size is near, the nearest first."""
    if (conv := view.tensors.get("stage1.conv.weight")) is not None and 4 <= conv.shape[0] <= 512:
        yield SmallCnn(name="small-cnn", width=conv.shape[0])
    if (conv := view.tensors.get("stem.conv.weight")) is not None and 4 <= conv.shape[0] <= 512:
        yield SmallResnet(name="small-resnet", width=conv.shape[0])
    stem, conv = view.tensors.get("stem.weight"), view.tensors.get("stage1.0.conv.weight")
    if stem is not None and conv is not None and stem.ndim == conv.ndim == 4 and 4 <= conv.shape[0] <= 512:
        usual = SmallVgg(name="small-vgg", width=conv.shape[0])
        is_usual = conv.shape[1] == usual_filters(stem.shape[1]) or conv.shape[1] > 4096
        yield usual if is_usual else SmallVgg(name="small-vgg", width=conv.shape[0], filters=conv.shape[1])
    size = sum(tensor.numel() for tensor in view.tensors.values()) / 1e6
    near: list[tuple[float, str]] = []
    for name in get_args(TorchvisionName):
        family = family_of(name)
        conv = view.tensors.get(f"{family.first_conv}.weight")
        millions = family.nets[name][1]
        # The head of 1000 classes is up to three quarters of a network; leftovers such as a projection may add.
        is_covered = not view.layout.only or name in view.layout.only
        if is_covered and conv is not None and conv.ndim == 4 and millions / 5 <= size <= millions * 2.5:
            near.append((abs(size - millions), name))
    for _, name in sorted(near):
        yield _with_stem(name, view.tensors[f"{family_of(name).first_conv}.weight"])


def _with_stem(name: str, conv: Tensor) -> Model:
    """The model by that name whose first convolution has this kernel; the usual one where the kernel is neither's."""
    fields: dict[str, Any] = {"name": name}
    stem = family_of(name).small_stem
    usual = _outlined(_torchvision(fields), 3).backbone.get_submodule(family_of(name).first_conv).weight
    if stem and conv.shape[2:] != usual.shape[2:] and conv.shape[2] == stem.kernel_size:
        fields["small_stem"] = True
    return _torchvision(fields)


def _torchvision(fields: dict[str, Any]) -> TorchvisionCnn:
    return TorchvisionCnn.model_validate(fields)


@lru_cache(maxsize=32)
def _outlined(model: Model, in_channels: int) -> Any:
    return outline(model, 2, in_channels)


def _fit(view: _View, model: Model) -> Fit:
    """The view's tensors under the names of a model; small differences of the first convolution are no misfit."""
    in_channels = _in_channels(view, model)
    classifier = _outlined(model.model_copy(update={"in_channels": None}), in_channels)
    expected: Mapping[str, Tensor] = classifier.backbone.state_dict()
    missing = {
        name: "missing" if found is None else f"{shape(found)}, not {shape(wanted)}"
        for name, wanted in expected.items()
        if (found := view.tensors.get(name)) is None
        or (found.shape != wanted.shape and not is_same_numbers(found, wanted))
    }
    head, modules = _head_name(model), {name for name, _ in classifier.backbone.named_modules()}
    tensors: dict[str, Tensor] = {}
    strangers: list[str] = []
    for name, tensor in view.tensors.items():
        ours = _our_name(name, expected, head)
        tensors[ours or view.root + name] = tensor
        if not ours and name.partition(".")[0] in modules and not name.startswith(f"{head}."):
            strangers.append(name)
    # The head of a ptft classifier stands beside its backbone, below the same wrapper.
    outside = view.root.removesuffix("backbone.")
    is_ours = outside != view.root
    beside = {name.removeprefix(outside) if is_ours else name: tensor for name, tensor in view.rest.items()}
    return Fit(
        model=model,
        in_channels=in_channels,
        layout=view.layout,
        root=view.root,
        stripped=view.stripped,
        tensors=tensors | beside,
        missing=missing,
        strangers=tuple(strangers),
        num_expected=len(expected),
    )


def _our_name(name: str, backbone: Mapping[str, Tensor], head: str) -> str:
    """The name in a ptft classifier; empty for a tensor that has no place there."""
    if name in backbone:
        return f"backbone.{name}"
    return f"head.{name.rpartition('.')[2]}" if name in (f"{head}.weight", f"{head}.bias") else ""


def _in_channels(view: _View, model: Model) -> int:
    conv = view.tensors.get(stem_of(_outlined(model.model_copy(update={"in_channels": None}), 3).backbone))
    return conv.shape[1] if conv is not None and conv.ndim == 4 else 3


def _head_name(model: Model) -> str:
    return family_of(model.name).last_layer if isinstance(model, TorchvisionCnn) else "head"


def _rank(root: str) -> int:
    words = root.split(".")
    return next((rank for rank, word in enumerate(_PREFERRED) if word in words), len(_PREFERRED) * bool(root))


def _unknown(where: str, names: Sequence[str], fits: Sequence[Fit]) -> str:
    """Why nothing fits, with the nearest models and what speaks against each."""
    start = f"{where}: its tensors ({len(names)}) fit no model of ptft"
    if not fits:
        first = ", ".join(names[:_LISTED])
        return (
            f"{start}, which are CNNs by torchvision's names and our own (`ptft list models`). It begins with {first}."
        )
    nearest = sorted(fits, key=lambda fit: (len(fit.missing) + len(fit.strangers)) / max(fit.num_expected, 1))[:3]
    advice = "Name the model it was with `model:`, if it is one."
    if nearest[0].misfits_in_stem_alone:
        advice = f"Write model.name: {nearest[0].model.name} to have the first convolution's kernel resized."
    return "\n".join([f"{start}. The nearest:", *map(_against, nearest), advice])


def _against(fit: Fit) -> str:
    faults = [f"{name} ({reason})" for name, reason in fit.missing.items() if not name.endswith(_COUNTER)]
    faults += [f"{name} (which it does not have)" for name in fit.strangers]
    more = f" and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
    found = fit.num_expected - len(fit.missing)
    return (
        f"  {describe_model(fit.model)}, {found} of {fit.num_expected} tensors; not {', '.join(faults[:_LISTED])}{more}"
    )
