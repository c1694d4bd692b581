"""Settings of what a model is asked, and how its answers are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from neuron_opsd.section import (
    Day,
    Depth,
    Fraction,
    NotNegative,
    Positive,
    Probability,
    Section,
    Temperature,
)


class ModelConfig(Section):
    """Which model, and how its numbers are computed."""

    name: str = ""
    """Folder, GGUF file or hub id of a causal language model; methods that read neurons
    need one with gated MLPs."""
    revision: str = "main"
    """Commit or tag of a hub id."""
    allow_download: bool = False
    """Whether a hub id that is not in the local cache may be downloaded."""
    device: str = "auto"
    """`auto` takes a CUDA device where there is one, else the processor."""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; master weights stay float32. `auto` takes bfloat16
    on CUDA and on processors that have it in hardware. `full` tuning, and the model it
    made, compute in float32 whatever is set here."""
    reasoning_start: str = ""
    """Mark before reasoning, for example `<think>`, where it is none of the known marks
    that the chat template names, which count in any case, or else all known ones."""
    reasoning_end: str = ""
    """Mark after it, for example `</think>`."""
    tokens_per_batch: Positive = 4096
    """Tokens that one forward pass may hold, and half as many where memory runs out;
    take 16384 or more on a large GPU."""


class QuestionsConfig(Section):
    """How the files of questions are read."""

    format: str = "auto"
    """What the columns mean: a public set by its name (docs/reference/files.md),
    `plain` for columns by the product's own names and no others, or `auto`, which
    recognises public sets by their columns; `pool=plain,exam=gpqa` gives files their
    own."""
    answers: Literal["auto", "text", "letter", "index-from-0", "index-from-1"] = "auto"
    """What a gold answer to a question with choices is, where the file cannot tell."""
    drop_repeated_choices: bool = False
    """Leave out, and count, questions that offer the same choice twice; else they are
    an error."""
    max_row_bytes: Positive = 16_000_000
    """Longest row that is read; a longer one is an error, and so is what goes beyond
    the bounds below. None of them is met by a set made to be asked; they keep a damaged
    or hostile file from taking the machine's memory."""
    max_columns: Positive = 1000
    """Most columns of a file."""
    max_depth: Depth = 50
    """Most lists and objects within one another, the row itself counted."""
    max_rows: Positive = 10_000_000
    """Most rows of a file."""
    max_file_bytes: Positive = 100_000_000_000
    """Largest file, as it is once expanded."""
    max_expansion: Positive = 500
    """How many times as large a compressed or Parquet file may become; counts from
    100 MB on."""


class PromptsConfig(Section):
    """How a question is put, to the student and to the teacher alike."""

    form: Literal["auto", "chat", "plain"] = "auto"
    """`chat` uses the model's chat template, `plain` writes `Question: ...` and
    `Answer:` and ends answers at a line break; `auto` takes the chat template where the
    model has one."""
    question_label: str = "Question"
    """Word before a question in the plain form."""
    answer_label: str = "Answer"
    """Word before an answer in the plain form."""
    system: str = ""
    """System message of the chat form; the first line of the plain form."""
    instruction: str = ""
    """Text put after every question, for example how to give the final answer."""
    list_choices: Literal["auto", "no", "texts", "letters"] = "auto"
    """Whether the choices stand in the prompt, one a line; `auto` lists them with
    letters where answers are written freely, not where they are sampled among them."""
    student_thinking: bool | None = None
    """Reasoning switch of chat templates that have one, for the student. Unset leaves
    it to the template, but turns it off where answers are sampled among choices."""
    teacher_thinking: bool | None = None
    """The same for the teacher."""
    date: Day = ""
    """Day that a chat template prints; empty takes the day on which the run began."""


class RolloutsConfig(Section):
    """How the model answers the pool."""

    mode: Literal["auto", "free", "constrained"] = "auto"
    """`constrained` samples among a question's choices alone; `auto` does so where
    there are choices and the model has fewer than `constrain_below` parameters. A run
    keeps what it came to."""
    constrain_below: NotNegative = 1_000_000_000
    """Parameters below which `auto` constrains answers to the choices."""
    num_samples: Positive = 8
    """Completions per question of the pool; the first is the paper's rollout, all
    of them vote."""
    temperature: Temperature = 0.6
    """Divides the logits before sampling."""
    top_p: Fraction = 0.95
    """Nucleus of free sampling, here and in tests; constrained sampling keeps every
    choice."""
    top_k: NotNegative = 0
    """Sample among this many most probable tokens, here and in tests; 0 takes all.
    Qwen's advice for reasoning is 20."""
    min_p: Probability = 0.0
    """Sample among tokens at least this many times as probable as the most probable
    one, here and in tests."""
    stop: tuple[str, ...] = ()
    """Texts that end a free completion, in training and tests too; they are left out of
    it."""
    max_new_tokens: Positive = 512
    """Longest completion; a longer one is cut and counted as truncated."""
    centre_choices: bool = False
    """Whether a choice's log-probability counts less its mean over the pool, so that no
    label wins because the model likes its words; for choices that many questions share.
    Holds wherever answers are drawn among choices: pool, check, training and tests."""
    choice_bias: Mapping[str, float] = {}
    """These means, by the text of the choice, in nats; empty measures them on the pool.
    A run keeps them in `choice-bias.json`."""
    block_size: Positive = 64
    """Questions computed together and written together; a unit of work that a stopped
    run does not repeat."""
