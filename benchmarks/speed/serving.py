"""Free sampling by vLLM, in an environment of its own."""

from __future__ import annotations

import os
from importlib import import_module
from itertools import count
from typing import Final

from benchmarks.speed.job import Facts, Job, Turns

ALONE: Final = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""In this process, telling nobody; the last two matter on a processor alone."""


def vllm(job: Job, turns: Turns) -> None:
    """Serve `LLM.generate`, all questions and samples in one call."""
    os.environ.update(ALONE)
    library = import_module("vllm")
    work = job.work
    longest = max(map(len, work.prompts)) + work.new_tokens
    engine = library.LLM(
        job.model,
        dtype=job.options["precision"],
        max_model_len=longest,
        enforce_eager=job.device == "cpu",
        disable_log_stats=True,
    )
    prompts = [{"prompt_token_ids": prompt} for prompt in work.prompts]
    numbers = count()

    def draw() -> Facts:
        params = library.SamplingParams(
            n=work.num_samples,
            temperature=1.0,
            seed=next(numbers),
            ignore_eos=True,
            max_tokens=work.new_tokens,
            detokenize=False,
        )
        made = engine.generate(prompts, params, use_tqdm=False)
        rows = [one for request in made for one in request.outputs]
        return {"amount": sum(len(row.token_ids) for row in rows)}

    turns.repeat(draw)
