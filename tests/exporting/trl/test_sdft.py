"""TRL takes the rows: its teacher sees what ours saw, and it trains on them.

`make test-trl` runs this in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="TRL is not installed; make test-trl runs this")

import neuron_opsd as no
from neuron_opsd.progress import Silent
from tiny_runs import FinishedRun, tiny_config, tiny_request, tiny_run

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module", params=["chat", "plain", "system"])
def exported(
    request: pytest.FixtureRequest,
    tiny_qwen3: Path,
    tiny_llama_plain: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, FinishedRun, Path]:
    """Give a kind of prompt, a run that used it, and its rows for TRL."""
    folder = tmp_path_factory.mktemp(request.param)
    model = tiny_llama_plain if request.param == "plain" else tiny_qwen3
    system = ["prompts.system=Be brief."] if request.param == "system" else []
    config = tiny_config(model, "distill.steps=2", *system)
    run = tiny_run(tiny_request(folder, kind="free"), config)
    pool = run.request.pool
    no.export(run.folder, "trl", folder / "out", Silent(), pool=pool)
    return request.param, run, folder / "out"


def trainer_of(out: Path) -> Any:
    """Return TRL's trainer on exported rows."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    settings = json.loads((out / "sdft.json").read_text("utf-8"))
    rows = load_dataset("json", data_files=str(out / "train.jsonl"), split="train")
    return SDFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(settings["base"]),
        args=SDFTConfig(
            output_dir=str(out / "unused"),
            use_cpu=True,
            bf16=False,
            **settings["trainer"],
        ),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(settings["base"]),
    )


def test_its_teacher_is_given_the_tokens_that_ours_was(
    exported: tuple[str, FinishedRun, Path],
) -> None:
    from neuron_opsd.models.load import load_tokenizer

    kind, run, out = exported
    trainer = trainer_of(out)
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    prompts = [row["prompt"] for row in rows]
    contexts = [row["privileged_context"] for row in rows]
    teachers = trainer.teacher_context_builder.select_generation_prompts(
        prompts, contexts
    )
    tokens = load_tokenizer(run.config.model).tokens
    plain = kind == "plain"
    ours = [
        tokens.tokenizer(r["teacher_prompt"], add_special_tokens=plain).input_ids
        for r in rows
    ]
    theirs = [list(ids) for ids in trainer._tokenize_prompts(teachers)]  # noqa: SLF001
    if kind == "system":  # turns of ours are text in one of theirs
        assert theirs != ours
        return
    assert teachers == [row["teacher_prompt"] for row in rows]
    assert theirs == ours


def test_the_script_trains_an_adapter(exported: tuple[str, FinishedRun, Path]) -> None:
    _, _, out = exported
    done = subprocess.run(
        [sys.executable, str(out / "train.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (out / "trained" / "adapter_model.safetensors").is_file()
    state = next((out / "trained").rglob("trainer_state.json"), None)
    assert state is not None
    assert json.loads(state.read_text("utf-8"))["global_step"] == 2
