"""Settings, one frozen record per stage; flags and the TOML file mirror them exactly.

A default is written once, here; help texts and reference pages are made from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from neuron_opsd.answer_settings import AnswersConfig as AnswersConfig
from neuron_opsd.judging_settings import EvaluationConfig as EvaluationConfig
from neuron_opsd.judging_settings import FitnessConfig as FitnessConfig
from neuron_opsd.policy_settings import PolicyConfig
from neuron_opsd.question_settings import QuestionsConfig
from neuron_opsd.section import (
    Day,
    Fraction,
    NotNegative,
    Positive,
    Probability,
    Rate,
    Section,
    Temperature,
    known_rule,
    only_under_flat,
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
    """Mark before the model's reasoning, for example `<think>`; empty takes the known
    marks that the chat template names, or else all known ones."""
    reasoning_end: str = ""
    """Mark after it, for example `</think>`."""
    tokens_per_batch: Positive = 4096
    """Tokens that one forward pass may hold; lower it when memory runs out (in
    training, `distill.micro_batch_size`), and take 16384 or more on a large GPU."""


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
    there are choices and the model has fewer than `constrain_below` parameters."""
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


class NeuronsConfig(Section):
    """Which neurons count as having pushed a completion."""

    rule: Annotated[
        Literal["flat", "per-token", "neufs"], BeforeValidator(known_rule)
    ] = "flat"
    """`flat`: the strongest `per_layer` (position, neuron) pairs of each layer, and of
    each chunk where `chunk_tokens` is set; `per-token`: the strongest `keep` of each
    token over all layers, united; `neufs`: as the public NeuFS code, its dropped last
    position included."""
    value: Literal["gate", "gated"] = "gate"
    """`gate` is the output of the activation function (paper and NeuFS); `gated` the
    true input of the down-projection."""
    per_layer: NotNegative = 0
    """Entries kept per layer; 0 scales the paper's 2,000 of 9,728 to the model."""
    keep: NotNegative = 0
    """Neurons kept for overlap; 0 scales the paper's 5,000 of 36 x 9,728."""
    chunk_tokens: Annotated[NotNegative, AfterValidator(only_under_flat)] = 0
    """Tokens of a chunk under `flat`, which unites the lists of all chunks; 0 takes the
    whole completion as one, whose count falls with length and with repetition."""
    span: Literal["completion", "reasoning", "answer"] = "completion"
    """Which tokens count: all, the reasoning, or the final answer after it. Completions
    without the part that is asked for count as a whole."""


class SelectionConfig(Section):
    """Which questions of the pool are trained on."""

    rule: Literal["fewest-neurons", "most-neurons", "random", "all"] = "fewest-neurons"
    """Which questions to keep; few neurons mean high consensus."""
    keep_fraction: Fraction = 0.2
    """Share of the pool to keep. Questions tied with the last one may add a twentieth
    to it; where they would add more, a seeded draw decides between them."""
    balance: bool = False
    """Keep the share within each own answer that many questions have, so that no
    answer takes over; for tasks whose answers repeat, such as labels."""
    include_unread: bool = False
    """Whether to keep questions whose own completion was cut or holds no answer that
    can be read; `all` keeps them in any case."""


class ContextsConfig(Section):
    """Which demonstrations the teacher sees."""

    rule: Literal["nearest", "words", "random"] = "nearest"
    """`nearest` by Jaccard distance between neuron sets, `words` by that between the
    sets of words of the questions, or `random`."""
    source: Literal["pool", "selected"] = "pool"
    """Where demonstrations come from: the whole pool, or the selected questions."""
    num_demonstrations: NotNegative = 10
    """Demonstrations per question; 0 leaves the teacher without a context."""
    answer: Literal["first", "greedy", "voted"] = "first"
    """Which own answer a demonstration shows: the first sampled one (the paper), the
    greedy one, or the first sampled one that gives the voted answer."""
    content: Literal["final", "full"] = "final"
    """`final` leaves out the reasoning; `full` shows it as plain text, without its
    marks, since chat templates cut marked reasoning out of earlier turns."""
    max_tokens: NotNegative = 0
    """Longest teacher's prompt; the farthest demonstrations are left out beyond it. 0
    is what the model holds."""
    max_demonstration_tokens: NotNegative = 0
    """Longest question and answer together that may be a demonstration; 0 sets no
    limit."""


class DistillConfig(Section):
    """How the student learns from the teacher."""

    divergence: Literal["reverse-kl", "forward-kl", "jsd"] = "reverse-kl"
    """Per-token divergence; `reverse-kl` is KL(student || teacher)."""
    beta: Probability = 0.5
    """Weight of the teacher in the mixture of `jsd`."""
    top_k: NotNegative = 0
    """Compare only the probabilities of this many most likely tokens and of all others
    together; 0 compares those of every token."""
    top_k_of: Literal["teacher", "student"] = "teacher"
    """Whose most likely tokens these are."""
    entry_clip: Annotated[float, Field(ge=0.0)] = 0.0
    """Most that one token of the vocabulary may add to a divergence, in nats; 0 sets no
    limit. OPSD takes 0.05 with `forward-kl`."""
    teacher: Literal["ema", "frozen", "live", "periodic"] = "ema"
    """`ema` follows the student slowly, `frozen` stays the base model, `live` is the
    student itself, `periodic` copies the student every `teacher_period` steps."""
    ema_rate: Fraction = 0.01
    """Share of the student mixed into the `ema` teacher after each step."""
    teacher_period: Positive = 10
    """Steps between copies of the `periodic` teacher."""
    steps: Positive = 150
    """Optimiser steps."""
    batch_size: Positive = 16
    """Questions per optimiser step."""
    num_samples: Positive = 1
    """Rollouts per question and step; methods that compare the rollouts of a question
    need more than one."""
    micro_batch_size: Positive = 4
    """Completions per forward pass; changes memory, not the gradient."""
    temperature: Temperature = 1.0
    """Of the student's training rollouts; the loss itself uses the plain logits."""
    sampling_top_p: Fraction = 1.0
    """Nucleus of the student's training rollouts."""
    sampling_top_k: NotNegative = 0
    """Their most probable tokens to sample among; 0 takes all."""
    sampling_min_p: Probability = 0.0
    """Their least probability beside the most probable token's."""
    max_new_tokens: NotNegative = 0
    """Longest training rollout; 0 takes `rollouts.max_new_tokens`."""
    tuning: Literal["lora", "full"] = "lora"
    """Train a low-rank adapter on every linear layer, or all weights. `full` computes
    in float32, since bfloat16 would round most of a step away."""
    lora_rank: Positive = 16
    """Rank of the adapter."""
    lora_alpha: Positive = 32
    """Scale of the adapter is `lora_alpha / lora_rank`."""
    learning_rate: Rate = 1e-4
    """Peak rate of AdamW; about 1e-6 to 2e-5 suits `full` tuning."""
    warmup_steps: NotNegative = 10
    """Steps over which the rate rises from zero."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate changes after warm-up; `linear` and `cosine` end at zero."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled weight decay of AdamW."""
    max_grad_norm: Rate = 1.0
    """Gradients are scaled down to this norm."""
    chunk_positions: Positive = 128
    """Positions whose logits are held at once; changes memory, not the gradient."""
    checkpoint_every: Positive = 10
    """Steps between checkpoints."""


class Config(Section):
    """Everything that a run depends on besides its questions."""

    seed: NotNegative = 0
    """Every random draw of the run derives from this number."""
    method: str = "neuron-opsd"
    """What is trained on and towards what; `neuron-opsd methods` lists the names."""
    preset: Literal["equal", "source"] = "equal"
    """`equal` trains every method with the same budget and rate; `source` as its paper
    or public code does, see docs/methods.md. What is set by name wins over both."""
    model: ModelConfig = ModelConfig()
    questions: QuestionsConfig = QuestionsConfig()
    prompts: PromptsConfig = PromptsConfig()
    answers: AnswersConfig = AnswersConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    neurons: NeuronsConfig = NeuronsConfig()
    selection: SelectionConfig = SelectionConfig()
    contexts: ContextsConfig = ContextsConfig()
    distill: DistillConfig = DistillConfig()
    policy: PolicyConfig = PolicyConfig()
    fitness: FitnessConfig = FitnessConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def training_tokens(self) -> int:
        """The longest training rollout."""
        return self.distill.max_new_tokens or self.rollouts.max_new_tokens

    @property
    def test_tokens(self) -> int:
        """The longest test rollout."""
        return self.evaluation.max_new_tokens or self.rollouts.max_new_tokens

    @property
    def most_new_tokens(self) -> int:
        """The longest completion of any stage."""
        return max(self.rollouts.max_new_tokens, self.training_tokens, self.test_tokens)

    @property
    def tests_prompted(self) -> bool:
        """Whether the untrained model is tested with demonstrations in its prompt."""
        return self.evaluation.prompted and self.contexts.num_demonstrations > 0
