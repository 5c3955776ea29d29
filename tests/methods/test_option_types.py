"""Options of a wrong type: said in words, by every method, before any work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Optional, Protocol, TypeVar, Union

import numpy as np
import pytest
import torch
from torch import Tensor

import pellucid
from pellucid import CATALOGUE
from pellucid.attribution.ingredients.batched_gradients import per_image
from pellucid.attribution.ingredients.decorator import attribution
from pellucid.checks import in_words, matches_type, of_kind
from pellucid.methods.options import RENAMED
from pellucid.methods.result import Attribution

from ..nets import small_model, some_images

if TYPE_CHECKING:
    from nowhere import Missing

METHODS = sorted(CATALOGUE)
T = TypeVar("T")


class Shown(Protocol):
    def show(self) -> str: ...


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, int, True), (True, int, False), (2.5, int, False), ("3", int, False), (np.int64(3), int, True),
        (3, float, True), (2.5, float, True), (np.float32(1), float, True), (False, float, False), ("1", float, False),
        ("a", str, True), (b"a", str, False), (True, bool, True), (1, bool, False), (None, None, True),
        (None, int | None, True), (1.5, int | str, False),
        (None, Optional[int], True), ("a", Union[int, str], True),  # noqa: UP007, UP045
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False), (True, Literal[1], False),
        ((1, 2), tuple[int, int], True), ([1, 2], tuple[int, int], True), ((1, 2, 3), tuple[int, int], True),
        ((1, "a"), tuple[int, int], False), ((), tuple[int, ...], True), ((1, 2.5), tuple[int, ...], False),
        (3, tuple[int, int], False), ("ab", tuple[str, str], False), ((), tuple, True),
        (len, Callable[[Tensor], Tensor], True), (3, Callable[[Tensor], Tensor], False), (len, Callable, True),
        (torch.zeros(1), Tensor, True), ([0.0], Tensor, False), (torch.zeros(1), str | Tensor, True),
        ({"a": 1}, Mapping[str, str], True), ([1], Mapping[str, int], False), ([1], Sequence[str], True),
        (3, Any, True), (3, T, True), (3, Shown, True), (3, "not evaluated", True),
    ],
)  # fmt: skip
def test_what_fits(value, kind, expected):
    assert matches_type(value, kind) is expected


@pytest.mark.parametrize(
    ("kind", "said"),
    [(int, "a whole number"), (float | None, "a number or None"), (Literal["a", "b", "c"], "'a', 'b' or 'c'"),
     (str | Tensor, "a text or a tensor"), (Callable[[int], int] | None, "a function or None"), (bool, "True or False"),
     (tuple[int, ...], "(a whole number, ...)"), (Mapping[str, int], "a Mapping"), (OSError, "an OSError")],
)  # fmt: skip
def test_types_in_words(kind, said):
    assert in_words(kind) == said


def test_large_values_are_not_printed():
    assert of_kind(torch.zeros(5)) == "a Tensor" and of_kind([0] * 500) == "a list" and of_kind(None) == "None"


def test_options_of_every_method_are_annotated():
    for name, entry in CATALOGUE.items():
        assert set(entry.options) <= set(entry.option_types), name


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_type_is_told_by_every_method(name):
    class Strange:
        pass

    model, images = small_model(), some_images(1)
    for option, kind in CATALOGUE[name].option_types.items():
        if option not in CATALOGUE[name].options or matches_type(Strange(), kind):
            continue
        with pytest.raises(TypeError, match=rf"^{name}: {option} is .*Strange.*, expected ['\w(]"):
            CATALOGUE[name].function(model, images, **{option: Strange()})


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_of_their_own_type(name):
    entry = CATALOGUE[name]
    assert all(matches_type(default, entry.option_types[option]) for option, default in entry.options.items())


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("smoothgrad", {"samples": 2.5}, "smoothgrad: samples is 2.5 (a float), expected a whole number"),
        ("smoothgrad", {"seed": "a"}, "smoothgrad: seed is 'a' (a str), expected a whole number"),
        ("smoothgrad", {"samples": True}, "smoothgrad: samples is True (a bool), expected a whole number"),
        ("smoothgrad", {"noise": "0.1"}, "smoothgrad: noise is '0.1' (a str), expected a number"),
        ("grad_cam", {"layer": 3}, "grad_cam: layer is 3 (an int), expected a text or None"),
        ("grad_cam", {"reshape": 3}, "grad_cam: reshape is 3 (an int), expected a function or None"),
        ("occlusion", {"window": (3, 2.5)}, "occlusion: window is (3, 2.5) (a tuple), expected a whole number, "
         "(a whole number, a whole number) or None"),
        ("integrated_gradients", {"convergence_delta": 1},
         "integrated_gradients: convergence_delta is 1 (an int), expected True or False"),
        ("integrated_gradients", {"baseline": None},
         "integrated_gradients: baseline is None, expected a text or a tensor"),
    ],
)  # fmt: skip
def test_the_words(name, options, said):
    with pytest.raises(TypeError) as error:
        getattr(pellucid, name)(small_model(), some_images(1), **options)
    assert str(error.value) == said


def test_numbers_of_numpy_are_numbers():
    model, images = small_model(), some_images(1)
    given = pellucid.smoothgrad(model, images, samples=np.int64(3), noise=np.float32(0.5), seed=np.uint8(1))
    wanted = pellucid.smoothgrad(model, images, samples=3, noise=0.5, seed=1)
    assert torch.equal(given.values, wanted.values) and given.call.options == wanted.call.options
    pellucid.occlusion(model, images, window=np.int64(4))


def test_odd_annotations_of_others_do_no_harm(monkeypatch):
    def odd(
        model: Any,
        images: Tensor,
        objective: Any,
        *,
        bare=1,
        missing: Missing | None = None,
        wrong: int = None,  # noqa: RUF013
        words: "a text, or what you like" = "x",  # noqa: F722
        number: 5 = 5,
        variable: T = 0,
        shown: Shown | None = None,
        table: Mapping[str, Missing] | None = None,
        count: int = 1,
    ) -> Attribution:
        """An odd one."""
        return Attribution(per_image(model, images, objective))

    monkeypatch.setattr(odd, "__module__", "somebody.odd")
    monkeypatch.setitem(CATALOGUE, "odd", None)
    call = attribution(paper="Somebody 2020, Odd")(odd)
    model, images = small_model(), some_images(1)
    for name in ("bare", "missing", "words", "number", "variable", "shown", "table"):
        call(model, images, **{name: object()})
    call(model, images, wrong=None)  # its default is good, whatever is written beside it
    with pytest.raises(TypeError, match=r"odd: wrong is 'a' \(a str\), expected a whole number"):
        call(model, images, wrong="a")
    with pytest.raises(TypeError, match=r"odd: count is None, expected a whole number"):
        call(model, images, count=None)
    assert "missing" not in CATALOGUE["odd"].option_types and sys.modules.get("nowhere") is None


def test_former_names_are_taken_with_a_warning_where_they_were_written():
    model, images = small_model(), some_images(1)
    with pytest.warns(DeprecationWarning, match="the option rule is called quadrature now") as caught:
        found = pellucid.integrated_gradients(model, images, 0, rule="midpoint", convergence_delta=True, steps=4)
    assert caught[0].filename == __file__ and found.call.options["quadrature"] == "midpoint"
    with pytest.warns(DeprecationWarning, match=r"Attribution\.gap is called convergence_delta now") as caught:
        assert torch.equal(found.gap, found.convergence_delta)
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match="smoothgrad has no option 'rule'"):
        pellucid.smoothgrad(model, images, 0, rule="midpoint")
    with pytest.raises(AttributeError, match="Attribution has no attribute 'dead'"):
        found.dead  # noqa: B018


def test_former_names_are_of_options_that_there_are():
    for name, renamed in RENAMED.items():
        assert set(renamed.values()) & set(CATALOGUE[name].options), name
        assert not set(renamed) & set(CATALOGUE[name].options), name
