"""Batches: nothing lost or doubled, within the budget, whatever its size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pellucid
from pellucid.model import batches
from pellucid.model.batches import CPU_MEMORY, batched, memory_budget
from pellucid.model.settings import Settings, current


@given(st.integers(1, 500), st.one_of(st.none(), st.integers(1, 64)), st.integers(1, 2**20))
def test_every_row_once_and_in_order(rows, batch_size, memory):
    seen = []
    with pellucid.settings(batch_size=batch_size, memory=memory, progress=False):
        batched(lambda part: seen.extend(range(part.start, part.stop)), rows, like=torch.zeros(1, 1, 4, 4))
    assert seen == list(range(rows))


@given(st.integers(1, 300), st.integers(1, 64))
def test_a_fixed_size_is_kept_and_slices_are_alike(rows, size):
    lengths = []
    with pellucid.settings(batch_size=size, progress=False):
        batched(lambda part: lengths.append(part.stop - part.start), rows, like=torch.zeros(1))
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("row_bytes", [1_000, 50_000, 400_000])
def test_slices_fit_the_budget_that_was_measured(row_bytes):
    lengths = []

    def step(part):
        count = part.stop - part.start
        lengths.append(count)
        kept = torch.zeros(count, row_bytes // 8)  # two at once: half of the row's bytes each
        del kept
        kept = torch.zeros(count, row_bytes // 8)
        more = kept + 1
        del kept, more

    with pellucid.settings(memory=1_000_000):
        batched(step, 2000, like=torch.zeros(1, row_bytes // 400))
    later = lengths[1:]
    assert max(later) * row_bytes <= 1_000_000
    assert max(later) * row_bytes > 400_000 or max(later) == 1


def test_the_memory_of_a_network_does_not_grow_with_the_work():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    images = torch.rand(1, 3, 32, 32)
    sizes = {}
    for steps in (50, 1000):
        seen = []
        handle = net[0].register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
        with pellucid.settings(memory=4_000_000):
            pellucid.integrated_gradients(net, images, 0, steps=steps)
        handle.remove()
        sizes[steps] = max(seen)
        assert sum(seen) == steps
    assert sizes[1000] <= 1.3 * sizes[50]


def test_settings_are_for_a_block():
    assert current() == Settings()
    with pellucid.settings(batch_size=3):
        with pellucid.settings(memory=10):
            assert (current().batch_size, current().memory) == (3, 10)
        assert (current().batch_size, current().memory) == (3, None)
    assert current() == Settings()


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"batchsize": 3}, TypeError, "no setting 'batchsize'; there are batch_size"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"memory": 1.5}, ValueError, "memory is 1.5"),
    ],
)
def test_wrong_settings(wrong, error, words):
    with pytest.raises(error, match=words), pellucid.settings(**wrong):
        pass
    assert current() == Settings()


def test_budget():
    assert memory_budget(torch.device("cpu")) == CPU_MEMORY
    with pellucid.settings(memory=5):
        assert memory_budget(torch.device("cpu")) == 5


@pytest.mark.slow
def test_progress_shows_after_two_seconds_once(capsys):
    import time

    def slow(_part):
        batched(lambda _p: time.sleep(0.2), 1, like=torch.zeros(1), label="inner")

    with pellucid.settings(batch_size=1):
        batched(slow, 12, like=torch.zeros(1), label="outer")
        batched(slow, 3, like=torch.zeros(1), label="short")
    shown = capsys.readouterr().err
    assert "outer" in shown and "inner" not in shown and "short" not in shown
    with pellucid.settings(batch_size=1, progress=False):
        batched(slow, 12, like=torch.zeros(1), label="outer")
    assert capsys.readouterr().err == ""


def test_work_that_cannot_be_counted_is_announced_after_two_seconds(monkeypatch, capsys):
    made = []

    class Clock:
        def __init__(self, seconds, say):
            self.seconds, self.say, self.started, self.stopped = seconds, say, False, False
            made.append(self)

        def start(self):
            self.started = True

        def cancel(self):
            self.stopped = True

    monkeypatch.setattr(batches, "Timer", Clock)
    with batches.announced("it looks for neighbors"):
        assert made[0].started and made[0].seconds == 2 and not made[0].stopped
        made[0].say()
    assert made[0].stopped and capsys.readouterr() == ("", "it looks for neighbors\n")
    with batches.progress(3), batches.announced("below a bar"):
        assert not made[1].started
    with pellucid.settings(progress=False), batches.announced("not wished for"):
        assert not made[2].started
