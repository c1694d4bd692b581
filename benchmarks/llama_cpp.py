"""llama.cpp beside us: what it makes of a GGUF file, through xllamacpp's server.

The server listens on this machine alone, on a free port.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LlamaCpp:
    """A file as llama.cpp reads it, in float32 and on one thread."""

    def __init__(
        self, gguf: Path, context: int = 256, adapter: Path | None = None
    ) -> None:
        peer: Any = import_module("xllamacpp")
        wanted = peer.CommonParams()
        wanted.model.path = str(gguf)
        if adapter is not None:
            wanted.lora_adapters = [peer.CommonAdapterLoraInfo(str(adapter), 1.0)]
        wanted.n_ctx = context
        wanted.n_parallel = 1
        wanted.warmup = False
        wanted.verbosity = -1
        wanted.flash_attn_type = (
            peer.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        wanted.cache_type_k = wanted.cache_type_v = peer.ggml_type.GGML_TYPE_F32
        wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = 1
        self.server = peer.Server(wanted)
        # Half a character would come without probabilities, so this token is drawn;
        # those that are returned are the model's own all the same.
        self.drawn = self.tokens("a")[-1]

    def tokens(self, text: str, *, control: bool = True) -> list[int]:
        """Return a text's tokens, with those that the file puts around it."""
        asked = {"content": text, "add_special": True, "parse_special": control}
        request = urllib.request.Request(
            f"{self.server.listening_address}/tokenize",
            data=json.dumps(asked).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return list(json.loads(answer.read())["tokens"])

    def next_log_probs(self, prompt: Sequence[int], count: int) -> NDArray[np.float64]:
        """Return the log-probabilities ``(count,)`` of the first tokens after a prompt.

        Args:
            prompt: Token ids.
            count: Size of the vocabulary.
        """
        asked: dict[str, Any] = {
            "prompt": list(prompt),
            "max_tokens": 1,
            "logprobs": count,
            "logit_bias": [[self.drawn, 1000.0]],
            "cache_prompt": False,
        }
        answer = self.server.handle_completions(asked)
        found = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        log_probs = np.full(count, -np.inf)
        for one in found:
            log_probs[one["id"]] = one["logprob"]
        return log_probs

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return the most probable tokens after a prompt, one after the other."""
        asked: dict[str, Any] = {
            "prompt": list(prompt),
            "max_tokens": count,
            "temperature": 0.0,
            "logprobs": 1,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        answer = self.server.handle_completions(asked)
        found = answer["choices"][0]["logprobs"]["content"]
        return [int(one["id"]) for one in found]
