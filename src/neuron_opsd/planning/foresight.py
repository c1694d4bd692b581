"""What fits, by a model's configuration alone: `plan --gpu-memory`.

No weights are read. Without a pool to count with the model's tokenizer, prompt lengths
are assumed, and the output says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.config_file import read_outline, read_tokenizer
from neuron_opsd.models.outline import Outline
from neuron_opsd.planning import memory
from neuron_opsd.planning.fitting import Fit, Lengths, fit
from neuron_opsd.progress import Progress
from neuron_opsd.records import Prompt
from neuron_opsd.runs.context import resolve_method
from neuron_opsd.runs.inputs import read_inputs
from neuron_opsd.runs.model_checks import check_questions
from neuron_opsd.runs.resolution import for_model, with_method
from neuron_opsd.stages.rollouts import ask, choice_tokens

QUESTION_TOKENS: Final = 256
DEMONSTRATION_TOKENS: Final = 384
"""Assumed for a prompt, and for a demonstration, without a pool."""

GIBIBYTE: Final = 2**30
"""A GPU sold with n GB has about n of these."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a model's configuration says about training it."""

    model: str
    family: str
    num_parameters: int
    num_trained: int
    """Parameters of the adapter, or all."""
    cache_token: int
    """Bytes of a token's keys and values over all layers."""
    lengths: Lengths
    fits: tuple[Fit, ...]
    """One per requested memory size."""


def foresee(
    config: Config,
    gpu_memory: Sequence[float],
    pool: str | None,
    tests: Mapping[str, str],
    progress: Progress,
) -> Foresight:
    """Say what fits on GPUs of given memories, in GB, without reading weights.

    Raises:
        ConfigError: If a memory size is invalid.
        ModelError: If the configuration cannot be read.
    """
    for amount in gpu_memory:
        if not 0 < amount < 1 << 20:
            raise ConfigError(
                f"--gpu-memory is {amount:g}, but it must be the memory of one GPU in "
                "GB, for example 24 or 80"
            )
    # Independent of what is installed here.
    plain = config.changed(
        model={"quantization": "none"}, engine={"rollouts": "transformers"}
    )
    config = with_method(plain).changed(
        model={"quantization": config.model.quantization},
        engine={"rollouts": config.engine.rollouts},
    )
    outline = read_outline(config.model)
    lengths = taken_lengths(outline, config)
    if pool is not None:
        lengths = counted_lengths(pool, tests, config, progress)
    trained = outline.num_parameters
    if config.distill.tuning == "lora":
        trained = outline.num_adapter_parameters(config.distill.lora_rank)
    return Foresight(
        model=config.model.name,
        family=outline.family,
        num_parameters=outline.num_parameters,
        num_trained=trained,
        cache_token=memory.cache_bytes(outline, 1),
        lengths=lengths,
        fits=tuple(
            fit(outline, lengths, config, round(amount * GIBIBYTE))
            for amount in gpu_memory
        ),
    )


def taken_lengths(outline: Outline, config: Config) -> Lengths:
    """Return the lengths assumed without a pool."""
    completion = config.most_new_tokens
    shown = QUESTION_TOKENS + config.contexts.num_demonstrations * DEMONSTRATION_TOKENS
    limits = [config.contexts.max_tokens, outline.max_positions - completion]
    shown = min([shown, *(limit for limit in limits if limit > 0)])
    return Lengths(min(QUESTION_TOKENS, shown), shown, completion)


def counted_lengths(
    pool: str, tests: Mapping[str, str], config: Config, progress: Progress
) -> Lengths:
    """Return the longest prompts and answers of a pool.

    The teacher's longest is assumed to show the longest questions.
    """
    inputs = read_inputs(pool, tests, config, progress.warn)
    tokenizer = read_tokenizer(config.model)
    own = for_model(config, tokenizer.facts)
    chooses = inputs.chooses
    resolved = resolve_method(own, tokenizer, inputs.pool, chooses=chooses)
    check_questions(tokenizer, inputs, resolved)
    asked = ask(inputs.pool, resolved)
    sizes = sorted(len(tokenizer.encode(a.prompt)) for a in asked)
    answer = max(
        max(map(len, choice_tokens(tokenizer, a)))
        if a.written
        else resolved.most_new_tokens
        for a in asked
    )
    number = config.contexts.num_demonstrations
    demonstrations = sum(sizes[-number:]) if number else 0
    if config.shows_given:
        given = (Prompt(text=question.given) for question in inputs.pool)
        demonstrations = max(len(tokenizer.encode(text)) for text in given)
    elif config.contexts.content == "full":
        demonstrations += number * answer
    limits = [config.contexts.max_tokens, tokenizer.facts.max_positions - answer]
    shown = min([sizes[-1] + demonstrations, *(most for most in limits if most > 0)])
    return Lengths(sizes[-1], max(shown, sizes[-1]), answer, counted=True)
