"""Objectives: their values, their algebra and their printing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pellucid
from pellucid import channel, contrast, direction, layer, log_probability, logit, neuron, probability, run
from pellucid.objectives import Objective, as_objective

from ..nets import small_model, some_images

MODEL, IMAGES = small_model(), some_images()
OUTPUT = MODEL(IMAGES).detach()
TRACE = run(MODEL, IMAGES, read=["conv2", "fc", "relu2"])
CONV2 = TRACE.activations["conv2"].detach()


def value(objective):
    return as_objective(MODEL, objective).bind(MODEL, 3)(TRACE).detach()


def check(objective, expected):
    torch.testing.assert_close(value(objective), expected)


def test_classes():
    check(logit(1), OUTPUT[:, 1])
    check(logit("lamp post"), OUTPUT[:, 2])
    check(logit([0, "koala", 2]), OUTPUT.diagonal())
    check(logit(torch.tensor([2, 1, 0])), OUTPUT.flip(1).diagonal())
    check(logit(), OUTPUT.amax(1))
    check(probability(1), OUTPUT.softmax(1)[:, 1])
    check(log_probability(1), OUTPUT.log_softmax(1)[:, 1])
    check(contrast("koala", "castle"), OUTPUT[:, 1] - OUTPUT[:, 0])


def test_layers():
    check(neuron("conv2", 3, 1, 2), CONV2[:, 3, 1, 2])
    check(neuron("conv2", 3), CONV2[:, 3, 3, 3])
    check(neuron("fc", 2), OUTPUT[:, 2])
    check(channel("conv2", 3), CONV2[:, 3].mean((1, 2)))
    check(channel("fc", 2), OUTPUT[:, 2])
    check(layer("conv2"), CONV2.square().mean((1, 2, 3)))
    check(direction("conv2", [1, 0, 0, -2, 0]), (CONV2[:, 0] - 2 * CONV2[:, 3]).mean((1, 2)))
    check(direction("fc", torch.tensor([1.0, 2, 3])), OUTPUT @ torch.tensor([1.0, 2, 3]).double())


def test_shorthands():
    check(1, OUTPUT[:, 1])
    check("castle", OUTPUT[:, 0])
    check(None, OUTPUT.amax(1))
    check([0, 1, 2], OUTPUT.diagonal())
    check(torch.tensor([0, 1, 2]), OUTPUT.diagonal())
    check(torch.tensor(1), OUTPUT[:, 1])
    check("conv2:3", CONV2[:, 3].mean((1, 2)))
    check(lambda output: output.sum(1), OUTPUT.sum(1))


def test_a_label_with_a_colon_is_a_label():
    model = pellucid.wrap(MODEL.net, labels=["conv2:3", "b", "c"])
    assert repr(as_objective(model, "conv2:3")) == 'logit("conv2:3")'


def test_a_name_among_synonyms_is_found():
    model = pellucid.wrap(MODEL.net, labels=["koala, koala bear", "kite", "Kite, bird"])
    assert (model.index("koala bear"), model.index("bird"), model.index("kite")) == (0, 2, 1)
    with pytest.raises(KeyError, match="fits classes"):
        pellucid.wrap(MODEL.net, labels=["a, x", "b, x", "c"]).index("x")


TERMS = {
    "logit(0)": (logit(0), OUTPUT[:, 0]),
    "probability(1)": (probability(1), OUTPUT.softmax(1)[:, 1]),
    'neuron("conv2", 1, 2, 3)': (neuron("conv2", 1, 2, 3), CONV2[:, 1, 2, 3]),
    "logit()": (logit(), OUTPUT.amax(1)),
}
numbers = st.integers(-3, 3).filter(bool)


@st.composite
def expressions(draw, depth=3):
    """An objective, the values that plain tensors give, and a Python expression for both."""
    if depth == 0 or draw(st.booleans()):
        text = draw(st.sampled_from(sorted(TERMS)))
        return (*TERMS[text], text)
    a, x, s = draw(expressions(depth - 1))
    kind = draw(st.sampled_from(["+", "-", "*", "number +", "number -", "number *", "/", "negative"]))
    k = draw(numbers)
    if kind in "+-*":
        b, y, t = draw(expressions(depth - 1))
        operate = {"+": lambda p, q: p + q, "-": lambda p, q: p - q, "*": lambda p, q: p * q}[kind]
        return operate(a, b), operate(x, y), f"({s}) {kind} ({t})"
    if kind == "negative":
        return -a, -x, f"-({s})"
    if kind == "/":
        return a / k, x / k, f"({s}) / {k}"
    operate = {"+": lambda p: k + p, "-": lambda p: k - p, "*": lambda p: k * p}[kind[-1]]
    return operate(a), operate(x), f"{k} {kind[-1]} ({s})"


@given(expressions())
def test_algebra_is_that_of_the_values(made):
    objective, expected, _ = made
    torch.testing.assert_close(value(objective), expected, rtol=1e-9, atol=1e-9)


@given(expressions())
def test_what_is_printed_means_what_was_meant(made):
    objective, expected, _ = made
    scope = {"logit": logit, "probability": probability, "neuron": neuron, "predicted": None}
    read = eval(repr(objective), scope)
    assert isinstance(read, Objective)
    torch.testing.assert_close(value(read), expected, rtol=1e-9, atol=1e-9)


def test_printing():
    assert repr(logit("castle") - logit("koala") - 1) == 'logit("castle") - logit("koala") - 1'
    assert repr(logit(0) - (logit(1) - logit(2))) == "logit(0) - (logit(1) - logit(2))"
    assert repr(-(logit(0) + 1) / 2) == "-(logit(0) + 1) / 2"
    assert repr(contrast("koala", None)) == 'contrast("koala", predicted)'
    assert repr(neuron("a", 1, x=2)) == 'neuron("a", 1, x=2)'
    assert repr(logit(torch.arange(9))) == "logit([0, 1, 2, ...])"


def test_the_predicted_class_is_named_once_it_is_known():
    bound = (logit() - 1).bind(MODEL, 3)
    assert str(bound) == "logit(predicted) - 1" and bound.unresolved()
    bound(TRACE)
    names = [MODEL.label(i) for i in OUTPUT.argmax(1).tolist()]
    assert str(bound) == "logit([" + ", ".join(f'"{n}"' for n in names) + "]) - 1" and not bound.unresolved()


def test_the_predicted_class_stays_that_of_the_first_pass():
    bound = logit().bind(MODEL, 3)
    bound(TRACE)
    other = run(MODEL, IMAGES, edit={"fc": lambda a: -a})
    torch.testing.assert_close(bound(other), -OUTPUT.amax(1))


def test_rows_say_which_image_is_meant():
    bound = logit([0, 1, 2]).bind(MODEL, 3)
    rows = torch.tensor([2, 2, 0])
    torch.testing.assert_close(bound(run(MODEL, IMAGES[rows], rows=rows)), OUTPUT[rows, rows])


@pytest.mark.parametrize(
    ("objective", "error", "words"),
    [
        (neuron("conv2", 5), ValueError, "'conv2' has 5 channels, asked for channel 5"),
        (neuron("conv2", 0, 6, 0), ValueError, "grid of 6 along y, asked for y=6"),
        (neuron("fc", 0, 1, 1), ValueError, "no places"),
        (direction("conv2", [1.0]), ValueError, "5 channels, the direction has 1"),
        (logit(-1), ValueError, "below 0"),
        (logit(torch.tensor([0.5, 1, 2])), TypeError, "whole numbers"),
        (lambda output: output, ValueError, "one number for each of 3 images"),
        (lambda output: 1.0, ValueError, "gave float"),
    ],
)
def test_errors(objective, error, words):
    with pytest.raises(error, match=words):
        value(objective)


def test_errors_when_written():
    with pytest.raises(ValueError, match="vector over channels"):
        direction("a", torch.zeros(2, 2))
    with pytest.raises(TypeError, match="not with a str"):
        logit(0) + "castle"


def test_one_output_has_no_softmax():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 1)).double().eval()
    assert pellucid.saliency(net, IMAGES, 0).values.any()
    with pytest.raises(ValueError, match="softmax of one number is always 1: use logit"):
        pellucid.saliency(net, IMAGES, probability(0))


def test_tokens_are_channels_last():
    tokens = torch.arange(4 * 26.0).reshape(1, 26, 4)  # no grid over a 12 x 12 image: the mean over tokens
    from pellucid.model.run import Trace

    trace = Trace(IMAGES[:1], None, {"t": tokens}, torch.zeros(1).long())
    assert channel("t", 1).prepare(MODEL, 1).evaluate(trace).item() == tokens[0, :, 1].mean()


def test_targets_as_arrays_and_numbers_of_numpy():
    import numpy as np

    check(np.array([0, 1, 2]), OUTPUT.diagonal())
    check(np.int64(1), OUTPUT[:, 1])
    check(logit(0) * np.float64(2), 2 * OUTPUT[:, 0])
    for wrong in ([1.7, 0, 0], torch.zeros(3, 1).long()):
        with pytest.raises((TypeError, ValueError), match=r"expected (a whole number|one number for each image)"):
            value(logit(wrong))


def test_numbers_keep_their_digits():
    torch.testing.assert_close(value(0.1 * logit(0)), 0.1 * OUTPUT[:, 0], rtol=1e-15, atol=0)
    assert repr(0.123456789 * logit(0)) == "0.123456789 * logit(0)"


def test_a_resolved_contrast_keeps_its_brackets():
    bound = (2 * contrast(None, 0)).bind(MODEL, 3)
    bound(TRACE)
    assert str(bound).startswith("2 * (logit(") and str(bound).endswith("- logit(0))")


def test_a_label_that_two_classes_have_is_refused():
    with pytest.raises(KeyError, match=r"fits classes \[0, 2\]"):
        pellucid.wrap(MODEL.net, labels=["crane", "x", "crane"]).index("crane")
