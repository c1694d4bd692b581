"""What a model is and how it is prompted, read before any weights.

So a bad question is reported before gigabytes are loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from transformers import AutoConfig, AutoTokenizer
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation.configuration_utils import GenerationConfig
from transformers.utils import logging as transformers_logging

from neuron_opsd.answers.reasoning import Marks
from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.forward.layers import outlined, readable_mlps
from neuron_opsd.models.library_errors import refusing
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.models.tokenizer import loading_worker
from neuron_opsd.models.tokenizer.encoding import ModelTokenizer, Tokens, check_tokens
from neuron_opsd.models.weights import refusals
from neuron_opsd.models.weights.location import advice, source_of
from neuron_opsd.models.weights.precision import compute_of, device_of
from neuron_opsd.models.weights.shards import Source, check_weights, stored_weights
from neuron_opsd.processes import workers

GENERATION: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"

TRIED: Final = (b'"Regex"', b'"Replace"', b'"Prepend"')
"""What can make a tokenizer slow or its text grow."""


def load_tokenizer(config: ModelConfig) -> ModelTokenizer:
    """Load a model's tokenizer and facts, without its weights.

    Raises:
        ModelError: If the model is missing, pickled, needs its own code or contradicts
            its files.
    """
    quiet()
    source = source_of(config)
    settings = settings_of(config, source)
    with loading(config):
        outline = outlined(settings)
        refusals.refuse_unheld(config.name, outline, stored_weights(source))
    tokens = load_tokens(source, config, end_ids_of(config, source, settings))
    return ModelTokenizer(tokens, facts_of(outline, tokens, config))


def quiet() -> None:
    """Silence transformers' progress bars and hints."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def settings_of(config: ModelConfig, source: Source) -> Any:
    """Check a model's configuration and return it as transformers reads it."""
    with loading(config):
        written, _ = PreTrainedConfig.get_config_dict(source.place, **source.options)
        refusals.refuse_foreign(config.name, source.place, written)
        check_weights(source, written)
        refusals.refuse_other_families(config.name, written)
        refusals.refuse_absurd(config.name, written, stored_weights(source))
        settings = AutoConfig.from_pretrained(source.place, **source.options)
        refusals.refuse_other_kinds(config.name, settings)
    return settings


def end_ids_of(config: ModelConfig, source: Source, settings: Any) -> list[int]:
    """Return the end tokens named by a model's settings, if any."""
    with loading(config):
        if source.file(GENERATION) is None:
            named = settings.eos_token_id
            if named is None:
                named = settings.get_text_config().eos_token_id
        else:
            found = GenerationConfig.from_pretrained(source.place, **source.reach)
            named = found.eos_token_id
    ends: list[Any] = named if isinstance(named, list) else [named]
    wrong = [end for end in ends if not isinstance(end, int | None)]
    if wrong:
        raise ModelError(
            f"eos_token_id of the generation settings is {wrong[0]!r}, but it must be "
            f"the number of a token; fix {GENERATION}"
        )
    return [end for end in ends if end is not None]


def loading(config: ModelConfig) -> Any:
    """Turn transformers' errors about a model into one line."""
    return refusing(
        f"model {config.name} cannot be loaded",
        advice(config) or "get all its files from one place, or use another model",
    )


def load_tokens(source: Source, config: ModelConfig, ends: Sequence[int]) -> Tokens:
    """Load the tokenizer and find the tokens that end a completion.

    They come from the model's settings, its tokenizer and its chat template.
    """
    # The tokenizers library raises a bare Exception on an unreadable file.
    with refusing(
        f"the tokenizer of {config.name} cannot be loaded",
        advice(config) or "get its tokenizer files again",
        faults=(Exception,),
    ):
        try_tokenizer(source.file(TOKENIZER))
        tokenizer = AutoTokenizer.from_pretrained(source.place, **source.options)
        named = frozenset({*ends, tokenizer.eos_token_id} - {None})
        found = Tokens(tokenizer, named, marks_of(config), config.name)
        check_tokens(found)
    ending = found.ending_as_written()
    if not ending.end_ids:
        raise ModelError(f"the tokenizer of {config.name} names no end token")
    return ending


def marks_of(config: ModelConfig) -> tuple[Marks, ...]:
    """Return the reasoning marks named by the settings, if any."""
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


def facts_of(network: Any, tokens: Tokens, config: ModelConfig) -> ModelFacts:
    """Return the facts of a model; its network may be on the meta device."""
    mlps, why_none = readable_mlps(network)
    head = network.get_output_embeddings().weight
    settings = network.config.get_text_config()
    max_positions = getattr(settings, "max_position_embeddings", None)
    if not isinstance(max_positions, int):
        raise ModelError(
            f"the configuration of this {settings.model_type} model does not say how "
            "many positions it holds; use a model of another family"
        )
    device = device_of(config)
    return ModelFacts(
        name=config.name,
        family=settings.model_type,
        num_parameters=sum(weight.numel() for weight in network.parameters()),
        num_layers=settings.num_hidden_layers,
        num_neurons=mlps[0].down_proj.in_features if mlps else 0,
        width=head.shape[1],
        vocab_size=head.shape[0],
        max_positions=max_positions,
        has_chat_template=tokens.has_chat_template,
        device=device,
        compute=compute_of(config, device),
        why_no_neurons=why_none,
        prints_date=tokens.has_chat_template and tokens.template.prints_date,
        closes_answers=tokens.closing_id is not None,
    )


def try_tokenizer(path: Path | None) -> None:
    """Refuse a `tokenizer.json` that never finishes some texts or lets them grow."""
    if path is None:
        return
    data = path.read_bytes()
    if any(word in data for word in TRIED):
        try_once(str(path.absolute()), hashlib.sha256(data).hexdigest())


@cache
def try_once(path: str, digest: str) -> None:
    """Try a file once per content; `digest` keys the cache."""
    del digest
    done = workers.run_once(loading_worker, "tries a tokenizer", path)
    # Killed or panicked; unreadable files are reported later.
    gave_up = done.returncode < 0 or b"PanicException" in done.stderr
    if gave_up or b"MemoryError" in done.stderr:
        raise ModelError(
            f"the tokenizer {path} does not finish a text of a few hundred "
            f"characters in {workers.SECONDS:g} s and little memory, as its "
            "expressions backtrack or let texts grow; get it again from a place that "
            "you trust"
        )
