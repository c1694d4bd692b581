"""An Ollama model: a `Modelfile` with template, stops and parameters, and its GGUF.

Where the base was a GGUF file, the adapter stands beside that file; else the merged
model is written. What Ollama would do otherwise than the tests did, such as punishing
repetition or cutting at 4,096 tokens, is set in the `Modelfile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.exporting.go_template import PLACEHOLDER, frame_of, quoted
from neuron_opsd.exporting.merged import facts_of, weights_of
from neuron_opsd.exporting.request import Made, Request
from neuron_opsd.exporting.served import stops
from neuron_opsd.models.gguf import is_gguf
from neuron_opsd.models.gguf.writing import write_adapter, write_model
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.progress import Progress
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Message, Prompt, Question

MODELFILE: Final = "Modelfile"
MODEL: Final = "model.gguf"
ADAPTER: Final = "adapter.gguf"
PROMPT_ROOM: Final = 4096
"""Tokens of a prompt that there is room for, beside the longest answer."""


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write `Modelfile` and what it names."""
    name = (request.name or run.name).lower()
    weights = weights_of(run, request)
    tokenizer = load_tokenizer(run.model)
    base = Path(run.base.name).expanduser()
    if is_gguf(base) and not run.is_whole_model:
        write_adapter(weights, folder / ADAPTER, name)
        lines = [f"FROM {base.resolve()}", f"ADAPTER ./{ADAPTER}"]
        facts: dict[str, Any] = {"matrices_changed": len(weights.changes)}
    else:
        with progress.stage("GGUF", weights.num_bytes, "bytes") as done:
            write_model(weights, tokenizer.tokens, folder / MODEL, name, done)
        lines = [f"FROM ./{MODEL}"]
        facts = facts_of(run, weights, request.dtype, progress)
    template = template_of(run, tokenizer.tokens)
    if template is None:
        progress.warn(
            "the chat template does more than to put fixed texts around turns, so no "
            "TEMPLATE is written; Ollama uses the one that it knows for the model, if "
            "any: compare its answers with `neuron-opsd evaluate --completions`"
        )
    else:
        lines += ["", f'TEMPLATE """{template}"""']
    ends = [
        tokenizer.tokens.token_text(end) for end in sorted(tokenizer.tokens.end_ids)
    ]
    lines += ["", *parameters(run, ends, tokenizer.facts.max_positions)]
    (folder / MODELFILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Made(
        facts | {"model": name, "has_template": template is not None},
        (f"Then run it: ollama create {name} -f {MODELFILE} && ollama run {name}",),
    )


def template_of(run: FinishedRun, tokens: Any) -> str | None:
    """Return the prompt form of the run as one of Ollama's templates, if it is one."""
    prompts = run.config.prompts
    if prompts.form != "chat":
        asked = Question("", (Message("user", PLACEHOLDER),))
        text = student_prompt(asked, prompts).text
        return quoted(text).replace(PLACEHOLDER, "{{ .Prompt }}")

    def write(turns: Sequence[Message]) -> str:
        prompt = Prompt(
            messages=tuple(turns), thinking=prompts.student_thinking, date=prompts.date
        )
        return str(tokens.prompt_text(prompt))

    first = tokens.tokenizer.bos_token or ""
    adds = tokens.tokenizer("a").input_ids[:1] == [tokens.tokenizer.bos_token_id]
    found = frame_of(write, first if adds else "")
    return None if found is None else found.as_go()


def parameters(run: FinishedRun, ends: Sequence[str], most: int) -> list[str]:
    """Return the lines that make Ollama draw answers as the tests did.

    Args:
        run: The run.
        ends: Texts of the tokens that end a completion.
        most: Positions that the model holds.
    """
    config = run.config
    values = {
        "temperature": config.evaluation.temperature,
        "top_p": config.rollouts.top_p,
        "top_k": config.rollouts.top_k,
        "min_p": config.rollouts.min_p,
        "repeat_penalty": 1.0,
        "num_predict": config.test_tokens,
        "num_ctx": min(most, PROMPT_ROOM + config.test_tokens),
    }
    found = [f"PARAMETER {name} {value}" for name, value in values.items()]
    texts = dict.fromkeys([*(end for end in ends if end.strip()), *stops(run)])
    return found + [f'PARAMETER stop "{escaped(text)}"' for text in texts]


def escaped(text: str) -> str:
    """Return text as it stands between quotes in a `Modelfile`."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
