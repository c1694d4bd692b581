"""Count how many long answers are decoded side by side on a GPU, without one.

    python benchmarks/decoding_rows.py             # prints the tables
    python benchmarks/decoding_rows.py --write     # and puts them into the notebook

The schedule and the pages are those of the product, played through for lengths that are
drawn: nothing is computed but who grows, who waits and who is put back. Keys and values
of Qwen3-4B in bfloat16 take 144 KiB a token, its weights 8.04 GB, and decoding may take
its share of what is left of 80 GB.

Operations of a step are counted on the processor: one by one, as it starts them itself,
and with the step behind one call, as a CUDA graph starts it. The network has the 36
layers of Qwen3-4B and is narrow otherwise, which changes no count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, Qwen3Config

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.speed.tables import placed  # noqa: E402
from neuron_opsd.models.decoding.paged_decoder import (  # noqa: E402
    PagedDecoder,
    Recorder,
    Work,
)
from neuron_opsd.models.decoding.pages import (  # noqa: E402
    SHARES,
    Limits,
    Pages,
    page_of,
    pages_within,
    position_bytes,
)
from neuron_opsd.models.decoding.sampling import draw_tokens  # noqa: E402
from neuron_opsd.models.decoding.scheduling import Schedule  # noqa: E402
from neuron_opsd.models.forward.attention import replacing  # noqa: E402
from neuron_opsd.models.roles import Sampling  # noqa: E402
from neuron_opsd.models.room import MAX_ROWS  # noqa: E402

NOTEBOOK: Final = ROOT / "docs/lab-notebook/benchmarks.md"
SAMPLES: Final = 8
LONGEST: Final = 8192
MEAN: Final = 3000
WEIGHTS: Final = 8_044_936_192
"""Bytes of Qwen3-4B in bfloat16."""
BEFORE: Final = 4 * 8192
"""Positions that decoding held before, at `model.tokens_per_batch` 8,192."""
SPREADS: Final = {"gamma, shape 2": 2.0, "gamma, shape 1 (exponential)": 1.0}

QWEN3_4B: Final = Qwen3Config(
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    hidden_size=2560,
)


@dataclass(frozen=True)
class Played:
    """What came of one block of questions."""

    steps: int
    rows: int
    """Samples that grew, added up over the steps."""
    most_rows: int
    tokens: int
    redone: int


def drawn_lengths(
    shape: float, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return ``(count, SAMPLES)`` lengths, cut at the longest, whose mean is `MEAN`."""
    raw = rng.gamma(shape, 1.0, (count, SAMPLES))
    low, high = 0.0, 100.0 * MEAN
    while high - low > 1e-3:
        scale = (low + high) / 2
        if np.clip(raw * scale, 1, LONGEST).mean() < MEAN:
            low = scale
        else:
            high = scale
    found: NDArray[np.int64] = np.clip(raw * high, 1, LONGEST).astype(np.int64)
    return found


def play(prompts: Sequence[int], lengths: NDArray[np.int64], memory: float) -> Played:
    """Decode a block in so many bytes."""
    page = page_of("cuda")
    limits = Limits(MAX_ROWS, LONGEST, page)
    asked = [(prompt, SAMPLES) for prompt in prompts]
    page_bytes = page * position_bytes(QWEN3_4B, 2)
    pages = Pages(pages_within(int(memory), page_bytes, limits, asked))
    schedule = Schedule(prompts, [range(SAMPLES)] * len(prompts), pages, limits)
    steps = rows = most_rows = 0
    last = np.zeros(MAX_ROWS, np.int64)
    while not schedule.done:
        for one in schedule.admit():
            last[list(one.slots)] = lengths[one.prompt, list(one.samples)] - 1
        schedule.grow()
        schedule.pack()
        slots = schedule.slots
        steps, rows = steps + 1, rows + len(slots)
        most_rows = max(most_rows, len(slots))
        for slot in slots[schedule.written[slots] >= last[slots]].tolist():
            schedule.end(slot)
    return Played(steps, rows, most_rows, int(lengths.sum()), schedule.num_redone)


def play_before(prompts: Sequence[int], lengths: NDArray[np.int64]) -> Played:
    """Decode a block as it was done before: a place for all samples of a question."""
    positions = max(prompts) + SAMPLES * LONGEST
    places = [0] * max(1, min(BEFORE // positions, MAX_ROWS // SAMPLES))
    for longest in lengths.max(axis=1):
        places[int(np.argmin(places))] += int(longest)
    steps = max(places)
    tokens = int(lengths.sum())
    return Played(steps, tokens, SAMPLES * len(places), tokens, 0)


def rows_table(blocks: Sequence[int]) -> list[str]:
    """Return the rows of the table of rows decoded side by side."""
    table = [
        "| lengths | questions of a block | GPU | rows, mean | rows, most "
        "| tokens written twice | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, shape in SPREADS.items():
        for count in blocks:
            rng = np.random.default_rng(0)
            prompts = rng.integers(200, 800, count).tolist()
            lengths = drawn_lengths(shape, count, rng)
            found = {"80 GB, before": play_before(prompts, lengths)}
            for size in (80, 24):
                memory = SHARES["cuda"] * (size * 1e9 - WEIGHTS)
                found[f"{size} GB"] = play(prompts, lengths, memory)
            for way, one in found.items():
                table.append(
                    f"| {name} | {count} | {way} | {one.rows / one.steps:.0f} | "
                    f"{one.most_rows} | {one.redone / one.tokens:.1%} | "
                    f"{one.steps:,} |"
                )
                print(table[-1], flush=True)
    return table


class Counting(TorchDispatchMode):
    """Counts operations that are started, but for those behind one call."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self.behind_one = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Count an operation and do it."""
        self.count += not self.behind_one
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Narrow:
    """A network of 36 layers, for counting."""

    network: Any
    device = torch.device("cpu")

    @property
    def decoder(self) -> Any:
        """The module below the head."""
        return self.network.get_decoder()

    def run_decoder(self, **inputs: Any) -> Tensor:
        """Return the final states ``(B, T, D)`` of ``input_ids`` ``(B, T)``."""
        states: Tensor = self.decoder(use_cache=False, **inputs).last_hidden_state
        return states


def narrow_network() -> Narrow:
    """Return a network with the layers of Qwen3-4B and few of everything else."""
    config = Qwen3Config(
        num_hidden_layers=36,
        hidden_size=32,
        intermediate_size=64,
        head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=1,
        vocab_size=512,
    )
    torch.manual_seed(0)
    return Narrow(AutoModelForCausalLM.from_config(config).eval())


def step_operations(record: Callable[[Counting], Recorder | None]) -> int:
    """Return how many operations a token step starts once its size is known."""
    made, counting = narrow_network(), Counting()
    limits = Limits(rows=16, longest=64, page=64)
    schedule = Schedule([5, 9], [range(8)] * 2, Pages(40), limits)
    decoder = PagedDecoder(
        schedule, made, made.network.lm_head, lambda _: record(counting)
    )
    sampling, uniform = Sampling(0.6, top_p=0.95), torch.full((16,), 0.5).double()
    with torch.inference_mode(), replacing(made.decoder.config):
        schedule.admit()
        decoder.read({0: tuple(range(5)), 1: tuple(range(9))})

        def step() -> None:
            decoder.make_room()
            logits = decoder.step(schedule.slots, [1] * 16)
            draw_tokens(logits, uniform, sampling)

        for _ in range(3):
            step()
        with counting:
            step()
    return counting.count


def behind_one_call(counting: Counting) -> Recorder:
    """Return what records a step so that it counts as the one call it will be."""

    def record(work: Work) -> Work:
        def again() -> Tensor:
            counting.count += 1
            counting.behind_one = True
            try:
                return work()
            finally:
                counting.behind_one = False

        return again

    return record


def operations_table() -> list[str]:
    """Return the rows of the table of operations."""
    alone = step_operations(lambda _: None)
    recorded = step_operations(behind_one_call)
    return [
        "| a token step of 36 layers, sampling included | operations started |",
        "|---|---|",
        f"| one by one, as on a processor | {alone:,} |",
        f"| as on a GPU, the network behind one call | {recorded:,} |",
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write them into the docs")
    parser.add_argument("--blocks", type=int, nargs="+", default=[64, 256])
    given = parser.parse_args()
    operations = operations_table()
    print("\n".join(operations), flush=True)
    rows = rows_table(given.blocks)
    if given.write:
        text = "\n".join([*rows, "", *operations])
        page = placed(NOTEBOOK.read_text(), "decoding-rows", text)
        NOTEBOOK.write_text(page)


if __name__ == "__main__":
    main()
