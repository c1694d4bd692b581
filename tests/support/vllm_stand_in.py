"""A stand-in for the package vLLM: small, on transformers, and it notes every call.

It answers with the base model and the one adapter that a question names, read from the
adapter's own files, so that a test sees whether these say what the trainer means.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass
class LoRARequest:
    """An adapter, as vLLM is told of it."""

    lora_name: str
    lora_int_id: int
    lora_path: str


class SamplingParams:
    """How a completion is drawn; holds what it was given."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)
        self.given = given


@dataclass
class Calls:
    """What was asked of all stand-ins of a test, in order."""

    made: list[tuple[Any, ...]] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[dict[str, Any], SamplingParams, LoRARequest | None]] = field(
        default_factory=list
    )

    def names(self, *kinds: str) -> list[tuple[Any, ...]]:
        """Return the calls of some kinds."""
        return [call for call in self.made if call[0] in kinds]


class LLM:
    """An engine; `calls` is where all of a test note what they do."""

    calls = Calls()

    def __init__(self, **options: Any) -> None:
        self.calls.made.append(("start",))
        self.calls.options.append(options)
        self.place = options["model"]
        self.network = AutoModelForCausalLM.from_pretrained(self.place).float()
        self.tokenizer = AutoTokenizer.from_pretrained(self.place)
        self.adapters: dict[int, Any] = {}
        self.asleep = False
        self.waiting: dict[str, tuple[Any, ...]] = {}
        core = SimpleNamespace(shutdown=lambda: self.calls.made.append(("end",)))
        self.llm_engine = SimpleNamespace(
            add_lora=self.add_lora,
            remove_lora=self.remove_lora,
            list_loras=lambda: set(self.adapters),
            engine_core=core,
            add_request=self.add_request,
            step=self.step,
            abort_request=self.abort_request,
        )

    def add_lora(self, adapter: LoRARequest) -> None:
        """Load an adapter from its files, which must be there already."""
        self.calls.made.append(("load", adapter.lora_name, adapter.lora_int_id))
        assert not self.asleep
        base = AutoModelForCausalLM.from_pretrained(self.place).float()
        network = PeftModel.from_pretrained(base, adapter.lora_path)
        self.adapters[adapter.lora_int_id] = network.eval()

    def remove_lora(self, number: int) -> None:
        """Unload an adapter."""
        self.calls.made.append(("unload", number))
        del self.adapters[number]

    def sleep(self, level: int) -> None:
        """Free memory."""
        assert not self.asleep
        self.asleep = True
        self.calls.made.append(("sleep", level))

    def wake_up(self) -> None:
        """Take it again."""
        assert self.asleep
        self.asleep = False
        self.calls.made.append(("wake",))

    def add_request(
        self,
        name: str,
        prompt: dict[str, Any],
        how: SamplingParams,
        *,
        lora_request: LoRARequest | None,
    ) -> None:
        """Take a question."""
        assert not self.asleep
        self.calls.asked.append((prompt, how, lora_request))
        self.waiting[name] = prompt, how, lora_request

    def step(self) -> list[Any]:
        """Answer the last of the questions that wait, as vLLM may in any order."""
        assert not self.asleep
        name, (prompt, how, adapter) = self.waiting.popitem()
        kind = ("answer", adapter and adapter.lora_name)
        if self.calls.made[-1] != kind:
            self.calls.made.append(kind)
        network = self.network
        if adapter is not None:
            network = self.adapters[adapter.lora_int_id]
        return [written(network, self.tokenizer, name, prompt, how)]

    def abort_request(self, names: Sequence[str]) -> None:
        """Forget questions."""
        self.calls.made.append(("abort", *sorted(names)))
        for name in names:
            del self.waiting[name]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Put the stand-in where vLLM would be imported from; return what it notes."""
    calls = Calls()
    monkeypatch.setattr(LLM, "calls", calls)
    known = ["LlamaForCausalLM", "Qwen2ForCausalLM"]
    package = ModuleType("vllm")
    package.__dict__.update(
        LLM=LLM,
        SamplingParams=SamplingParams,
        sampling_params=SimpleNamespace(
            RequestOutputKind=SimpleNamespace(FINAL_ONLY="final")
        ),
        ModelRegistry=SimpleNamespace(get_supported_archs=lambda: known),
        __version__="0.0.stand-in",
    )
    lora, request = ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    request.__dict__["LoRARequest"] = LoRARequest
    package.__dict__["lora"], lora.__dict__["request"] = lora, request
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def written(
    network: Any, tokenizer: Any, name: str, question: dict[str, Any], how: Any
) -> Any:
    """Draw one completion, as vLLM orders the cuts; return its output."""
    prompt = question["prompt_token_ids"]
    source = torch.Generator().manual_seed(how.seed)
    ids: list[int] = []
    logprobs: list[dict[int, Any]] = []
    reason = "length"
    for _ in range(how.max_tokens):
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([prompt + ids])).logits[0, -1]
        logits = logits.float()
        if how.temperature:
            logits = logits / how.temperature
            log_p = logits.log_softmax(-1)
            token = int(torch.multinomial(log_p.exp(), 1, generator=source))
        else:
            log_p, token = logits.log_softmax(-1), int(logits.argmax())
        ids.append(token)
        logprobs.append({token: SimpleNamespace(logprob=float(log_p[token]))})
        text = tokenizer.decode(ids)
        if token in how.stop_token_ids or any(stop in text for stop in how.stop or ()):
            reason = "stop"
            break
    one = SimpleNamespace(token_ids=ids, logprobs=logprobs, finish_reason=reason)
    return SimpleNamespace(request_id=name, finished=True, outputs=[one])
