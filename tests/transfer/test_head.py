"""Head rows follow class names: never position, never count."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptft.data.labelling import Scale
from ptft.models import SmallCnn
from ptft.models.classifier import Classifier
from ptft.transfer.head import REORDERED, rescaled_head
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
@example((list(NAMES[:4]), list(NAMES)), 4)
@example((list(NAMES[:4]), list(NAMES[3::-1])), 4)
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
    assert (weight.outcome == "loaded") == (after == before)


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


def test_a_bias_of_another_length_than_the_names_is_not_used() -> None:
    state = classifier(2, seed=0).state_dict()
    state["head.bias"] = torch.zeros(3)
    target = classifier(2, seed=1)
    before = target.head.weight.detach().clone()
    report = transfer(target, state, source_classes=("a", "b"), target_classes=("a", "b"), min_loaded=1.0)
    assert report.kept_classes == []
    assert torch.equal(target.head.weight, before)


def test_rows_of_a_head_for_another_kind_of_task_are_not_used_and_it_is_said() -> None:
    target = classifier(2, seed=1)
    before = target.head.weight.detach().clone()
    names = ("ant", "bee")
    report = transfer(
        target,
        classifier(2, seed=0).state_dict(),
        source_classes=names,
        target_classes=names,
        min_loaded=1.0,
        other_task="multi-label",
    )
    assert report.kept_classes == []
    assert torch.equal(target.head.weight, before)
    assert {part.reason for part in report.tensors if part.name.startswith("head.")} == {
        "a new head for the target's classes (the source's is of a multi-label task: its rows mean something else)"
    }


def test_rows_without_names_are_not_used_and_it_is_said() -> None:
    _, report = moved(classifier(2, seed=0), (), ("ant", "bee"))
    assert report.kept_classes == []
    assert any("the source's class names are not known" in part.reason for part in report.tensors)


def test_a_regressions_rows_predict_the_same_numbers_in_the_targets_own_unit() -> None:
    names, others = ("age", "size", "light"), ("light", "age")
    own, new = Scale((3.0, 10.0, -1.0), (2.0, 5.0, 0.5)), Scale((1.0, 7.0), (4.0, 0.1))
    source = classifier(3, seed=0)
    tensors, told = rescaled_head(source.state_dict(), (names, own), (others, new))
    target = classifier(2, seed=1)
    transfer(target, tensors, source_classes=names, target_classes=others, min_loaded=1.0)
    before, after = own.restore(logits(source).double()), new.restore(logits(target).double())
    torch.testing.assert_close(after, before[:, [2, 0]], rtol=1e-4, atol=1e-4)
    assert "rows of age, light now count in the training images' standard deviations" in told
    same, nothing = rescaled_head(source.state_dict(), (names, own), (("weight",), Scale((0.0,), (1.0,))))
    assert nothing == ""
    assert torch.equal(same["head.weight"], source.head.weight)
    fewer, nothing = rescaled_head(source.state_dict(), (names[:2], own), (others, new))
    assert nothing == ""
    assert torch.equal(fewer["head.weight"], source.head.weight)


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_rows_that_are_not_finite_are_not_used_and_it_is_said(part: str) -> None:
    source = classifier(2, seed=0)
    with torch.no_grad():
        getattr(source.head, part)[1] = float("nan")
    target, report = moved(source, ("ant", "bee"), ("ant", "bee"))
    assert report.kept_classes == []
    assert all(bool(tensor.isfinite().all()) for tensor in target.head.parameters())
    assert "not finite" in next(tensor.reason for tensor in report.tensors if tensor.name == "head.weight")
