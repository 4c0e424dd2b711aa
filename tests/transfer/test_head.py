"""Head rows follow class names: never position, never count."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptft.models import SmallCnn
from ptft.models.classifier import Classifier
from ptft.transfer.head import REORDERED
from ptft.transfer.load import transfer
from ptft.transfer.report import TransferReport

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")


def classifier(num_classes: int, seed: int) -> Classifier:
    torch.manual_seed(seed)
    return SmallCnn(name="small-cnn", width=4).build(num_classes, 3).eval()


def moved(source: Classifier, before: tuple[str, ...], after: tuple[str, ...]) -> tuple[Classifier, TransferReport]:
    target = classifier(len(after), seed=1)
    report = transfer(target, source.state_dict(), source_classes=before, target_classes=after, min_loaded=1.0)
    return target, report


def logits(model: Classifier) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)))
    return result


@settings(deadline=None, max_examples=40)
@given(
    st.permutations(NAMES).flatmap(lambda names: st.tuples(st.just(names[:4]), st.permutations(names))),
    st.integers(2, 6),
)
def test_each_name_keeps_its_logits_in_any_order_subset_and_superset(
    orders: tuple[list[str], list[str]], count: int
) -> None:
    before, after = tuple(orders[0]), tuple(orders[1][:count])
    source = classifier(4, seed=0)
    target, report = moved(source, before, after)
    old, new = logits(source), logits(target)
    untouched = classifier(count, seed=1).head.weight
    for place, name in enumerate(after):
        if name in before:
            torch.testing.assert_close(new[:, place], old[:, before.index(name)])
        else:
            assert torch.equal(target.head.weight[place], untouched[place])
    assert set(report.kept_classes) == set(before) & set(after)
    (weight,) = (tensor for tensor in report.tensors if tensor.name == "head.weight")
    is_all_kept = weight.outcome == "loaded" or weight.reason == REORDERED
    assert is_all_kept == (set(after) <= set(before))


def test_as_many_classes_of_other_names_keep_nothing() -> None:
    source = classifier(3, seed=0)
    target, report = moved(source, ("ant", "bee", "cat"), ("dog", "elk", "fox"))
    assert torch.equal(target.head.weight, classifier(3, seed=1).head.weight)
    assert report.kept_classes == []
    assert not torch.equal(target.head.weight, source.head.weight)


def test_a_name_that_stands_for_two_rows_keeps_none() -> None:
    _, report = moved(classifier(3, seed=0), ("crane", "crane", "ant"), ("crane", "ant"))
    assert report.kept_classes == ["ant"]


def test_a_head_of_another_length_than_its_names_is_not_used_and_it_is_said() -> None:
    _, report = moved(classifier(3, seed=0), ("ant", "bee"), ("ant", "bee"))
    assert report.kept_classes == []
    assert any("the source's is 3 × 16, not 2 × 16" in part.reason for part in report.tensors)


def test_rows_that_are_not_finite_are_not_used_and_it_is_said() -> None:
    source = classifier(2, seed=0)
    with torch.no_grad():
        source.head.weight[1, 0] = float("nan")
    target, report = moved(source, ("ant", "bee"), ("ant", "bee"))
    assert report.kept_classes == []
    assert bool(target.head.weight.isfinite().all())
    assert "not finite" in next(tensor.reason for tensor in report.tensors if tensor.name == "head.weight")
