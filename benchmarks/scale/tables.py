"""The tables of docs/scale.md, each with where its numbers come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from benchmarks.scale import paper
from benchmarks.scale.hours import (
    GPU,
    H100,
    MEAN,
    RTX_4090,
    TRAINING_SHARE,
    TRAINING_SOURCE,
    VLLM_CONTEXT,
    VLLM_RATE,
    VLLM_ROWS,
    VLLM_SOURCE,
    Hours,
    Setting,
    hours,
    vllm_share,
)
from benchmarks.speed.tables import table
from neuron_opsd.config import Config
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.models.outline import Outline
from neuron_opsd.planning import memory
from neuron_opsd.planning.fitting import Fit, Lengths, Option, fit, rows_of

LIMITS: Final = (2048, 8192)
"""Longest completions."""

PLACES: Final = (
    ("1 x 24 GB", RTX_4090, 1),
    ("1 x 80 GB", H100, 1),
    ("8 x 80 GB", H100, 8),
    ("cluster: 4 x 8 x 80 GB", H100, 32),
)

GIB: Final = 2**30

NAMES: Final = {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}

DEFAULT: Final = Setting()


def fitted(outline: Outline, limit: int, gigabytes: int) -> Fit:
    """Return what fits at a length, with the settings' defaults else."""
    return fit(outline, lengths(limit), settings(limit), gigabytes * GIB)


def settings(limit: int) -> Config:
    """Return the paper's settings with a limit to completions."""
    return config_from_table({"rollouts": {"max_new_tokens": limit}})


def lengths(limit: int) -> Lengths:
    """Return the lengths that the page is about."""
    return Lengths(DEFAULT.prompt, DEFAULT.shown, limit)


def held(outlines: dict[str, Outline]) -> list[str]:
    """Return the table of what training holds, whatever the GPU."""
    rows = []
    for name, outline in outlines.items():
        plain, again, _, packed, _, full = fitted(outline, LIMITS[-1], 80).options
        static = plain.peak.static
        rows.append(
            [
                name,
                f"{outline.num_parameters / 1e9:.2f}",
                f"{gib(static.total)} ({gib(static.total - static.base)})",
                gib(packed.peak.static.total),
                gib(full.peak.static.total),
                f"{plain.saved / 1e6:.2f}",
                f"{again.saved / 1e6:.2f}",
                f"{memory.cache_bytes(outline, 1) / 1024:.0f}",
            ]
        )
    return table(
        (
            "model",
            "parameters, 10⁹",
            "LoRA, of it adapter, GiB",
            "QLoRA, GiB",
            "all weights, GiB",
            "saved a token, MB",
            "with checkpointing, MB",
            "keys and values a token, KiB",
        ),
        rows,
    )


def fits(outlines: dict[str, Outline]) -> list[str]:
    """Return the table of what fits on one GPU."""
    rows = [
        row(name, limit, gigabytes, fitted(outline, limit, gigabytes))
        for gigabytes in (24, 80)
        for name, outline in outlines.items()
        for limit in LIMITS
    ]
    return table(
        (
            "GPU",
            "model",
            "completion",
            "take",
            "most held, GiB",
            "completions a pass",
            "longest completion",
            "rows, own decoder",
            "rows, vLLM",
        ),
        rows,
    )


def row(name: str, limit: int, gigabytes: int, found: Fit) -> list[str]:
    """Return a line of the table of what fits."""
    start = [f"{gigabytes} GB", name, f"{limit:,}"]
    if found.chosen is None:
        return [*start, "nothing fits", *[""] * 5]
    taken = found.options[found.chosen]
    together = {rows.engine: f"{rows.pool}" for rows in found.rows}
    return [
        *start,
        named(taken),
        gib(taken.peak.total),
        f"{taken.per_pass}",
        f"{taken.longest:,}",
        together.get("transformers", "none"),
        together.get("vllm", "none"),
    ]


def named(option: Option) -> str:
    """Name a way to train."""
    again = ", checkpointing" if option.way.checkpointing else ""
    return NAMES[option.way.tuning] + again


def times(outlines: dict[str, Outline]) -> list[str]:
    """Return the table of hours."""
    headings = [f"{place}, {gpu.name}" for place, gpu, _ in PLACES]
    rows = []
    for name, outline in outlines.items():
        for limit in LIMITS:
            cells = [times_text(run_hours(outline, limit, *p[1:])) for p in PLACES]
            rows.append([name, f"{limit:,}", *cells])
    return table(("model", "completion", *headings), rows)


def times_text(found: Hours | None) -> str:
    """Write the hours of a run and of its parts."""
    if found is None:
        return "nothing fits"
    parts = ", ".join(map(hours_text, (found.pool, found.training, found.tests)))
    return f"**{hours_text(found.total)}** ({parts})"


def run_hours(outline: Outline, limit: int, gpu: GPU, count: int) -> Hours | None:
    """Return the hours of a run on some GPUs, `None` where it does not fit."""
    found = fitted(outline, limit, gpu.memory)
    if found.chosen is None:
        return None
    taken = found.options[found.chosen]
    setting = replace(DEFAULT, limit=limit)
    rows = decoded_rows(outline, setting, gpu)
    return hours(outline, setting, gpu, rows, count, again=taken.way.checkpointing)


def compared(outline: Outline) -> list[str]:
    """Return the table of what the paper's comparison costs."""
    recipe = paper.read()
    sizes = paper.setting(recipe)
    rows = decoded_rows(outline, sizes, H100)
    found = [paper.parts(outline, recipe, H100, rows, count) for count in (1, 8, 32)]
    lines = []
    for name, one in found[0].items():
        hours_of = [hours_text(parts[name].hours) for parts in found]
        tokens = one.completions * sizes.mean / 1e9
        lines.append([name, f"{one.completions:,}", f"{tokens:.1f}", *hours_of])
    total = sum(one.completions for one in found[0].values())
    sums = [hours_text(sum(p.hours for p in parts.values())) for parts in found]
    tokens = total * sizes.mean / 1e9
    lines.append(["**together**", f"{total:,}", f"{tokens:.1f}", *sums])
    places = [f"hours, {count} x 80 GB, H100 SXM" for count in (1, 8, 32)]
    return table(("", "completions", "tokens, 10⁹", *places), lines)


def decoded_rows(outline: Outline, setting: Setting, gpu: GPU) -> int:
    """Return how many completions of usual length decode together."""
    found = fitted(outline, setting.limit, gpu.memory)
    assert found.chosen is not None
    taken = found.options[found.chosen]
    usual = replace(lengths(setting.limit), completion=round(setting.mean))
    own = settings(setting.limit)
    together = rows_of(outline, taken, usual, own, gpu.memory * GIB)
    return min(VLLM_ROWS, max((one.pool for one in together), default=1))


def constants() -> list[str]:
    """Return the table of the constants that hours follow from."""
    rows = [
        *(
            [
                f"{gpu.name}: peak, bandwidth",
                f"{gpu.operations / 1e12:.0f} TFLOP/s, {gpu.bandwidth / 1e12:.2f} TB/s",
                f"*published*: {gpu.source}",
            ]
            for gpu in (RTX_4090, H100)
        ),
        [
            "share of the peak that passes reach",
            f"{TRAINING_SHARE:.2f}",
            f"*published*: {TRAINING_SOURCE}",
        ],
        [
            "vLLM, Llama 3.1 8B on one H100",
            f"{VLLM_RATE:,.0f} tokens/s",
            f"*published*: {VLLM_SOURCE}",
        ],
        [
            "share of the bandwidth that decoding reaches",
            f"{vllm_share():.2f}",
            "*computed* from the line above, taking "
            f"{VLLM_ROWS} rows of {VLLM_CONTEXT} tokens",
        ],
        [
            "mean length of a completion",
            f"{MEAN:.2f} of the limit",
            "*taken*: 3,000 of 8,192",
        ],
        [
            "left free of a GPU",
            f"{memory.RESERVE:.0%}",
            "*taken*: CUDA's context and fragmentation",
        ],
        [
            "bytes saved a token",
            "formulae of `planning/memory.py`",
            "*measured here*: tests count them on tiny models of four families and "
            "allow 3 %",
        ],
        ["seconds of our own passes on a GPU", "", "**not measured**"],
    ]
    return table(("constant", "value", "source"), rows)


def gib(count: float) -> str:
    """Write bytes in GiB."""
    return f"{count / GIB:.1f}"


def hours_text(value: float) -> str:
    """Write hours with two digits that matter.

    Example:
        >>> hours_text(0.123), hours_text(1.26), hours_text(123.4)
        ('0.12', '1.3', '123')
    """
    if value < 1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def sections(outlines: dict[str, Outline]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each table with the name of its place in the page."""
    yield "constants", constants()
    yield "held", held(outlines)
    yield "fits", fits(outlines)
    yield "hours", times(outlines)
    yield "paper", compared(outlines["Qwen3-4B"])
