"""What a model is and how it is prompted, told before any of its weights are read.

Questions are checked with it, so that a bad one is reported in a moment and not after a
model of many gigabytes was loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging

from neuron_opsd.answers.reasoning import Marks
from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.forward.layers import as_linear, readable_mlps
from neuron_opsd.models.library_errors import refusing
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.models.tokenizer.prompting import Prompting
from neuron_opsd.models.tokenizer.tokens import Tokens, check_tokens
from neuron_opsd.models.tokenizer.trial import try_tokenizer
from neuron_opsd.models.weights.headers import (
    refuse_absurd,
    refuse_unheld,
    stored_weights,
)
from neuron_opsd.models.weights.location import advice, check_source, hub_options
from neuron_opsd.models.weights.precision import compute_of, device_of
from neuron_opsd.models.weights.refusals import (
    refuse_other_families,
    refuse_other_kinds,
    refuse_own_code,
    refuse_own_kernels,
    refuse_quantised,
)
from neuron_opsd.models.weights.shards import check_weights, file_of

GENERATION: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"


def load_tokenizer(config: ModelConfig) -> Prompting:
    """Load what a model makes of texts, and none of its weights.

    Raises:
        ModelError: If the model is missing, is pickled, needs its own code, or cannot
            be what its files say.
    """
    quiet()
    source = check_source(config)
    settings = settings_of(config, source)
    outline = outline_of(config, settings)
    with loading(config):
        stored = stored_weights(source, hub_options(config))
    refuse_unheld(config.name, outline, stored)
    tokens = load_tokens(source, config, end_ids_of(config, source, settings))
    device = device_of(config)
    facts = facts_of(outline, tokens, config, device, compute_of(config, device))
    return Prompting(tokens, facts)


def quiet() -> None:
    """Keep transformers' own bars and hints off the terminal."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def outline_of(config: ModelConfig, settings: Any) -> Any:
    """Return a network as its configuration describes it, without memory for weights.

    Raises:
        ModelError: If transformers cannot build it.
    """
    with loading(config), torch.device("meta"):
        network = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    return as_linear(network)


def settings_of(config: ModelConfig, source: str) -> Any:
    """Return a model's configuration as transformers reads it, once it may be read.

    Raises:
        ModelError: If it is of a kind that is not read, or names other weights.
    """
    options = hub_options(config)
    with loading(config):
        written, _ = PreTrainedConfig.get_config_dict(source, **options)
        refuse_own_code(source, written)
        refuse_own_kernels(source, written)
        refuse_quantised(config.name, written)
        check_weights(source, written, options)
        refuse_other_families(config.name, written)
        refuse_absurd(config.name, written, stored_weights(source, options))
        settings = AutoConfig.from_pretrained(source, **options)
        refuse_other_kinds(config.name, settings)
    return settings


def end_ids_of(config: ModelConfig, source: str, settings: Any) -> list[int]:
    """Return the end tokens that a model's settings name, none where they do not.

    Raises:
        ModelError: If what they name is no token.
    """
    options = hub_options(config)
    del options["trust_remote_code"]
    with loading(config):
        if file_of(source, GENERATION, options) is None:
            inner = settings.get_text_config()
            named = settings.eos_token_id
            named = inner.eos_token_id if named is None else named
        else:
            named = GenerationConfig.from_pretrained(source, **options).eos_token_id
    ends: list[Any] = named if isinstance(named, list) else [named]
    wrong = [end for end in ends if not isinstance(end, int | None)]
    if wrong:
        raise ModelError(
            f"eos_token_id of the generation settings is {wrong[0]!r}, but it must be "
            f"the number of a token; fix {GENERATION}"
        )
    return [end for end in ends if end is not None]


def loading(config: ModelConfig) -> Any:
    """Turn what transformers raises over a model into one line."""
    return refusing(
        f"model {config.name} cannot be loaded",
        advice(config) or "get its files again from one place, or use another model",
    )


def load_tokens(source: str, config: ModelConfig, ends: Sequence[int]) -> Tokens:
    """Load the tokenizer and find the tokens that end a completion.

    These are what the model's settings and its tokenizer name, and what its chat
    template closes an answer with.

    Raises:
        ModelError: If there is no tokenizer, it names no end token, or is not the
            model's own.
    """
    # The tokenizers library raises a bare Exception over a file that it cannot read.
    with refusing(
        f"the tokenizer of {config.name} cannot be loaded",
        advice(config) or "get its tokenizer files again",
        faults=(Exception,),
    ):
        try_tokenizer(file_of(source, TOKENIZER, hub_options(config)))
        tokenizer = AutoTokenizer.from_pretrained(source, **hub_options(config))
        named = frozenset({*ends, tokenizer.eos_token_id} - {None})
        found = Tokens(tokenizer, named, marks_of(config), config.name)
        check_tokens(found)
    ending = found.ending_as_written()
    if not ending.end_ids:
        raise ModelError(f"the tokenizer of {config.name} names no end token")
    return ending


def marks_of(config: ModelConfig) -> tuple[Marks, ...]:
    """Return the marks of reasoning that the settings name, none where they do not.

    Raises:
        ModelError: If they name one of the two alone.
    """
    start, end = config.reasoning_start, config.reasoning_end
    if not start and not end:
        return ()
    if not (start and end) or start == end:
        raise ModelError(
            f"model.reasoning_start is {start!r} and model.reasoning_end {end!r}, but "
            "reasoning has two different marks; give both, or neither for the known "
            "ones"
        )
    return (Marks(start, end),)


def facts_of(
    network: Any, tokens: Tokens, config: ModelConfig, device: str, compute: str
) -> ModelFacts:
    """Return what a model is, whether its weights are there or not.

    Args:
        network: With or without weights.
        tokens: Its tokenizer.
        config: Of the model.
        device: Where it is computed.
        compute: Precision of its products.
    """
    mlps, why_none = readable_mlps(network)
    head = network.get_output_embeddings().weight
    settings = network.config.get_text_config()
    return ModelFacts(
        name=config.name,
        family=settings.model_type,
        num_parameters=sum(weight.numel() for weight in network.parameters()),
        num_layers=settings.num_hidden_layers,
        num_neurons=mlps[0].down_proj.in_features if mlps else 0,
        width=head.shape[1],
        vocab_size=head.shape[0],
        max_positions=max_positions_of(settings),
        has_chat_template=tokens.has_chat_template,
        device=device,
        compute=compute,
        why_no_neurons=why_none,
        prints_date=tokens.has_chat_template and tokens.template.prints_date,
        closes_answers=tokens.closing_id is not None,
    )


def max_positions_of(settings: Any) -> int:
    """Return how many positions a model holds.

    Raises:
        ModelError: If its configuration does not say, as Bloom's and MPT's do not.
    """
    found = getattr(settings, "max_position_embeddings", None)
    if not isinstance(found, int):
        raise ModelError(
            f"the configuration of this {settings.model_type} model does not say how "
            "many positions it holds; use a model of another family"
        )
    return found
