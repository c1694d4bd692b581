"""Making the job of a case: prompts as token ids, and the least that it can cost.

    echo '{"work": "rollouts", "scale": 1, ...}' | python -m benchmarks.speed.prepare

The cost counts each prompt once per question, one product with every weight per token,
the backward pass to inputs but not to frozen weights, and no attention. So it is a
lower bound, and what is reported as per cent of the roofline is never flattered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Final

from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from benchmarks.speed.job import Work
from neuron_opsd.config import PromptsConfig
from neuron_opsd.data.questions import read_questions
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.prompts import choice_answers, student_prompt, teacher_prompt
from neuron_opsd.records import Question

FORM: Final = PromptsConfig(form="plain")
NUM_SAMPLES: Final = 8
NEW_TOKENS: Final = 32
NUM_DEMONSTRATIONS: Final = 10
HEADS: Final = ("embed_tokens", "lm_head")


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model is."""

    core: int
    """Weights of its layers."""
    head: int
    """Weights of its unembedding."""
    kept: int
    """Numbers that generation keeps of every token."""


@dataclass(frozen=True, slots=True)
class Source:
    """What jobs are made of."""

    questions: Sequence[Question]
    tokens: Tokens
    size: Size
    new_tokens: int = NEW_TOKENS
    """Length of every completion."""

    def prompts(self, count: int) -> list[list[int]]:
        """Return the first questions' prompts.

        Raises:
            ValueError: If there are not as many.
        """
        if count > len(self.questions):
            raise ValueError(
                f"the job needs {count} questions, there are {len(self.questions)}"
            )
        return [
            list(self.tokens.encode(student_prompt(question, FORM)))
            for question in self.questions[:count]
        ]


def rollouts(source: Source, scale: int) -> Work:
    """Return 16 questions, 8 samples each, and the cost of drawing these."""
    prompts = source.prompts(16 * scale)
    length = source.new_tokens
    cost = drawing(source.size, prompts, NUM_SAMPLES, length)
    return Work("token", *cost, prompts, NUM_SAMPLES, length)


def choices(source: Source, scale: int) -> Work:
    """Return 64 questions with the token ids of their choices."""
    prompts = source.prompts(64 * scale)
    groups = [
        [
            list(source.tokens.encode_answer(student_prompt(question, FORM), text))
            for text in choice_answers(question, FORM)
        ]
        for question in source.questions[: len(prompts)]
    ]
    cost = reading(source.size, total(prompts))
    return Work("question", *cost, prompts, completions=groups)


def capture(source: Source, scale: int) -> Work:
    """Return 64 prompts, each with 32 tokens of other questions as its completion."""
    prompts = source.prompts(64 * scale)
    text = list(chain.from_iterable(source.prompts(len(source.questions))))
    length = source.new_tokens
    completions = [[piece] for piece in pieces(text, len(prompts), length)]
    cost = reading(source.size, total(prompts) + length * len(prompts))
    return Work("completion", *cost, prompts, 1, length, completions)


def pieces(
    text: Sequence[int], count: int, length: int = NEW_TOKENS
) -> list[list[int]]:
    """Cut a text into completions, from the start again where it ends too early."""
    tokens = cycle(text)
    return [list(islice(tokens, length)) for _ in range(count)]


def step(source: Source, scale: int) -> Work:
    """Return 16 questions with 10 demonstrations each, and the cost of one step."""
    count = 16 * scale
    prompts = source.prompts(count)
    texts, contexts, teachers = [], [], []
    for i, question in enumerate(source.questions[:count]):
        shown = source.questions[count + i : count + i + NUM_DEMONSTRATIONS]
        # Any choice does: it is the work that is measured, not what is learnt.
        pairs = [(other, other.choices[0]) for other in shown]
        prompt = teacher_prompt(question, pairs, FORM)
        text = student_prompt(question, FORM).text
        texts.append(text)
        contexts.append(prompt.text.removesuffix(f"\n\n{text}"))
        teachers.append(list(source.tokens.encode(prompt)))
    completed = source.new_tokens * count
    core, head = source.size.core, source.size.head
    drawn = drawing(source.size, prompts, 1, source.new_tokens)
    # Forward and back to the inputs for the student, forward for the teacher; of the
    # head, both forwards and the way back.
    flops = 4.0 * core * (total(prompts) + completed)
    flops += 2.0 * core * (total(teachers) + completed) + 6.0 * head * completed
    cost = (drawn[0] + flops, drawn[1] + 3.0 * core + 3.0 * head)
    return Work(
        "step",
        *cost,
        prompts,
        new_tokens=source.new_tokens,
        teacher_prompts=teachers,
        texts=texts,
        contexts=contexts,
    )


WORKS: Final[dict[str, Callable[[Source, int], Work]]] = {
    "rollouts": rollouts,
    "choices": choices,
    "capture": capture,
    "step": step,
}


def reading(size: Size, num_tokens: int) -> tuple[float, float]:
    """Return operations and reads of a forward pass over some tokens."""
    return 2.0 * size.core * num_tokens, float(size.core)


def drawing(
    size: Size, prompts: list[list[int]], num_samples: int, length: int = NEW_TOKENS
) -> tuple[float, float]:
    """Return operations and reads of reading prompts and drawing their completions."""
    flops, reads = reading(size, total(prompts))
    rows = len(prompts) * num_samples
    flops += 2.0 * (size.core + size.head) * rows * length
    reads += float(size.core + size.head) * length
    # A prompt's memory is read once for all its samples, a sample's own grows.
    reads += size.kept * length * (total(prompts) + rows * length / 2)
    return flops, reads


def total(sequences: Sequence[Sequence[int]]) -> int:
    """Return the tokens of all sequences."""
    return sum(map(len, sequences))


def size_of(model: Path) -> Size:
    """Return how large the model in a folder is, from its files' headers."""
    counts: dict[str, int] = {}
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - no mapping
                number = 1
                for side in stored.get_slice(name).get_shape():
                    number *= side
                counts[name] = number
    ends = {n: c for n, c in counts.items() if any(head in n for head in HEADS)}
    config = AutoConfig.from_pretrained(model)
    width = getattr(config, "head_dim", None)
    width = width or config.hidden_size // config.num_attention_heads
    return Size(
        core=sum(counts.values()) - sum(ends.values()),
        head=max(ends.values()),
        kept=2 * config.num_hidden_layers * config.num_key_value_heads * width,
    )


def main() -> None:
    """Read what is wanted from stdin and write the job to stdout."""
    wanted = json.loads(sys.stdin.read())
    tokenizer = AutoTokenizer.from_pretrained(wanted["model"])
    source = Source(
        questions=read_questions(Path(wanted["questions"])).questions,
        tokens=Tokens(tokenizer, frozenset({tokenizer.eos_token_id})),
        size=size_of(Path(wanted["model"])),
        new_tokens=wanted["new_tokens"],
    )
    print(json.dumps(asdict(WORKS[wanted["work"]](source, wanted["scale"]))))


if __name__ == "__main__":
    main()
