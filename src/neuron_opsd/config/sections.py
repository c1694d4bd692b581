"""Settings of what a model is asked, and of how it and its teacher are judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from neuron_opsd.section import (
    Day,
    Depth,
    Fraction,
    NotNegative,
    Positive,
    Probability,
    Rate,
    Section,
    Temperature,
)

FORM_ONLY: Final = "form-only"
"""The method that every gain is stated net of, and its control in a run."""


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
    """`auto` uses a CUDA device if there is one, otherwise the processor."""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; what is trained stays in float32, and frozen
    weights in the precision of their file. `auto` is bfloat16 on CUDA and on processors
    with hardware support. `float32` holds frozen weights in float32 too, twice the
    memory of a bfloat16 file. `full` tuning, and the model it made, always compute in
    float32."""
    quantization: Literal["none", "nf4"] = "none"
    """`nf4` packs the frozen matrices into four bits as they are loaded (QLoRA), which
    takes a third of the memory of a bfloat16 file; needs the extra `qlora`, and trains
    only an adapter."""
    reasoning_start: str = ""
    """Mark before reasoning, for example `<think>`, in addition to the known marks:
    those that the chat template names, or all of them if it names none."""
    reasoning_end: str = ""
    """Mark after it, for example `</think>`."""
    tokens_per_batch: Positive = 4096
    """Tokens that one forward pass may hold, halved if memory runs out; use 16384 or
    more on a large GPU."""


class QuestionsConfig(Section):
    """How the files of questions are read."""

    format: str = "auto"
    """What the columns mean: a public set by its name (docs/reference/files.md),
    `plain` for this program's own column names and no others, or `auto`, which
    recognises public sets by their columns; `pool=plain,exam=gpqa` sets it for each
    file."""
    answers: Literal["auto", "text", "letter", "index-from-0", "index-from-1"] = "auto"
    """What gold answers to questions with choices are, if the file is ambiguous."""
    drop_repeated_choices: bool = False
    """Leave out, and count, questions that offer the same choice twice; otherwise they
    are an error."""
    max_row_bytes: Positive = 16_000_000
    """Longest row allowed; a longer one is an error, and so is anything beyond the
    limits below. No ordinary question set reaches them; they keep a damaged or hostile
    file from filling the machine's memory."""
    max_columns: Positive = 1000
    """Maximum number of columns in a file."""
    max_depth: Depth = 50
    """Deepest nesting of lists and objects, including the row itself."""
    max_rows: Positive = 10_000_000
    """Maximum number of rows in a file."""
    max_file_bytes: Positive = 100_000_000_000
    """Largest file, after decompression."""
    max_expansion: Positive = 500
    """How many times larger a compressed or Parquet file may become; checked from 100
    MB on."""


class PromptsConfig(Section):
    """How a question is asked, for student and teacher alike."""

    form: Literal["auto", "chat", "plain"] = "auto"
    """`chat` uses the model's chat template, `plain` writes `Question: ...` and
    `Answer:` and ends answers at a line break; `auto` uses the chat template if the
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
    """Whether the prompt lists the choices, one per line; `auto` lists them with
    letters if answers are written freely, and not if they are sampled among the
    choices."""
    student_thinking: bool | None = None
    """Reasoning switch of chat templates that have one, for the student. Unset leaves
    it to the template, but turns it off if answers are sampled among choices."""
    teacher_thinking: bool | None = None
    """The same for the teacher."""
    date: Day = ""
    """Date that a chat template prints; empty means the day the run began."""


class EngineConfig(Section):
    """What writes free answers, and how it is checked."""

    rollouts: Literal["transformers", "vllm"] = "transformers"
    """What writes free answers: in the pool, in training, in the teacher's check and in
    tests. `vllm` needs the extra `vllm`; everything else, such as scoring choices,
    stays in transformers."""
    decoding_memory: Annotated[float, Field(ge=0.0)] = 0.0
    """GB (10^9 bytes) that our own decoding may use for the keys and values of answers
    written side by side; 0 uses a share of free memory. It changes how many are written
    at once, and on a processor nothing else."""
    memory_share: Fraction = 0.4
    """Share of a GPU's memory that vLLM may take, weights included; no effect on a
    processor."""
    sleep: bool = True
    """Whether vLLM frees a GPU's memory while something else computes; no effect on a
    processor."""
    check_every: Positive = 10
    """Training steps between comparisons of vLLM's log-probabilities with the
    trainer's."""
    max_logprob_gap: Rate = 0.2
    """Mean distance between the two, in nats per token, above which training stops;
    above 0.05 it warns."""


class ClusterConfig(Section):
    """Which machines models answer and train on."""

    address: str = ""
    """Ray cluster whose workers answer, read neurons and test, each with its own model,
    and train one together: `local` starts Ray on this machine, `auto`, `HOST:PORT` or
    `ray://HOST:PORT` joins a running one. Empty means this process."""
    workers: NotNegative = 0
    """Number of workers; 0 means as many as fit on the cluster."""
    gpus_per_worker: Annotated[float, Field(ge=0.0)] | None = None
    """GPUs per worker; unset means one if the cluster has any."""
    cpus_per_worker: NotNegative = 0
    """Processors, and threads, per worker. 0 means as many as this process has threads,
    which gives the same bits as without a cluster; with GPUs, one."""
    timeout: Positive = 300
    """Seconds to wait for the cluster to answer, and for a first worker."""
    step_timeout: Positive = 3600
    """Seconds that processes training together, by Ray or torchrun, wait in a step for
    the slowest before it counts as lost. One that has ended is noticed at once."""


class RolloutsConfig(Section):
    """How the model answers the pool."""

    mode: Literal["auto", "free", "constrained"] = "auto"
    """`constrained` samples only among a question's choices; `auto` does so if there
    are choices and the model has fewer than `constrain_below` parameters. A run keeps
    what was decided at its start."""
    constrain_below: NotNegative = 1_000_000_000
    """Parameters below which `auto` constrains answers to the choices."""
    num_samples: Positive = 8
    """Completions per question of the pool; the first is the paper's rollout, and all
    of them vote."""
    temperature: Temperature = 0.6
    """Divides the logits before sampling."""
    top_p: Fraction = 0.95
    """Nucleus of free sampling, here and in tests; constrained sampling keeps every
    choice."""
    top_k: NotNegative = 0
    """Sample among this many of the most probable tokens, here and in tests; 0 means
    all. Qwen recommends 20 for reasoning."""
    min_p: Probability = 0.0
    """Sample among tokens at least this many times as probable as the most probable
    one, here and in tests."""
    stop: tuple[str, ...] = ()
    """Texts that end a free completion, also in training and tests; they are not part
    of it."""
    max_new_tokens: Positive = 512
    """Longest completion; a longer one is cut and counted as truncated."""
    centre_choices: bool = False
    """Whether to subtract from a choice's log-probability its mean over the pool, so
    that no label wins because the model likes its words; for choices that many
    questions share. Applies wherever answers are sampled among choices: pool, check,
    training and tests."""
    choice_bias: Mapping[str, float] = {}
    """These means, by the text of the choice, in nats; empty measures them on the pool.
    A run keeps them in `choice-bias.json`."""
    block_size: Positive = 64
    """Questions computed and written together; a stopped run loses at most this much
    work."""


class TeacherCheckConfig(Section):
    """How the teacher is checked, without labels, before it teaches."""

    action: Literal["warn", "stop", "off"] = "warn"
    """What to do with a teacher that fails the check; `off` skips the check."""
    one_answer: Literal["stop", "warn"] = "stop"
    """What to do if the student gives one answer to nearly everything and the teacher
    says the same, so that there is nothing to learn. Has no effect if the check is
    off."""
    num_questions: Positive = 64
    """How many selected questions are checked."""
    max_agreement_loss: Probability = 0.4
    """How much lower the teacher's agreement with the student's vote may be than the
    student's own; good teachers of a small model lose up to 0.25."""
    max_top_answer_gain: Probability = 0.2
    """How much more often the teacher may give one and the same answer than the student
    does, and how much more often the model may give an answer in the selection than in
    the pool."""
    max_pool_share: Probability = 0.2
    """Share of the pool that one free-text answer may take."""
    max_answer_share: Probability = 0.95
    """Share of the student's answers to the pool above which one answer counts as given
    to nearly everything; also for the teacher."""
    min_divergence: Annotated[float, Field(ge=0.0)] = 0.01
    """Divergence in nats, of the choice or per token, below which the teacher counts as
    equal to the student; good teachers start at 0.05 or more."""
    min_stability: Probability = 0.5
    """Share of answers that must stay the same with another context."""


class EvaluationConfig(Section):
    """How a model is tested; gold answers are read here and nowhere earlier."""

    in_domain: str = ""
    """Name of the test set of the pool's own domain; empty means the first."""
    num_samples: Positive = 8
    """Completions per test question."""
    temperature: Temperature = 0.6
    """Temperature of the test rollouts."""
    max_new_tokens: NotNegative = 0
    """Longest test rollout; 0 means `rollouts.max_new_tokens`."""
    num_bins: Positive = 15
    """Equal-width bins of the expected calibration error."""
    num_resamples: Positive = 10_000
    """Bootstrap resamples of the questions."""
    min_difference: Probability = 0.01
    """Smallest difference in accuracy that matters; a smaller one is called neither
    better nor worse, however narrow its interval."""
    min_calibration_difference: Probability = 0.01
    """The same for calibration errors."""
    prompted: bool = True
    """Also test the untrained model with its own demonstrations in the prompt."""
    form_only: bool = False
    """Also train and test the form-only control: the same steps on random choices."""
    max_overlap: Fraction = 0.9
    """Share of word 5-grams above which a test question counts as being in the pool."""
