"""Checkpoints of other tools: each is loaded fully, its features proved, or refused with the reason."""

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ptft.errors import PtftError
from ptft.transfer.load import transfer
from ptft.transfer.proof import prove
from ptft.transfer.sources import read_source

State = dict[str, Tensor]


def network(name: str, num_classes: int = 3) -> nn.Module:
    """A small torchvision network with batch-norm statistics under which its features do not vanish."""
    torch.manual_seed(1)
    net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.1, 0.3)  # type: ignore[union-attr, operator]
    return net.eval()


def renamed(state: Mapping[str, Tensor], *rules: tuple[str, str | Callable[[re.Match[str]], str]]) -> State:
    """The state with the first rule that matches applied to each name."""

    def new(name: str) -> str:
        for pattern, form in rules:
            if re.search(pattern, name):
                return re.sub(pattern, form, name)
        return name

    return {new(name): tensor for name, tensor in state.items()}


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def without(state: Mapping[str, Tensor], *words: str) -> State:
    return {name: tensor for name, tensor in state.items() if not any(word in name for word in words)}


def lightning(state: State) -> dict[str, Any]:
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.2",
        "state_dict": prefixed(state, "model."),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3, 3)}}}],
    }


def timm_trainer(state: State) -> dict[str, Any]:
    raw = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    return {
        "epoch": 3,
        "arch": "resnet18",
        "args": argparse.Namespace(lr=0.1),
        "state_dict": raw,
        "state_dict_ema": state,
    }


def dino(state: State) -> dict[str, Any]:
    backbone = without(state, "fc.")
    head = {"head.mlp.0.weight": torch.zeros(8, 512)}
    student = {name: torch.zeros_like(tensor) for name, tensor in backbone.items()}
    return {
        "student": prefixed({**prefixed(student, "backbone."), **head}, "module."),
        "teacher": {**prefixed(backbone, "backbone."), **head},
        "args": argparse.Namespace(arch="resnet18"),
    }


def moco(state: State) -> dict[str, Any]:
    backbone = without(state, "fc.")
    key = {name: torch.zeros_like(tensor) for name, tensor in backbone.items()}
    tensors = {
        **prefixed(backbone, "module.encoder_q."),
        "module.encoder_q.fc.0.weight": torch.zeros(512, 512),
        **prefixed(key, "module.encoder_k."),
        "module.queue": torch.zeros(128, 16),
    }
    return {"epoch": 1, "arch": "resnet18", "state_dict": tensors}


def hugging_face_resnet(state: State) -> State:
    def block(found: re.Match[str]) -> str:
        kind = {"conv": "convolution", "bn": "normalization"}[found[3]]
        return f"resnet.encoder.stages.{int(found[1]) - 1}.layers.{found[2]}.layer.{int(found[4]) - 1}.{kind}."

    def shortcut(found: re.Match[str]) -> str:
        kind = ("convolution", "normalization")[int(found[3])]
        return f"resnet.encoder.stages.{int(found[1]) - 1}.layers.{found[2]}.shortcut.{kind}."

    return renamed(
        state,
        (r"^layer(\d)\.(\d)\.(conv|bn)(\d)\.", block),
        (r"^layer(\d)\.(\d)\.downsample\.(\d)\.", shortcut),
        (r"^conv1\.", "resnet.embedder.embedder.convolution."),
        (r"^bn1\.", "resnet.embedder.embedder.normalization."),
        (r"^fc\.", "classifier.1."),
    )


def timm_regnet(state: State) -> State:
    parts = {"f.a": "conv1", "f.b": "conv2", "f.c": "conv3", "proj": "downsample"}
    return renamed(
        state,
        (r"^stem\.0\.", "stem.conv."),
        (r"^stem\.1\.", "stem.bn."),
        (r"^trunk_output\.block(\d)\.block\d-(\d+)\.f\.se\.", lambda f: f"s{f[1]}.b{int(f[2]) + 1}.se."),
        (
            r"^trunk_output\.block(\d)\.block\d-(\d+)\.(f\.[abc]|proj)\.([01])\.",
            lambda f: f"s{f[1]}.b{int(f[2]) + 1}.{parts[f[3]]}.{('conv', 'bn')[int(f[4])]}.",
        ),
        (r"^fc\.", "head.fc."),
    )


def timm_convnext(state: State) -> State:
    """timm's names and shapes: its layer scale has one axis."""
    parts = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}
    tensors = {name: tensor.flatten() if "layer_scale" in name else tensor for name, tensor in state.items()}
    return renamed(
        tensors,
        (r"^features\.0\.0\.(\d)\.|^features\.0\.(\d)\.", lambda f: f"stem.{f[2]}."),
        (r"^features\.([1357])\.(\d+)\.layer_scale", lambda f: f"stages.{int(f[1]) // 2}.blocks.{f[2]}.gamma"),
        (
            r"^features\.([1357])\.(\d+)\.block\.(\d)\.",
            lambda f: f"stages.{int(f[1]) // 2}.blocks.{f[2]}.{parts[f[3]]}.",
        ),
        (r"^features\.([246])\.(\d)\.", lambda f: f"stages.{int(f[1]) // 2}.downsample.{f[2]}."),
        (r"^classifier\.0\.", "head.norm."),
        (r"^classifier\.2\.", "head.fc."),
    )


def timm_efficientnet(state: State) -> State:
    inverted = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "3.0": "conv_pwl", "3.1": "bn3"}
    separable = {"0.0": "conv_dw", "0.1": "bn1", "2.0": "conv_pw", "2.1": "bn2"}
    excitation = {"fc1": "conv_reduce", "fc2": "conv_expand"}

    def block(found: re.Match[str]) -> str:
        stage = int(found[1]) - 1
        return f"blocks.{stage}.{found[2]}.{(inverted if stage else separable)[found[3]]}."

    return renamed(
        state,
        (r"^features\.0\.0\.", "conv_stem."),
        (r"^features\.0\.1\.", "bn1."),
        (r"^features\.8\.0\.", "conv_head."),
        (r"^features\.8\.1\.", "bn2."),
        (r"^features\.(\d)\.(\d+)\.block\.([0123]\.[01])\.", block),
        (
            r"^features\.(\d)\.(\d+)\.block\.[12]\.(fc[12])\.",
            lambda f: f"blocks.{int(f[1]) - 1}.{f[2]}.se.{excitation[f[3]]}.",
        ),
        (r"^classifier\.1\.", "classifier."),
    )


LOADED: dict[str, tuple[str, Callable[[State], Any]]] = {
    "a torchvision state dict": ("resnet18", dict),
    "an ordered state dict of mobilenet": ("mobilenet_v3_small", OrderedDict),
    "squeezenet, whose head is a convolution": ("squeezenet1_1", dict),
    "shufflenet": ("shufflenet_v2_x0_5", dict),
    "mnasnet": ("mnasnet0_5", dict),
    "densenet by its old names": (
        "densenet121",
        lambda s: renamed(s, (r"(layer\d+)\.(norm|conv)(\d)\.", r"\1.\2.\3.")),
    ),
    "googlenet with its auxiliary heads": ("googlenet", dict),
    "DistributedDataParallel under model": ("resnet18", lambda s: {"model": prefixed(s, "module."), "epoch": 1}),
    "torch.compile under model_state_dict": ("resnet18", lambda s: {"model_state_dict": prefixed(s, "_orig_mod.")}),
    "Lightning": ("resnet18", lightning),
    "timm's trainer, averaged": ("resnet18", timm_trainer),
    "torchvision's references, averaged": (
        "resnet18",
        lambda s: {"model_ema": {"n_averaged": torch.tensor(1), **prefixed(s, "module.")}, "optimizer": {}},
    ),
    "DINO, its teacher": ("resnet18", dino),
    "teacher and student under model": (
        "resnet18",
        lambda s: {"model": {"student": {n: torch.zeros_like(t) for n, t in s.items()}, "teacher": s}},
    ),
    "FixMatch, averaged": (
        "resnet18",
        lambda s: {"model": {n: torch.zeros_like(t) for n, t in s.items()}, "ema_model": s},
    ),
    "FSDP with checkpointed activations": (
        "resnet18",
        lambda s: renamed(s, (r"^(layer\d\.\d\.)", r"_fsdp_wrapped_module.\1_checkpoint_wrapped_module.")),
    ),
    "a head by the name of another tool": ("resnet18", lambda s: renamed(s, (r"^fc\.", "linear."))),
    "MoCo, its query encoder": ("resnet18", moco),
    "a bare backbone below an unusual prefix": ("resnet18", lambda s: prefixed(without(s, "fc."), "cnn.features.")),
    "before batches were counted": ("resnet18", lambda s: without(s, "num_batches_tracked")),
    "half precision": ("resnet18", lambda s: {name: tensor.half() for name, tensor in s.items()}),
    "pytorch-cifar": ("resnet18", lambda s: renamed(s, (r"downsample", "shortcut"), (r"^fc\.", "linear."))),
    "Hugging Face ResNet": ("resnet18", hugging_face_resnet),
    "timm ConvNeXt": ("convnext_tiny", timm_convnext),
    "timm RegNet": ("regnet_y_400mf", timm_regnet),
    "timm EfficientNet": ("efficientnet_b0", timm_efficientnet),
}


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
@pytest.mark.parametrize("layout", LOADED)
def test_a_foreign_layout_loads_fully_with_the_features_of_its_network(tmp_path: Path, layout: str) -> None:
    name, save = LOADED[layout]
    net = network(name)
    torch.save(save(dict(net.state_dict())), tmp_path / "w.pt")
    source = read_source(tmp_path / "w.pt")
    assert source.model is not None
    assert source.model.name == name
    assert any("recognised as" in sentence for sentence in source.said)
    classifier = source.model.build(4, 3).eval()
    report = transfer(classifier, source.tensors, source_classes=(), target_classes=tuple("abcd"), min_loaded=1.0)
    assert report.loaded_fraction == 1
    assert "gives the features of torchvision's own" in prove(classifier, source.model, source, report)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = features(net, images)
    tolerance = (1e-2 if layout == "half precision" else 1e-5) * expected.abs().max().item()
    torch.testing.assert_close(classifier.features(images), expected, atol=tolerance, rtol=0)


def features(net: nn.Module, images: Tensor) -> Tensor:
    """What the last linear layer (or 1x1 convolution) of the network is given."""
    last = [part for part in net.modules() if isinstance(part, nn.Linear)] or [net.get_submodule("classifier.1")]
    given: list[Tensor] = []
    handle = last[-1].register_forward_pre_hook(lambda _layer, inputs: given.append(inputs[0]))
    with torch.no_grad():
        net(images)
    handle.remove()
    return given[0].mean((2, 3)) if given[0].ndim == 4 else given[0]


def with_excitation(state: State) -> State:
    return {**state, "layer1.0.se.fc1.weight": torch.zeros(4, 64, 1, 1)}


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "an excited ResNet under the names of a plain one": (
        with_excitation,
        "layer1.0.se.fc1.weight (which it does not have)",
    ),
    "a ResNet with group norm": (lambda s: without(s, "running", "num_batches"), "bn1.running_mean (missing)"),
    "a deeper stage": (lambda s: without(s, "layer4.1."), "resnet18 of torchvision, 108 of 120 tensors"),
    "another first convolution": (
        lambda s: {**s, "conv1.weight": s["conv1.weight"][:, :, 1:6, 1:6].clone()},
        "Write model.name: resnet18 to have the first convolution's kernel resized.",
    ),
    "another width": (lambda s: {n: t[: len(t) // 2] if t.ndim else t for n, t in s.items()}, "bn1.bias (32, not 64)"),
    "a transformer": (
        lambda s: {"cls_token": torch.zeros(1, 1, 8), "blocks.0.attn.qkv.weight": torch.zeros(24, 8)},
        "CNN",
    ),
    "two networks": (lambda s: {**prefixed(s, "left."), **prefixed(s, "right.")}, "left. (resnet18"),
    "one tensor twice": (lambda s: {**s, "module.conv1.weight": s["conv1.weight"]}, "conv1.weight twice"),
    "sections without usual names": (lambda s: {"first": s, "second": s}, "several state dicts (first, second)"),
    "only an optimizer": (lambda s: {"optimizer": {"state": {}}, "epoch": 3}, "the keys optimizer, epoch"),
    "a list": (lambda s: list(s.values()), "neither a ptft checkpoint nor a state dict"),
    "a whole module": (lambda s: network("resnet18"), "holds a Python object (torchvision.models.resnet.ResNet)"),
    "quantized": (
        lambda s: {"a": torch.quantize_per_tensor(torch.zeros(2, 2), 1.0, 0, torch.qint8)},
        "_rebuild_qtensor",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("layout", REFUSED)
def test_what_cannot_be_loaded_is_refused_with_the_reason(tmp_path: Path, layout: str) -> None:
    save, reason = REFUSED[layout]
    torch.save(save(dict(network("resnet18").state_dict())), tmp_path / "w.pt")
    with pytest.raises(PtftError) as refused:
        read_source(tmp_path / "w.pt")
    assert refused.value.exit_code == 4
    assert reason in str(refused.value)


class Harmful:
    """What a pickle can do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


def test_reading_executes_nothing_and_says_how_to_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": dict(network("resnet18").state_dict()), "callback": Harmful()}, "w.pt")
    with pytest.raises(PtftError, match="could run code") as refused:
        read_source("w.pt")
    assert "weights_only=False" in str(refused.value)
    assert not Path("harmed").exists()
    torch.load("w.pt", weights_only=False)
    assert Path("harmed").exists(), "the negative control: this file does harm where it is read carelessly"


def test_numpy_values_are_refused_by_their_name(tmp_path: Path) -> None:
    import numpy as np

    torch.save({"state_dict": dict(network("resnet18").state_dict()), "best": np.float64(0.5)}, tmp_path / "w.pt")
    with pytest.raises(PtftError, match="numpy"):
        read_source(tmp_path / "w.pt")


def test_arguments_in_a_namespace_are_read(tmp_path: Path) -> None:
    torch.save({"model": dict(network("resnet18").state_dict()), "args": argparse.Namespace(lr=1)}, tmp_path / "w.pt")
    assert read_source(tmp_path / "w.pt").model is not None


def test_safetensors_are_read(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch", reason="pip install 'ptft[safetensors]'")
    library.save_file(
        {n: t.contiguous() for n, t in network("resnet18").state_dict().items()}, tmp_path / "w.safetensors"
    )
    source = read_source(tmp_path / "w.safetensors")
    assert source.model is not None
    assert source.model.name == "resnet18"
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0notjson!")
    with pytest.raises(PtftError, match=r"bad\.safetensors is damaged"):
        read_source(tmp_path / "bad.safetensors")


def test_a_grey_and_a_small_stem_are_seen_in_the_shape_of_the_first_convolution(tmp_path: Path) -> None:
    from ptft.models import TorchvisionCnn

    model = TorchvisionCnn(name="resnet18", small_stem=True)
    state = model.build(3, 1).state_dict()
    torch.save({name.removeprefix("backbone."): tensor for name, tensor in state.items()}, tmp_path / "w.pt")
    source = read_source(tmp_path / "w.pt")
    assert source.model == model
    assert source.in_channels == 1
    assert source.format is None
