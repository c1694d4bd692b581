"""vLLM takes what an export tells it: the line's flags, and the adapter beside them."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm runs this")

import neuron_opsd as no
from loaded import loaded, logits_of
from neuron_opsd.models.vllm.library import library
from neuron_opsd.progress import Silent
from shifted_adapters import shifted_adapter
from tiny_runs import FinishedRun

pytestmark = pytest.mark.filterwarnings("ignore")  # of vLLM's own

IDS = (5, 9, 40, 77, 8)


def line_of(run: Path, out: Path) -> list[str]:
    """Export a run for vLLM; return the words after ``vllm serve``."""
    found = no.export(run, "vllm", out, Silent())
    words = shlex.split(found.facts["command"])
    assert words[:2] == ["vllm", "serve"]
    return words[2:]


def test_the_lines_flags_are_those_of_vllm(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    library()
    flags: Any = import_module("vllm.entrypoints.launchers.cli_args")
    parsers: Any = import_module("vllm.utils.argparse_utils")
    parser = flags.make_arg_parser(parsers.FlexibleArgumentParser())
    words = line_of(finished_run.folder, tmp_path / "out")
    read = parser.parse_args(words)
    assert read.model_tag == finished_run.config.model.name
    assert (read.enable_lora, read.max_lora_rank) == (True, 8)
    (module,) = read.lora_modules
    assert (module.name, module.path) == ("run", "./adapter")
    with pytest.raises(SystemExit):
        parser.parse_args([*words, "--max-lora-rank", "5"])


def test_the_adapter_answers_as_the_model_that_was_tested(
    folder: Path, tmp_path: Path
) -> None:
    vllm = library()
    adapter = shifted_adapter(folder, tmp_path / "adapter")
    engine = vllm.LLM(
        model=str(folder),
        dtype="float32",
        enforce_eager=True,
        enable_lora=True,
        max_lora_rank=8,
        max_model_len=256,
        max_logprobs=-1,
        max_num_seqs=2,
        kv_cache_memory_bytes=1 << 28,
    )
    (answer,) = engine.generate(
        [{"prompt_token_ids": list(IDS)}],
        vllm.SamplingParams(temperature=0.0, max_tokens=1, logprobs=-1),
        lora_request=vllm.lora.request.LoRARequest("run", 1, str(adapter)),
        use_tqdm=False,
    )
    found = answer.outputs[0].logprobs[0]
    ours = log_probs(folder, adapter)
    theirs = np.array([found[i].logprob for i in range(len(ours))])
    assert np.abs(ours - theirs).max() < 1e-3
    assert np.abs(ours - log_probs(folder, None)).max() > 1e-2


def log_probs(base: Path, adapter: Path | None) -> Any:
    """Return our own log-probabilities after the prompt."""
    found = logits_of(loaded(base, adapter), IDS)[-1]
    return found.double().log_softmax(-1).numpy()
