"""What servers are told: vLLM's line and a request, Ollama's Modelfile."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

import neuron_opsd as no
from neuron_opsd.exporting.ollama import frame_of
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message
from tiny_runs import FinishedRun, tiny_config, tiny_request, tiny_run


def exported(run: Path, to: str, out: Path, **choices: Any) -> dict[str, str]:
    """Export a run; return the texts that were written."""
    no.export(run, to, out, Silent(), **choices)
    return {
        path.name: path.read_text("utf-8")
        for path in out.rglob("*")
        if path.is_file() and path.suffix not in {".gguf", ".safetensors"}
    }


def test_vllm_is_told_the_base_the_adapter_and_a_rank_that_it_has(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    run = finished_run.folder
    files = exported(run, "vllm", tmp_path / "out", name="my model")
    line = files["serve.sh"].splitlines()[-1]
    words = shlex.split(line.replace('"$@"', ""))
    assert words[:4] == ["exec", "vllm", "serve", finished_run.config.model.name]
    # A rank of 4 has no room of its own in vLLM.
    assert words[4:] == [
        *("--enable-lora", "--max-lora-rank", "8"),
        *("--lora-modules", "my model=./adapter"),
    ]
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        made = tmp_path / "out" / "adapter" / file
        assert made.read_bytes() == (run / "adapter" / file).read_bytes()
    body = json.loads(files["request.json"])
    assert body["model"] == "my model"
    assert body["messages"][-1] == {
        "role": "user",
        "content": finished_run.data.cases[0].question,
    }
    assert body["max_tokens"] == finished_run.config.test_tokens


def test_the_script_goes_to_its_folder_and_hands_flags_on(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    exported(finished_run.folder, "vllm", tmp_path / "out")
    stand_in = tmp_path / "bin" / "vllm"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\npwd\necho "$@"\n')
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["sh", str(tmp_path / "out" / "serve.sh"), "--port", "9"],
        env={"PATH": f"{stand_in.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    where, words = done.stdout.splitlines()
    assert Path(where) == tmp_path / "out"
    assert words.endswith("--lora-modules run=./adapter --port 9")


def test_a_model_trained_in_full_is_served_as_it_is(
    tiny_qwen3: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_qwen3, "distill.tuning=full", "distill.steps=1")
    run = tiny_run(tiny_request(tmp_path), config).folder
    files = exported(run, "vllm", tmp_path / "out")
    assert "vllm serve ./model --served-model-name run" in files["serve.sh"]
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()
    assert "lora" not in files["serve.sh"]


def test_ollama_draws_and_ends_as_the_tests_did(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    text = exported(finished_run.folder, "ollama", tmp_path / "out")["Modelfile"]
    lines = text.splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert (tmp_path / "out" / "model.gguf").is_file()
    evaluation = finished_run.config.evaluation
    for line in (
        f"PARAMETER temperature {evaluation.temperature}",
        f"PARAMETER num_predict {finished_run.config.test_tokens}",
        # Ollama would punish repetition and cut at 4,096 tokens otherwise.
        "PARAMETER repeat_penalty 1.0",
        "PARAMETER num_ctx 1024",
        'PARAMETER stop "<|im_end|>"',
    ):
        assert line in lines
    assert "<|im_start|>assistant\n" in text


def test_the_plain_form_becomes_a_template_that_ends_at_a_line(
    tiny_llama_plain: Path, tmp_path: Path
) -> None:
    run = tiny_run(
        tiny_request(tmp_path),
        tiny_config(tiny_llama_plain, "distill.steps=1", 'prompts.system="Be {{brief"'),
    )
    text = exported(run.folder, "ollama", tmp_path / "out")["Modelfile"]
    assert 'TEMPLATE """Be {{ "{{" }}brief\n\nQuestion: {{ .Prompt }}\nAnswer:"""' in (
        text
    )
    assert 'PARAMETER stop "\\n"' in text.splitlines()


def test_over_a_gguf_base_the_adapter_stands_beside_it(tmp_path: Path) -> None:
    from tiny_gguf import TinyGGUF

    gguf = TinyGGUF().write(tmp_path / "base.gguf")
    run = tiny_run(tiny_request(tmp_path), tiny_config(gguf, "distill.steps=1"))
    text = exported(run.folder, "ollama", tmp_path / "out")["Modelfile"]
    assert text.splitlines()[:2] == [f"FROM {gguf}", "ADAPTER ./adapter.gguf"]
    assert (tmp_path / "out" / "adapter.gguf").is_file()


def writer(template: str) -> Any:
    """Return what writes conversations by a Jinja template."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def fail(message: str) -> None:
        raise ValueError(message)

    made.globals["raise_exception"] = fail
    ready = made.from_string(template)

    def write(turns: Sequence[Message]) -> str:
        listed = [{"role": one.role, "content": one.content} for one in turns]
        return ready.render(
            messages=listed, add_generation_prompt=True, bos_token="<s>"
        )

    return write


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULTED = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe good<|im_end|>\n"
    "{% endif %}" + CHATML
)
FIRST = "{{ bos_token }}" + CHATML
COUNTING = CHATML + "{{ messages | length }}"


@pytest.mark.parametrize("template", [CHATML, DEFAULTED, FIRST])
def test_fixed_texts_around_turns_are_found(template: str) -> None:
    write = writer(template)
    found = frame_of(write, "<s>")
    assert found is not None
    turns = [Message("user", "Why?"), Message("assistant", "So."), Message("user", "?")]
    for some in (turns, [Message("system", "Short."), *turns], turns[:1]):
        assert found.write(some) == write(some).removeprefix("<s>")
    assert "{{ .System }}" in found.as_go()


def test_a_template_that_does_more_is_not_translated() -> None:
    assert frame_of(writer(COUNTING)) is None


def test_a_wrong_frame_would_be_noticed() -> None:
    write = writer(DEFAULTED)
    found = frame_of(write)
    assert found is not None
    spoilt = replace(found, without_system="")
    assert spoilt.write([Message("user", "a")]) != write([Message("user", "a")])
