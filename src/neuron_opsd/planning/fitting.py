"""Which settings fit into a GPU's memory, by the arithmetic of `memory`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.method.settings import LONG_ROW
from neuron_opsd.models.outline import Outline
from neuron_opsd.models.room import MAX_ROWS
from neuron_opsd.planning import memory
from neuron_opsd.planning.memory import Passes, Peak, Way

SHARE_STEP: Final = 0.05
"""Granularity of an engine's memory share."""

DECODING_SHARE: Final = 0.9
"""Share of free GPU memory that our decoder's cache takes."""

PAGE: Final = 256
"""Positions by which its cache grows."""

ENGINE_BYTES: Final = 2 * 2**30
"""vLLM's activations and CUDA graphs, besides weights and cache.

Assumed, not measured."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Longest texts of a run, in tokens."""

    prompt: int
    """The student's prompt."""
    shown: int
    """The teacher's prompt, with demonstrations."""
    completion: int
    counted: bool = False
    """Whether prompts were counted in a pool rather than assumed."""


@dataclass(frozen=True, slots=True)
class Option:
    """A way to train on one GPU."""

    way: Way
    peak: Peak
    """With one completion of the requested lengths per pass."""
    saved: int
    """Bytes per token that a pass with gradient keeps."""
    longest: int
    """Longest completion that fits alone; 0 if none does."""
    per_pass: int
    """Completions of the requested length per pass with gradient."""


@dataclass(frozen=True, slots=True)
class Rows:
    """How many completions are decoded in parallel."""

    engine: str
    share: float
    """Of the GPU's memory, for the engine."""
    pool: int
    """For the pool and tests, if each has maximum length."""
    half: int
    """The same at half that length on average."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What fits on a GPU."""

    memory: int
    """Of the GPU, in bytes."""
    options: tuple[Option, ...]
    rows: tuple[Rows, ...]
    """One per engine with room for a completion."""
    chosen: int | None
    """Index of the recommended option; `None` if none fits."""
    settings: tuple[str, ...]
    """Each as ``section.field=value``."""
    advice: str
    """What to do if nothing fits, else empty."""


def fit(outline: Outline, lengths: Lengths, config: Config, gpu: int) -> Fit:
    """Say what fits on a GPU of `gpu` bytes, at a run's lengths."""
    options = tuple(
        option(outline, way, lengths, config, gpu) for way in ways_of(config)
    )
    asked = [i for i, found in enumerate(options) if follows(found.way, config)]
    fitting = [i for i in asked if options[i].per_pass]
    chosen = fitting[0] if fitting else None
    if chosen is None:
        return Fit(gpu, options, (), None, (), refusal(options, asked, lengths, gpu))
    taken = options[chosen]
    rows = rows_of(outline, taken, lengths, config, gpu)
    settings = settings_for(taken, rows, lengths, config)
    return Fit(gpu, options, rows, chosen, settings, "")


def ways_of(config: Config) -> Iterator[Way]:
    """Yield the ways to train, fastest first."""
    tuning = config.distill
    base = Way(
        rank=tuning.lora_rank,
        chunk_positions=tuning.chunk_positions,
        logit_copies=memory.JSD_COPIES
        if tuning.divergence == "jsd"
        else memory.LOGIT_COPIES,
    )
    full = replace(
        base,
        tuning="full",
        product=memory.FLOAT,
        own_teacher=tuning.teacher != "live",
    )
    for way in (base, replace(base, tuning="qlora"), full):
        yield way
        yield replace(way, checkpointing=True)


def follows(way: Way, config: Config) -> bool:
    """Whether a way fits the set tuning, quantisation and checkpointing."""
    again = config.distill.gradient_checkpointing
    if again != "auto" and way.checkpointing != (again == "on"):
        return False
    if config.distill.tuning == "full":
        return way.tuning == "full"
    packed = config.model.quantization == "nf4"
    return way.tuning == "qlora" or (way.tuning == "lora" and not packed)


def longest_step(
    outline: Outline, lengths: Lengths, config: Config, compute: str
) -> Peak:
    """Return what training holds in its largest possible micro-batch.

    Args:
        outline: The model's.
        lengths: The longest.
        config: The run's.
        compute: Type of matrix products, ``float32`` or ``bfloat16``.
    """
    tuning = config.distill
    row = lengths.prompt + lengths.completion
    again = tuning.gradient_checkpointing
    packed = config.model.quantization == "nf4"
    half = compute == "bfloat16" and tuning.tuning != "full"
    way = replace(
        next(ways_of(config)),
        tuning="full" if tuning.tuning == "full" else "qlora" if packed else "lora",
        checkpointing=again == "on" or (again == "auto" and row > LONG_ROW),
        product=memory.HALF if half else memory.FLOAT,
        own_teacher=tuning.tuning != "full" or tuning.teacher != "live",
    )
    rows = max(1, min(tuning.micro_batch_size, tuning.micro_batch_tokens // row))
    passes = passes_of(lengths, rows, config.model.tokens_per_batch)
    return memory.peak(outline, way, passes)


def usable(gpu: int) -> int:
    """Return the bytes of a GPU available for planning."""
    return round(gpu * (1.0 - memory.RESERVE))


def option(
    outline: Outline, way: Way, lengths: Lengths, config: Config, gpu: int
) -> Option:
    """Return what a way to train holds and which lengths it allows."""
    room, batch = usable(gpu), config.model.tokens_per_batch

    def total(completion: int, count: int) -> int:
        some = replace(lengths, completion=completion)
        return memory.peak(outline, way, passes_of(some, count, batch)).total

    positions = outline.max_positions or 1 << 30
    longest = most_that(
        lambda n: total(n, 1) <= room, max(1, positions - lengths.shown)
    )
    most = config.distill.batch_size * config.distill.num_samples
    return Option(
        way=way,
        peak=memory.peak(outline, way, passes_of(lengths, 1, batch)),
        saved=memory.saved(outline, way).kept,
        longest=longest,
        per_pass=most_that(lambda n: total(lengths.completion, n) <= room, most),
    )


def passes_of(lengths: Lengths, count: int, batch: int) -> Passes:
    """Return the tokens of a micro-batch of `count` completions.

    The teacher reads at most `batch` tokens a pass, or one completion.
    """
    teacher = lengths.shown + lengths.completion
    return Passes(
        student=count * (lengths.prompt + lengths.completion),
        teacher=max(teacher, min(batch, count * teacher)),
        completion=count * lengths.completion,
    )


def most_that(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to `most` that fits, 0 if 1 does not.

    Example:
        >>> most_that(lambda n: n * n <= 50, 100)
        7
    """
    return bisect_left(range(1, most + 1), True, key=lambda n: not fits(n))  # noqa: FBT003


def rows_of(
    outline: Outline, taken: Option, lengths: Lengths, config: Config, gpu: int
) -> tuple[Rows, ...]:
    """Return how many completions each engine decodes in parallel.

    Our decoder uses the weights in training. vLLM holds a copy and sleeps during
    training; what training holds between passes stays.
    """
    room = usable(gpu) - taken.peak.static.total
    own = round(DECODING_SHARE * room)
    share = int(room / gpu / SHARE_STEP) * SHARE_STEP
    engine = round(share * gpu) - memory.base_bytes(outline) - ENGINE_BYTES
    found = (
        rows_in(own, "transformers", 1 - memory.RESERVE, outline, lengths, config),
        rows_in(engine, "vllm", round(share, 2), outline, lengths, config),
    )
    return tuple(rows for rows in found if rows.pool)


def rows_in(
    room: int,
    engine: str,
    share: float,
    outline: Outline,
    lengths: Lengths,
    config: Config,
) -> Rows:
    """Return how many completions' keys and values fit.

    A question's samples share those of its prompt.
    """
    samples = config.rollouts.num_samples
    windowed = engine == "vllm"

    def count(completion: int) -> int:
        written = completion if windowed else -(-completion // PAGE) * PAGE
        whole = lengths.prompt + written
        shared = memory.cache_bytes(outline, lengths.prompt, windowed=windowed)
        each = memory.cache_bytes(outline, whole, windowed=windowed) - shared
        rows = max(0, room) // max(1, each + shared // samples)
        return rows if windowed else min(MAX_ROWS, rows)

    return Rows(
        engine, share, count(lengths.completion), count(max(1, lengths.completion // 2))
    )


def settings_for(
    taken: Option, rows: tuple[Rows, ...], lengths: Lengths, config: Config
) -> tuple[str, ...]:
    """Return an option's settings, plus vLLM's if a question fits there."""
    way, count = taken.way, taken.per_pass
    samples = config.rollouts.num_samples
    found = ["model.quantization=nf4"] if way.tuning == "qlora" else []
    found += [
        f"distill.gradient_checkpointing={'on' if way.checkpointing else 'off'}",
        f"distill.micro_batch_size={count}",
        f"distill.micro_batch_tokens={count * (lengths.prompt + lengths.completion)}",
    ]
    vllm = next((one for one in rows if one.engine == "vllm"), None)
    if vllm is not None and vllm.pool >= samples:
        found += ["engine.rollouts=vllm", f"engine.memory_share={vllm.share:g}"]
    return tuple(found)


def refusal(
    options: tuple[Option, ...], asked: list[int], lengths: Lengths, gpu: int
) -> str:
    """Say what to change if no way to train fits."""
    least = min((options[i] for i in asked), key=lambda found: found.peak.total)
    needed = least.peak.total / (1.0 - memory.RESERVE) / 2**30
    said = (
        f"completions of {lengths.completion:,} tokens need {needed:.0f} GiB, and the "
        f"GPU has {gpu / 2**30:g}"
    )
    shorter = max(options[i].longest for i in asked)
    if shorter:
        return (
            f"{said}; set distill.max_new_tokens to at most {shorter:,}, or take a "
            "smaller model or a larger GPU"
        )
    others = [found for found in options if found.per_pass]
    if others:
        return f"{said}; set distill.tuning=lora, which fits"
    return f"{said}; take a smaller model or a larger GPU"
