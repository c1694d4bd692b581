"""Load what a run exports in other programs, and compare their log-probabilities.

    python -m benchmarks.export_agreement runs/first
    python -m benchmarks.export_agreement runs/first --vllm /path/to/python

Each consumer runs in a process of its own that imports nothing of neuron-opsd. Its
numbers are compared with those of the model that the run tested. llama.cpp needs
xllamacpp (`requirements/dev.txt`), vLLM an environment of its own (`make test-vllm`),
whose Python is named with `--vllm`. All compute in float32 on a processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

LOADS: dict[str, str] = {
    "peft": """
import torch, peft
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(given["base"], dtype=torch.float32)
model = peft.PeftModel.from_pretrained(base, given["adapter"]).eval()
version = peft.__version__
rows = [model(input_ids=torch.tensor([p])).logits[0, -1] for p in given["prompts"]]
rows = [row.double().log_softmax(-1).tolist() for row in rows]
""",
    "transformers": """
import torch, transformers
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(given["merged"], dtype=torch.float32)
version = transformers.__version__
rows = [model(input_ids=torch.tensor([p])).logits[0, -1] for p in given["prompts"]]
rows = [row.double().log_softmax(-1).tolist() for row in rows]
""",
    "llama.cpp": """
import xllamacpp
from pathlib import Path
from benchmarks.llama_cpp import LlamaCpp
version = xllamacpp.__version__
peer = LlamaCpp(Path(given["gguf"]), 1024)
rows = [peer.next_log_probs(p, given["size"]).tolist() for p in given["prompts"]]
""",
    "llama.cpp with the adapter": """
import xllamacpp
from pathlib import Path
from benchmarks.llama_cpp import LlamaCpp
version = xllamacpp.__version__
peer = LlamaCpp(Path(given["base_gguf"]), 1024, Path(given["lora"]))
rows = [peer.next_log_probs(p, given["size"]).tolist() for p in given["prompts"]]
""",
    "vLLM": """
import os
os.environ.update(VLLM_NO_USAGE_STATS="1", VLLM_DO_NOT_TRACK="1", DO_NOT_TRACK="1",
    VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="CRITICAL",
    VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_CPU_KVCACHE_SPACE="1")
import vllm
from vllm.lora.request import LoRARequest
version = vllm.__version__
words = given["vllm"]
engine = vllm.LLM(model=given["base"], dtype="float32", enforce_eager=True,
    enable_lora=True, max_lora_rank=int(words[words.index("--max-lora-rank") + 1]),
    max_model_len=1024, max_logprobs=-1, max_num_seqs=8,
    kv_cache_memory_bytes=1 << 30)
found = engine.generate(
    [{"prompt_token_ids": p} for p in given["prompts"]],
    vllm.SamplingParams(temperature=0.0, max_tokens=1, logprobs=-1),
    lora_request=LoRARequest("own", 1, given["served"]), use_tqdm=False)
rows = []
for one in found:
    row = [float("-inf")] * given["size"]
    for token, value in one.outputs[0].logprobs[0].items():
        if token < given["size"]:
            row[token] = value.logprob
    rows.append(row)
""",
}
"""What each consumer does: from `given` to `version` and `rows`."""

WHAT = {
    "peft": "the adapter over the base",
    "transformers": "the merged model",
    "llama.cpp": "the merged GGUF file",
    "llama.cpp with the adapter": "the base's GGUF file and the adapter's",
    "vLLM": "the adapter beside the base, as `vllm serve` loads it",
}

FRAME = """
import json, sys
given = json.load(open(sys.argv[1], encoding="utf-8"))
{load}
json.dump({{"version": version, "rows": rows}}, open(sys.argv[2], "w"))
"""


@dataclass(frozen=True)
class Compared:
    """How far a consumer is from the model that was tested."""

    consumer: str
    version: str
    largest: float
    """Of the differences of log-probabilities, in nats."""
    agree: int
    """Prompts whose most probable token is the same."""


def main() -> None:
    """Compare and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--vllm", default="", help="Python that has vLLM")
    parser.add_argument("--only", nargs="*", default=list(LOADS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        given, ours, base = prepare(options.run, Path(scratch))
        left_out = np.abs(ours - base).max()
        print(f"prompts: {len(ours)}; the adapter left out: {left_out:.2e} nats")
        print("| consumer | version | loaded | largest difference | same token |")
        print("|---|---|---|---|---|")
        for name in options.only:
            python = options.vllm if name == "vLLM" else sys.executable
            if not python:
                continue
            one = compare(name, python, given, ours, Path(scratch))
            print(
                f"| {one.consumer} | {one.version} | {WHAT[name]} | {one.largest:.1e} "
                f"| {one.agree} of {len(ours)} |"
            )


def prepare(run: Path, scratch: Path) -> tuple[dict[str, Any], Rows, Rows]:
    """Export a run in every way; return what consumers are given, and our numbers.

    Returns:
        Of the second and third the log-probabilities ``(prompts, V)`` after each
        prompt, of the tested model and of its base.
    """
    import neuron_opsd as no
    from neuron_opsd.cli.options import prepare_libraries

    prepare_libraries(allow_download=False)
    from neuron_opsd.exporting.export import Request
    from neuron_opsd.exporting.finished import finished_run
    from neuron_opsd.exporting.merged import weights_of
    from neuron_opsd.models.gguf.writing import write_model
    from neuron_opsd.models.load import load_model, load_tokenizer

    places = {name: scratch / name for name in ("merged", "gguf", "gguf-lora", "vllm")}
    exported = {
        name: no.export(run, name, place, no.Silent()) for name, place in places.items()
    }
    found = finished_run(run)
    weights = weights_of(found, Request(scratch))
    tokens = load_tokenizer(found.base).tokens
    alone = replace(weights, changes={})
    write_model(alone, tokens, scratch / "base.gguf", "base", lambda _: None)
    texts = [case.student_prompt for case in found.report.cases]
    plain = found.config.prompts.form != "chat"
    prompts = [
        tokens.tokenizer(text, add_special_tokens=plain).input_ids for text in texts
    ]
    config = found.base.model_copy(update={"compute": "float32", "device": "cpu"})
    models = load_model(config, found.adapter), load_model(config)
    ours, base = (log_probs(model, prompts) for model in models)
    given = {
        "base": weights.source.place,
        "adapter": str(found.adapter),
        "merged": str(places["merged"]),
        "gguf": str(places["gguf"] / "model.gguf"),
        "base_gguf": str(scratch / "base.gguf"),
        "lora": str(places["gguf-lora"] / "adapter.gguf"),
        "served": str(places["vllm"] / "adapter"),
        "vllm": exported["vllm"].facts["command"].split(),
        "prompts": prompts,
        "size": ours.shape[1],
    }
    return given, ours, base


def log_probs(model: Any, prompts: list[list[int]]) -> Rows:
    """Return our own log-probabilities ``(prompts, V)`` after each prompt."""
    import torch

    rows = []
    with torch.no_grad():
        for prompt in prompts:
            states = model.states([(tuple(prompt[:-1]), (prompt[-1],))], after=1)
            rows.append(model.next_logits(states)[-1].double().log_softmax(-1))
    return np.array([row.numpy() for row in rows])


def compare(
    name: str, python: str, given: Mapping[str, Any], ours: Rows, scratch: Path
) -> Compared:
    """Let a consumer compute in a fresh process, and compare."""
    asked, told = scratch / "given.json", scratch / "told.json"
    asked.write_text(json.dumps(given), encoding="utf-8")
    program = FRAME.format(load=LOADS[name])
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program, str(asked), str(told)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    table = json.loads(told.read_text(encoding="utf-8"))
    theirs = np.array(table["rows"])
    known = np.isfinite(theirs)
    agree = int((theirs.argmax(-1) == ours.argmax(-1)).sum())
    return Compared(name, table["version"], np.abs(ours - theirs)[known].max(), agree)


if __name__ == "__main__":
    main()
