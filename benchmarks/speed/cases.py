"""What is compared with what, and the bars that are to be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Precision: TypeAlias = Literal["float32", "bfloat16", "Q4_1"]

BYTES: Final[Mapping[str, float]] = {"float32": 4, "bfloat16": 2, "Q4_1": 0.625}
"""Bytes of one weight."""


@dataclass(frozen=True, slots=True)
class System:
    """One way to do a case's job."""

    label: str
    run: str
    """``module:function`` below this package."""
    precision: Precision
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: Literal["", "gguf", "neufs", "vllm"] = ""
    """The option of the command without which it cannot be measured."""
    scale: int = 1
    """How many times the case's usual work."""

    def told(self) -> dict[str, Any]:
        """Return what the process is told besides the job."""
        return {"precision": self.precision, **self.options}


@dataclass(frozen=True, slots=True)
class Bar:
    """What is to be reached: a peer's figure over ours is at least `least`."""

    ours: str
    peer: str
    figure: Literal["seconds", "peak", "stored"]
    least: float


@dataclass(frozen=True, slots=True)
class Case:
    """A job and the systems that do it, ours first."""

    name: str
    title: str
    work: str
    """The function of `prepare` that makes the job."""
    systems: tuple[System, ...]
    bars: tuple[Bar, ...] = ()
    grows: bool = False
    """Whether the systems are ours at one, two, four and eight times the work."""


def growth(work: str, title: str, run: str) -> Case:
    """Return the case that shows how the cost of a stage grows with its work."""
    systems = tuple(
        System(f"{scale}x", run, "bfloat16", {"compute": "auto"}, scale=scale)
        for scale in (1, 2, 4, 8)
    )
    return Case(f"growth-{work}", title, work, systems, grows=True)


OURS: Final = "ours, bfloat16"
OURS_EXACT: Final = "ours, float32"
ONE: Final = "transformers, question by question, {}"
ALL: Final = "transformers, one padded batch, {}"
LLAMA: Final = "llama.cpp, Q4_1"
LLAMA_TOP: Final = "llama.cpp, Q4_1, top 40 tokens only"
TRL_EQUAL: Final = "TRL full_logits, {}"
TRL_PARTS: Final = "TRL full_logits, {}, 4 parts of 4"
TRL_DEFAULT: Final = "TRL, its defaults (top 100, bfloat16, checkpointing)"
BARE: Final = "ours, bare forward, {}"
NEUFS: Final = "NeuFS code, float32"


def both(label: str, run: str, options: Mapping[str, Any]) -> tuple[System, System]:
    """Return a peer in both precisions."""
    return (
        System(label.format("float32"), run, "float32", options),
        System(label.format("bfloat16"), run, "bfloat16", options),
    )


def ours(run: str, options: Mapping[str, Any] | None = None) -> tuple[System, System]:
    """Return our system in both precisions."""
    return (
        System(OURS, run, "bfloat16", options or {}),
        System(OURS_EXACT, run, "float32", options or {}),
    )


CASES: Final = (
    Case(
        "rollouts",
        "Rollouts: 16 questions x 8 samples x 32 new tokens, temperature 1",
        "rollouts",
        (
            *ours("rollouts:ours"),
            *both(ONE, "rollouts:transformers_generate", {"together": False}),
            *both(ALL, "rollouts:transformers_generate", {"together": True}),
            System(LLAMA, "rollouts:llama_cpp", "Q4_1", {"top_k": 0}, "gguf"),
            System(LLAMA_TOP, "rollouts:llama_cpp", "Q4_1", {"top_k": 40}, "gguf"),
        ),
        (
            Bar(OURS, ONE.format("float32"), "seconds", 5.0),
            Bar(OURS, ONE.format("bfloat16"), "seconds", 5.0),
            Bar(OURS, LLAMA, "seconds", 1.0),
        ),
    ),
    Case(
        "choices",
        "Constrained answers: the distribution over the choices of 64 questions",
        "choices",
        (
            *ours("choices:ours"),
            *both("transformers, choice by choice, {}", "choices:naive", {"batch": 1}),
            *both(
                "transformers, 16 choices a batch, {}", "choices:naive", {"batch": 16}
            ),
        ),
        (
            Bar(OURS, "transformers, choice by choice, float32", "seconds", 10.0),
            Bar(OURS, "transformers, choice by choice, bfloat16", "seconds", 10.0),
        ),
    ),
    Case(
        "step",
        "Distillation step: batch 16, 32 new tokens, 10 demonstrations, LoRA",
        "step",
        (
            *ours("step:ours"),
            *both(TRL_EQUAL, "step:trl_equal", {"part": 16}),
            System(
                TRL_PARTS.format("float32"), "step:trl_equal", "float32", {"part": 4}
            ),
            System(TRL_DEFAULT, "step:trl_default", "bfloat16", {"part": 16}),
        ),
        (
            Bar(OURS, TRL_EQUAL.format("float32"), "seconds", 2.0),
            Bar(OURS, TRL_EQUAL.format("float32"), "peak", 2.0),
            Bar(OURS_EXACT, TRL_EQUAL.format("float32"), "seconds", 2.0),
            Bar(OURS_EXACT, TRL_EQUAL.format("float32"), "peak", 2.0),
        ),
    ),
    Case(
        "capture",
        "Capture: the neurons behind 64 completions of 32 tokens",
        "capture",
        (
            *ours("capture:ours", {"rule": "flat"}),
            System(
                "ours, NeuFS rule, float32",
                "capture:ours",
                "float32",
                {"rule": "neufs"},
            ),
            *both(BARE, "capture:bare", {}),
            *both("transformers, bare forward, {}", "capture:bare_transformers", {}),
            System(NEUFS, "capture:neufs", "float32", {}, "neufs"),
        ),
        (
            Bar(OURS, BARE.format("bfloat16"), "seconds", 1 / 1.2),
            Bar(OURS_EXACT, BARE.format("float32"), "seconds", 1 / 1.2),
            Bar(OURS, NEUFS, "seconds", 10.0),
            Bar(OURS, NEUFS, "stored", 100.0),
        ),
    ),
    growth(
        "rollouts", "Rollouts as the work grows: 16 questions and more", "rollouts:ours"
    ),
    growth(
        "capture", "Capture as the work grows: 64 completions and more", "capture:ours"
    ),
    growth("step", "Distillation step as the batch grows: 16 and more", "step:ours"),
)
