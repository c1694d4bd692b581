"""What a model makes of texts, which can be told before its weights are loaded."""

from __future__ import annotations

from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.models.tokenizer.encoding import Tokens


class ModelTokenizer:
    """Fulfils the role of a `Tokenizer` with the methods of `Tokens`."""

    def __init__(self, tokens: Tokens, facts: ModelFacts) -> None:
        """Take a tokenizer, and what the model is as far as its configuration says."""
        self.tokens = tokens
        self.facts = facts
        self.encode = tokens.encode
        self.encode_all = tokens.encode_all
        self.encode_answer = tokens.encode_answer
        self.encode_rendered = tokens.encode_rendered
        self.refusal = tokens.refusal
        self.decode = tokens.decode
        self.token_text = tokens.token_text
        self.prompt_text = tokens.prompt_text
        self.opens_reasoning = tokens.opens_reasoning
