"""Steps as a GPU does them: recorded once, then started with one call."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from loaded import loaded, random_pairs
from neuron_opsd.models.decoding import paged_decoder
from neuron_opsd.models.decoding.layout import StepShape
from neuron_opsd.models.decoding.paged_decoder import Steps, Work
from neuron_opsd.models.decoding.paged_memory import PagedMemory
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.roles import Sampling
from tiny import FAMILIES

SAMPLING = Sampling(temperature=0.9, top_p=0.97, max_new_tokens=40)


class Counting(TorchDispatchMode):
    """Counts the operations that are started one by one, and not those of a replay."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.started: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()
        self.replaying = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Count an operation and do it."""
        (self.inside if self.replaying else self.started)[str(func)] += 1
        return func(*args, **(kwargs or {}))


class StandIn:
    """Takes the place of CUDA graphs: it holds their rules and does the work anew.

    A recording does nothing by itself, its inputs stay where they are, and its result
    stands at one place.
    """

    def __init__(self, counting: Counting | None = None) -> None:
        self.counting = counting
        self.recorded = self.replayed = 0

    def __call__(self, work: Work) -> Work:
        """Record some work."""
        self.recorded += 1
        places: list[Tensor] = []

        def again() -> Tensor:
            self.replayed += 1
            if self.counting is not None:
                self.counting.replaying = True
            try:
                found = work()
                if not places:
                    places.append(torch.empty_like(found))
                return places[0].copy_(found)
            finally:
                if self.counting is not None:
                    self.counting.replaying = False

        return again


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Give what has every decoder record its steps."""

    def use(record: Any) -> None:
        real: Any = paged_decoder.PagedDecoder.__init__

        def begin(decoder: Any, *given: Any) -> None:
            real(decoder, *given, record=lambda _: record)

        monkeypatch.setattr(paged_decoder.PagedDecoder, "__init__", begin)

    return use


def drawn(model: HFModel) -> Any:
    prompts = [p for p, _ in random_pairs([(6, 0), (3, 0), (9, 0), (40, 0)], 300)]
    (end,) = model.tokens.end_ids
    weight = model.network.get_output_embeddings().weight
    with torch.no_grad():
        weight[end] = weight[:60].mean(dim=0) * 40
    found = model.sample(prompts, [[1, 2, 3], [4], [5, 6], [7, 8]], SAMPLING)
    return [[c.token_ids for c in row] for row in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_steps_draw_what_steps_draw(
    family: str, request: pytest.FixtureRequest, recorder: Callable[[Any], None]
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{family}")
    wanted = drawn(loaded(folder))
    model, record = loaded(folder), StandIn()
    recorder(record)
    assert drawn(model) == wanted
    assert 0 < record.recorded < record.replayed / 2


def test_a_step_of_a_known_size_starts_less_than_a_third_and_asks_for_nothing(
    tiny_qwen3: Path, recorder: Callable[[Any], None]
) -> None:
    # Sampling itself is not recorded; greedy tokens show the step alone.
    greedy = Sampling(temperature=0.0, max_new_tokens=30)
    prompts = [p for p, _ in random_pairs([(6, 0)] * 4, 300)]

    def counted(record: StandIn | None, counting: Counting) -> tuple[int, Counting]:
        model = loaded(tiny_qwen3)
        model.tokens = type(model.tokens)(model.tokens.tokenizer, frozenset())
        if record is not None:
            recorder(record)
        with counting:
            model.sample(prompts, [[1, 2]] * 4, greedy)
        return sum(counting.started.values()), counting

    eager, _ = counted(None, Counting())
    counting = Counting()
    record = StandIn(counting)
    ours, counting = counted(record, counting)
    assert record.replayed > 25
    assert ours < eager / 3
    # What asks a GPU for a value cannot be recorded.
    asking = ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "equal.default")
    assert counting.inside
    assert not [name for name in counting.inside if any(a in name for a in asking)]


def refuses(work: Work) -> Work:
    """Record nothing."""
    raise RuntimeError(f"{work} is not recorded here")


@pytest.mark.parametrize("record", [None, StandIn(), refuses])
def test_pages_are_freed_as_soon_as_all_is_written(
    tiny_llama: Path,
    recorder: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
    record: Any,
) -> None:
    # Not by a collection of garbage, for which the next answers would not wait: they
    # would be written in what is left beside the pages of these.
    pages = []

    class Watched(PagedMemory):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            pages.append(weakref.ref(self))

    monkeypatch.setattr(paged_decoder, "PagedMemory", Watched)
    model = loaded(tiny_llama)
    recorder(record)
    gc.collect()
    gc.disable()
    try:
        pages.clear()  # of the trial as it was loaded
        drawn(model)
        assert [page() for page in pages] == [None]
    finally:
        gc.enable()


def test_what_cannot_be_recorded_is_done_step_by_step() -> None:
    done: list[int] = []

    def record(_: Work) -> Work:
        raise RuntimeError("operation not permitted when stream is capturing")

    def work(layout: Any) -> Tensor:
        found: Tensor = layout.tokens
        done.append(int(found[0]))
        return found

    steps = Steps(work, torch.device("cpu"), record)
    shape = StepShape(8, 1, 1, 1, 8, 1, 1)
    for number in range(4):
        numbers = torch.full((len(shape),), number).numpy()
        assert steps.run(shape, numbers)[0] == number
    assert done == [0, 1, 2, 3]


def test_shortage_of_memory_while_recording_is_passed_on() -> None:
    def record(_: Work) -> Work:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    steps = Steps(lambda at: at.tokens, torch.device("cpu"), record)
    shape = StepShape(8, 1, 1, 1, 8, 1, 1)
    numbers = torch.zeros(len(shape), dtype=torch.long).numpy()
    steps.run(shape, numbers)
    with pytest.raises(torch.OutOfMemoryError):
        steps.run(shape, numbers)


def test_few_sizes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_decoder, "MAX_RECORDINGS", 2)
    record = StandIn()
    steps = Steps(lambda at: at.tokens * 1, torch.device("cpu"), record)
    for rows in (8, 9, 10, 8, 9, 10):
        shape = StepShape(rows, 1, 1, 1, 8, 1, 1)
        numbers = torch.full((len(shape),), rows).numpy()
        assert steps.run(shape, numbers).tolist() == [rows] * rows
    assert record.recorded == 0


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_draw_what_steps_draw(
    family: str, request: pytest.FixtureRequest, recorder: Callable[[Any], None]
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{family}")
    recorded = drawn(loaded(folder, device="cuda"))
    recorder(None)
    assert drawn(loaded(folder, device="cuda")) == recorded
