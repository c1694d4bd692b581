"""What is measured on a GPU, as cases of `benchmarks.speed`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.scale.hours import Setting
from benchmarks.speed.cases import CASES, Case, System
from neuron_opsd.planning.memory import Passes

VLLM: Final = System("vLLM, bfloat16", "serving:vllm", "bfloat16", {}, "vllm")

TITLES: Final = {
    "rollouts": "Rollouts: {questions} questions x 8 samples x {tokens} new tokens",
    "step": "Distillation step: batch {questions}, {tokens} new tokens, LoRA",
    "capture": "Capture: the neurons behind {questions} completions of {tokens} tokens",
}

QUESTIONS: Final = {"rollouts": 16, "step": 16, "capture": 64}
"""Of the usual work of each."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large everything is."""

    limits: tuple[int, ...] = (2048, 8192)
    """Lengths of completions whose step is weighed."""
    prompt: int = Setting().prompt
    shown: int = Setting().shown
    new_tokens: int = 512
    rounds: int = 5
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """GPUs, or processes, over which a run is spread."""
    pool: int = 256
    steps: int = 10
    batch: int = 16


FULL: Final = Size()
TINY: Final = Size(
    limits=(64, 256),
    prompt=32,
    shown=128,
    new_tokens=8,
    rounds=1,
    counts=(1, 2),
    pool=16,
    steps=2,
    batch=4,
)


def speed_cases(size: Size) -> list[Case]:
    """Return the cases in which systems take turns, in bfloat16 alone."""
    found = []
    for case in CASES:
        if case.name not in TITLES:
            continue
        systems = [s for s in case.systems if s.precision == "bfloat16"]
        if case.name == "rollouts":
            systems.insert(1, VLLM)
        title = TITLES[case.name].format(
            questions=QUESTIONS[case.name], tokens=size.new_tokens
        )
        labels = {system.label for system in systems}
        bars = tuple(bar for bar in case.bars if {bar.ours, bar.peer} <= labels)
        found.append(replace(case, title=title, systems=tuple(systems), bars=bars))
    return found


def memory_systems(size: Size) -> list[System]:
    """Return a step of ours at each length, plain and with checkpointing."""
    found = []
    for limit in size.limits:
        for setting in ("off", "on"):
            passes = Passes(size.prompt + limit, size.shown + limit, limit)
            options: dict[str, Any] = {
                "checkpointing": setting,
                "passes": {
                    "student": passes.student,
                    "teacher": passes.teacher,
                    "completion": passes.completion,
                },
            }
            label = f"{limit:,} tokens, checkpointing {setting}"
            found.append(System(label, "memory:ours", "bfloat16", options))
    return found
