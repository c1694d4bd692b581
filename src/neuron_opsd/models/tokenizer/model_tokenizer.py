"""What a model makes of texts, which can be told before its weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.records import Pair, Prompt, TokenIds


class ModelTokenizer:
    """Fulfils `Prompter` with a tokenizer."""

    def __init__(self, tokens: Tokens, facts: ModelFacts) -> None:
        """Take a tokenizer, and what the model is as far as its configuration says."""
        self.tokens = tokens
        self.facts = facts

    def encode(self, prompt: Prompt) -> TokenIds:
        """Return the prompt's token ids, chat template and first token included."""
        return self.tokens.encode(prompt)

    def encode_all(self, prompts: Sequence[Prompt]) -> list[TokenIds]:
        """Return what `encode` returns of each, sooner."""
        return self.tokens.encode_all(prompts)

    def refusal(self, prompt: Prompt) -> str:
        """Say which control token a turn of a prompt contains, if any does."""
        return self.tokens.refusal(prompt)

    def encode_answer(self, prompt: Prompt, answer: str) -> TokenIds:
        """Return what would complete the prompt with this answer, end included."""
        return self.tokens.encode_answer(prompt, answer)

    def encode_rendered(self, prompt: str, completion: str) -> Pair:
        """Return the ids of texts that are rendered already, control tokens and all."""
        return self.tokens.encode_rendered(prompt, completion)

    def token_text(self, token: int) -> str:
        """Return the text of one token, control tokens included."""
        return self.tokens.token_text(token)

    def decode(self, token_ids: TokenIds) -> str:
        """Return the text of a completion without control tokens, stripped."""
        return self.tokens.decode(token_ids)

    def prompt_text(self, prompt: Prompt) -> str:
        """Return a prompt as text, as the chat template writes it."""
        return self.tokens.prompt_text(prompt)

    def opens_reasoning(self, prompt: TokenIds) -> bool:
        """Whether a prompt ends inside a block of reasoning."""
        return self.tokens.opens_reasoning(prompt)
