"""One vLLM engine per process, shared by models with the same base weights.

It starts on first use and restarts for longer texts or larger adapters. Each adapter
file gets a new name and number, since vLLM caches by name, and is loaded before the old
one is unloaded, since the other order can hang.
"""

from __future__ import annotations

import atexit
import gc
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from neuron_opsd.config import EngineConfig
from neuron_opsd.errors import ModelError, NeuronOpsdError
from neuron_opsd.models.room import ENGINE_CACHE
from neuron_opsd.models.vllm.adapters import Weights, room_for
from neuron_opsd.models.vllm.library import computing, engine_errors, library, silenced

NUMBERS: Final = count(1)
"""Adapter numbers."""

PROCESSOR_BLOCK: Final = 32
"""Tokens per block of keys and values on a CPU."""

PROCESSOR_TOKENS: Final = 4096
"""Tokens per pass on a CPU, unless a text is longer."""

LENGTH_STEP: Final = 512
"""Minimum increase of the maximum length, in tokens."""


Question: TypeAlias = tuple[dict[str, Any], Any]
"""A tokenised prompt and its sampling parameters, as vLLM takes them."""


@dataclass(frozen=True, slots=True)
class Served:
    """An engine's base model."""

    place: str
    compute: str
    device: str
    max_positions: int


class Engine:
    """vLLM with one base model and at most one adapter."""

    def __init__(self, served: Served, settings: EngineConfig) -> None:
        self.served = served
        self.settings = settings
        self.rank = 1
        """Largest adapter rank expected."""
        self.length = 0
        """Longest text allowed, in tokens."""
        self.room = 0
        """Largest adapter rank allowed."""
        self._llm: Any = None
        self._asleep = False
        self._weights: Weights | None = None
        self._adapter: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def answer(
        self, requests: Sequence[Question], length: int, weights: Weights | None
    ) -> Iterator[tuple[int, Any]]:
        """Yield each request's number with vLLM's output, as it completes.

        `length` is the longest request's in tokens, including its completion.
        """
        self._prepare(length, 1 if weights is None else weights.rank)
        adapter = None if weights is None else self._use(weights)
        salt = "base" if adapter is None else adapter.lora_name
        engine = self._llm.llm_engine
        left: set[int] = set()
        try:
            with self._working("a question"):
                for number, (prompt, params) in enumerate(requests):
                    salted = {**prompt, "cache_salt": salt}
                    name = str(number)
                    engine.add_request(name, salted, params, lora_request=adapter)
                    left.add(number)
            while left:
                with self._working("a question"):
                    found = [output for output in engine.step() if output.finished]
                for output in found:
                    left.remove(int(output.request_id))
                    yield int(output.request_id), output
        except NeuronOpsdError:
            # Leftover outputs would answer the next questions.
            left.clear()
            self.close()
            raise
        finally:
            if left:
                engine.abort_request([str(number) for number in left])

    def serves(self, served: Served, settings: EngineConfig) -> bool:
        """Whether it matches these settings."""
        own, other = self.settings, settings
        alike = (own.memory_share, own.sleep) == (other.memory_share, other.sleep)
        return self.served == served and alike

    def rest(self) -> None:
        """Free GPU memory until the next question, if the settings say so."""
        may_sleep = self._on_gpu and self.settings.sleep
        if self._llm is not None and may_sleep and not self._asleep:
            self._llm.sleep(level=1)
            self._asleep = True

    def close(self) -> None:
        """End the engine; the next question restarts it."""
        if self._llm is None:
            return
        self._llm.llm_engine.engine_core.shutdown()
        self._llm, self._weights, self._adapter = None, None, None
        self._asleep = False
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def _on_gpu(self) -> bool:
        return self.served.device == "cuda"

    def _prepare(self, length: int, rank: int) -> None:
        """Wake or start the engine, with room for texts of a length and adapters."""
        if length > self.served.max_positions:
            raise ModelError(
                f"a question takes {length} tokens with its answer, but the model "
                f"holds {self.served.max_positions}; shorten it, or lower "
                "max_new_tokens"
            )
        if length > self.length or rank > self.room:
            self.close()
        if self._llm is None:
            self.room = room_for(max(self.rank, self.room, rank))
            # Double, so that slightly longer texts do not restart it each time.
            longer = -(-2 * length // LENGTH_STEP) * LENGTH_STEP
            self.length = min(self.served.max_positions, max(self.length, longer))
            with self._working(f"the model {self.served.place}"), silenced():
                self._llm = library().LLM(**self.options())
        elif self._asleep:
            gc.collect()
            torch.cuda.empty_cache()
            with self._working("a question"):
                self._llm.wake_up()
            self._asleep = False

    def options(self) -> dict[str, Any]:
        """Return vLLM's arguments."""
        memory: dict[str, Any] = (
            {
                "gpu_memory_utilization": self.settings.memory_share,
                "enable_sleep_mode": self.settings.sleep,
            }
            if self._on_gpu
            else {
                "kv_cache_memory_bytes": ENGINE_CACHE,
                # Of a short prompt all but the last block is read once.
                "block_size": PROCESSOR_BLOCK,
                # Seeds there do not survive a prompt that is read in parts.
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(PROCESSOR_TOKENS, self.length),
            }
        )
        return memory | {
            "model": self.served.place,
            "tokenizer": self.served.place,
            "load_format": "safetensors",
            "trust_remote_code": False,
            "dtype": self.served.compute,
            "max_model_len": self.length,
            "seed": 0,
            "enforce_eager": not self._on_gpu,
            "enable_prefix_caching": True,
            "enable_lora": True,
            "max_lora_rank": self.room,
            "max_loras": 1,
            # The old one stays until the new one is loaded.
            "max_cpu_loras": 2,
            "logprobs_mode": "processed_logprobs",
            # A file next to the weights must not change sampling.
            "generation_config": "vllm",
            "use_tqdm_on_load": False,
            "disable_log_stats": True,
        }

    def _use(self, weights: Weights) -> Any:
        """Load an adapter under a new name, then unload the previous one."""
        if weights is self._weights and not weights.moves:
            return self._adapter
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="neuron-opsd-vllm-")
        number = next(NUMBERS)
        folder = Path(self._folder.name, f"step-{number}")
        weights.write(folder)
        kind = library().lora.request.LoRARequest
        adapter = kind(folder.name, number, str(folder))
        before, engine = self._adapter, self._llm.llm_engine
        with self._working("the adapter"):
            engine.add_lora(adapter)
            if before is not None:
                engine.remove_lora(before.lora_int_id)
            if set(engine.list_loras()) != {number}:
                raise ModelError(
                    f"vLLM holds the adapters {sorted(engine.list_loras())} and not "
                    f"{number} alone; set engine.rollouts=transformers and report this"
                )
        if before is not None:
            shutil.rmtree(before.lora_path, ignore_errors=True)
        self._weights, self._adapter = weights, adapter
        return adapter

    @contextmanager
    def _working(self, what: str) -> Iterator[None]:
        """Run vLLM, turning its errors into one line."""
        with engine_errors(what), computing(self.served.device):
            yield


class Shared:
    """This process's engine, if any."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

    def get(self, served: Served, settings: EngineConfig) -> Engine:
        """Return the engine for a base model, closing any other."""
        known = self.engine
        if known is not None and known.serves(served, settings):
            return known
        self.close()
        self.engine = Engine(served, settings)
        return self.engine

    def close(self) -> None:
        """End the engine."""
        if self.engine is not None:
            self.engine.close()


SHARED: Final = Shared()

atexit.register(SHARED.close)
