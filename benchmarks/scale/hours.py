"""Hours of the paper's setting on a GPU, by rooflines and the shares others reach.

A pass over tokens takes its operations over the share of a GPU's peak that training
reaches. A decoding step takes what it reads, weights and caches, over the share of the
bandwidth that vLLM reaches. Both shares come from published runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from neuron_opsd.models.outline import Outline
from neuron_opsd.planning import memory
from neuron_opsd.planning.workload import expected_longest

HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class GPU:
    """A GPU as its maker describes it."""

    name: str
    memory: int
    """In GB, as it is sold."""
    operations: float
    """Per second, bfloat16 with float32 sums, dense."""
    bandwidth: float
    """Bytes per second."""
    source: str


RTX_4090: Final = GPU(
    "RTX 4090",
    24,
    165.15e12,
    1.008e12,
    "https://waredb.com/processor/nvidia-geforce-rtx-4090",
)
H100: Final = GPU(
    "H100 SXM",
    80,
    989.4e12,
    3.35e12,
    "https://glennklockwood.com/garden/processors/h100",
)

TRAINING_SHARE: Final = 0.33
"""Of the peak that training reaches: Llama 3.1 8B in bfloat16 on H100, not compiled."""

TRAINING_SOURCE: Final = (
    "https://github.com/pytorch/torchtitan/blob/main/benchmarks/"
    "llama3_h100_202412_torchtitan.md"
)

VLLM_RATE: Final = 12_500.0
"""Tokens a second that vLLM wrote with Llama 3.1 8B in bfloat16 on one H100."""

VLLM_SOURCE: Final = "https://www.morphllm.com/vllm-benchmarks"

VLLM_ROWS: Final = 256
VLLM_CONTEXT: Final = 400
"""Rows and tokens of each that this run is taken to have had at a time; not stated."""

LLAMA_BYTES: Final = 2 * 8.03e9
LLAMA_CACHE: Final = 128 * 1024
"""Weights, and keys and values of a token, of Llama 3.1 8B."""


def vllm_share() -> float:
    """Return the share of the bandwidth that the published run reached."""
    read = LLAMA_BYTES + VLLM_ROWS * VLLM_CONTEXT * LLAMA_CACHE
    best = VLLM_ROWS / (read / H100.bandwidth)
    return VLLM_RATE / best


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run does: the paper's numbers, with a pool and tests of usual size."""

    pool: int = 4000
    samples: int = 8
    steps: int = 150
    batch: int = 16
    tests: int = 1000
    times_tested: int = 3
    """Before, after, and with demonstrations in the prompt."""
    limit: int = 8192
    """Longest completion; a mean one is as much shorter as `MEAN` says."""
    prompt: int = 256
    shown: int = 4096

    @property
    def mean(self) -> float:
        """Mean length of a completion."""
        return MEAN * self.limit


MEAN: Final = 3000 / 8192
"""Taken: reasoning of 3,000 tokens on average where 8,192 are the limit."""


@dataclass(frozen=True, slots=True)
class Hours:
    """What the parts of a run take, on one GPU or several."""

    pool: float
    """Rollouts, and the pass that reads off neurons."""
    training: float
    tests: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.pool + self.training + self.tests


def hours(
    outline: Outline, setting: Setting, gpu: GPU, rows: int, count: int, *, again: bool
) -> Hours:
    """Return the hours of a run.

    Args:
        outline: Of the model.
        setting: What is done.
        gpu: Of which kind.
        rows: Completions that decode together on one.
        count: Number of GPUs; questions are shared out evenly.
        again: Whether layers run again in the backward pass.
    """
    written = answering(outline, setting, gpu, rows)
    read = setting.pool * passing(outline, setting.prompt + setting.mean, gpu)
    pool = setting.pool * setting.samples * written + read
    tests = setting.times_tested * setting.tests * setting.samples * written
    training = setting.steps * step(outline, setting, gpu, count, again=again)
    return Hours(pool / count / HOUR, training / HOUR, tests / count / HOUR)


def answering(outline: Outline, setting: Setting, gpu: GPU, rows: int) -> float:
    """Return the seconds of one completion among many that decode together."""
    context = setting.prompt / setting.samples + setting.mean
    return setting.mean * token_step(outline, gpu, rows, context) / rows


def token_step(outline: Outline, gpu: GPU, rows: int, context: float) -> float:
    """Return the seconds of one more token in every row."""
    cache = memory.cache_bytes(outline, round(context), windowed=True)
    read = memory.base_bytes(outline) + rows * cache
    made = 2.0 * outline.num_parameters * rows
    reading = read / (gpu.bandwidth * vllm_share())
    return max(reading, made / (gpu.operations * TRAINING_SHARE))


def step(
    outline: Outline, setting: Setting, gpu: GPU, count: int, *, again: bool
) -> float:
    """Return the seconds of an optimiser step: rollouts, then the passes.

    Rollouts take as long as the longest of the batch, however many GPUs share it.
    """
    rows = -(-setting.batch // count)
    longest = expected_longest(setting.mean, setting.batch, setting.limit)
    context = setting.prompt + setting.mean / 2
    writing = longest * token_step(outline, gpu, rows, context)
    student = passing(outline, setting.prompt + setting.mean, gpu)
    teacher = passing(outline, setting.shown + setting.mean, gpu)
    # Backward to what went in costs a pass; frozen weights take no gradient.
    return writing + rows * (teacher + (3 if again else 2) * student)


def passing(outline: Outline, tokens: float, gpu: GPU) -> float:
    """Return the seconds of a pass over one sequence, attention included."""
    products = 2.0 * outline.num_parameters * tokens
    attention = sum(
        2.0 * memory.queries(layer, outline) * tokens * min(tokens, layer.window or 1e9)
        for layer in outline.layers
    )
    return (products + attention) / (gpu.operations * TRAINING_SHARE)
