import pytest

from ptft.config.suggest import nearest, nearest_key

MODELS = [
    "small-cnn",
    "small-resnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "mobilenet_v3_small",
    "vgg16",
]
KEYS = [
    ("data",),
    ("optim",),
    ("train",),
    ("optim", "lr"),
    ("optim", "momentum"),
    ("train", "epochs"),
    ("train", "batch_size"),
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("resnet17", "resnet18"),
        ("resnet51", "resnet50"),
        ("resnet100", "resnet101"),
        ("ResNet18", "resnet18"),
        ("vgg15", "vgg16"),
        ("small_cnn", "small-cnn"),
        ("smallcnn", "small-cnn"),
        ("mobilenet-v3-small", "mobilenet_v3_small"),
        ("mobilenet", "mobilenet_v3_small"),
        ("banana", None),
        ("x", None),
        ("", None),
        ("resnet18" * 100, None),
    ],
)  # fmt: skip
def test_nearest_name_is_found_or_none_is_named(typed: str, meant: str | None) -> None:
    assert nearest(typed, MODELS) == meant


def test_number_decides_between_equally_near_names() -> None:
    assert nearest("fp8", ["auto", "fp32", "bf16", "fp16"]) == "fp16"


@pytest.mark.parametrize(
    ("key", "siblings", "meant"),
    [
        (("train", "batchsize"), ["epochs", "batch_size"], ("train", "batch_size")),
        (("train", "bs"), ["epochs", "batch_size"], ("train", "batch_size")),
        (("train", "lr"), ["epochs", "batch_size"], ("optim", "lr")),
        (("learning_rate",), ["data", "optim", "train"], ("optim", "lr")),
        (("epoch",), ["data", "optim", "train"], ("train", "epochs")),
        (("optimizer",), ["data", "optim", "train"], ("optim",)),
        (("train", "colour"), ["epochs", "batch_size"], None),
    ],
)
def test_unknown_key_is_found_in_its_section_or_elsewhere(
    key: tuple[str, ...], siblings: list[str], meant: tuple[str, ...] | None
) -> None:
    assert nearest_key(key, siblings, KEYS) == meant
