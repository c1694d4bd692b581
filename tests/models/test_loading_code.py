"""The code in a model card, run as it is printed, by another process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import places
from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.report.card import render_card
from report_examples import example_report
from tiny import CHAT_TEMPLATE
from tiny_gguf import TinyGGUF
from tiny_runs import FinishedRun, command_line, tiny_config, tiny_request, tiny_run

IDS = (5, 9, 40, 77, 8)

PRINT_LOGITS = f"""
import json, torch
with torch.inference_mode():
    print(json.dumps(model.eval()(torch.tensor([{list(IDS)}])).logits[0].tolist()))
    print(json.dumps(tokenizer("Is 3 odd or even?").input_ids))
"""


def as_printed(adapter: Path) -> tuple[torch.Tensor, list[int]]:
    """Run a card's code in its folder; return what its model and tokenizer make."""
    card = (adapter / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", code + PRINT_LOGITS],
        cwd=adapter,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    logits, ids = done.stdout.splitlines()[-2:]
    return torch.tensor(json.loads(logits)), json.loads(ids)


def in_this_process(model: Path, adapter: Path) -> tuple[torch.Tensor, list[int]]:
    """Return the same of the model as it was tested."""
    tested = load_model(ModelConfig(name=str(model), compute="float32"), adapter)
    with torch.inference_mode():
        logits = tested.next_logits(tested.forward([(IDS, ())])[0, : len(IDS)])
    return logits, tested.tokens.tokenizer("Is 3 odd or even?").input_ids


def assert_loads_what_was_tested(model: Path, adapter: Path) -> None:
    printed, printed_ids = as_printed(adapter)
    tested, tested_ids = in_this_process(model, adapter)
    torch.testing.assert_close(printed, tested, rtol=1e-4, atol=1e-4)
    assert printed_ids == tested_ids


def test_the_code_loads_an_adapter_of_a_folder(finished_run: FinishedRun) -> None:
    model = Path(finished_run.config.model.name)
    assert_loads_what_was_tested(model, finished_run.folder / "adapter")


def test_the_code_loads_a_whole_model(tiny_llama: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_llama, "distill.tuning=full")
    run = tiny_run(tiny_request(tmp_path), config)
    assert_loads_what_was_tested(tiny_llama, run.folder / "adapter")


def test_the_code_loads_an_adapter_of_a_gguf_file_once_its_process_is_gone(
    tmp_path: Path,
) -> None:
    gguf = TinyGGUF(
        keys={"context_length": 1024},
        other={"tokenizer.chat_template": CHAT_TEMPLATE},
    ).write(tmp_path / "tiny.gguf")
    # The path is relative, as users type it, and means nothing in another folder.
    request = tiny_request(tmp_path)
    words = command_line(request, Path(gguf.name))
    command = [sys.executable, "-m", "neuron_opsd", *words]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(places.SOURCES)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "renamed" not in done.stderr
    adapter = request.out / "adapter"
    settings: dict[str, Any] = json.loads(
        (adapter / "adapter_config.json").read_text(encoding="utf-8")
    )
    assert (Path(settings["base_model_name_or_path"]) / "config.json").is_file()
    assert_loads_what_was_tested(gguf, adapter)


def test_an_adapter_of_a_folder_named_from_here_names_it_from_everywhere(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_llama.parent)
    config = ModelConfig(name=tiny_llama.name, compute="float32")
    learner_of(load_model(config), DistillConfig(), 0).save_adapter(
        tmp_path / "adapter"
    )
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_llama.resolve())


@pytest.mark.parametrize(
    "name", ["org/base-135M", 'C:\\models\\a "b"', "/tmp/\U0001f600 é\u2028\n```\nx"]
)
def test_the_code_names_the_base_to_the_letter(name: str) -> None:
    code = loading_code(name, "v1.0")
    assert "```" not in code.splitlines()
    given = re.search(r"base = .*from_pretrained\((.*)\)", code)
    assert given is not None
    assert eval(f"dict(name={given.group(1)})") == {"name": name, "revision": "v1.0"}


def test_the_code_says_no_revision_where_the_newest_is_meant() -> None:
    assert "revision" not in loading_code("org/base", ModelConfig().revision)


def loading_code(source: str, revision: str) -> str:
    """Return the code of the card of an adapter."""
    config = config_from_table({"model": {"revision": revision}})
    card = render_card(replace(example_report(), config=config), "base", source)
    return card.partition("```python\n")[2].partition("\n```\n")[0]
