"""What `vllm serve` needs: adapter or whole model, and the command line."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from neuron_opsd.exporting.export import Made, Request
from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.exporting.merged import warn_of_rounded, weights_of, write_model
from neuron_opsd.models.vllm.adapters import rank_sum, room_for
from neuron_opsd.progress import Progress
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Message, Question

SCRIPT: Final = "serve.sh"
BODY: Final = "request.json"
ADAPTER: Final = "adapter"
MODEL: Final = "model"

HEAD: Final = """\
#!/bin/sh
# {what}, as {name}. Flags given to this script go to vLLM.
cd "$(dirname "$0")" || exit 1
exec {line} "$@"
"""


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write the weights and `serve.sh`, and a request to try it with."""
    name = request.name or run.name
    weights = weights_of(run, request)
    if run.is_whole_model:
        (folder / MODEL).mkdir()
        write_model(weights, folder / MODEL, progress)
        words = ["vllm", "serve", f"./{MODEL}", "--served-model-name", name]
        what, rank = "Serves what was trained", 0
    else:
        shutil.copytree(run.adapter, folder / ADAPTER)
        rank = rank_sum([run.adapter])
        words = ["vllm", "serve", weights.source.place, "--enable-lora"]
        if not Path(weights.source.place).is_dir():
            words += ["--revision", weights.source.revision]
        words += ["--max-lora-rank", str(room_for(rank))]
        words += ["--lora-modules", f"{name}=./{ADAPTER}"]
        what = "Serves the base with the adapter beside it"
        warn_of_rounded(run, progress)
    line = shlex.join(words)
    script = folder / SCRIPT
    script.write_text(HEAD.format(what=what, name=name, line=line), encoding="utf-8")
    steps = ask(run, name, folder)
    return Made({"command": line, "rank": rank, "model": name}, steps)


def ask(run: FinishedRun, name: str, folder: Path) -> tuple[str, ...]:
    """Write a request with a pool question, and return how to send it.

    If the report shows no question, there is none.
    """
    if not run.report.cases:
        return ()
    case = run.report.cases[0]
    asked = Question(case.question_id, (Message("user", case.question),), case.choices)
    prompt = student_prompt(asked, run.config.prompts)
    body: dict[str, Any] = {"model": name, **run.sampling}
    body |= {"max_tokens": run.config.test_tokens, "stop": run.stops}
    path = "/v1/chat/completions" if prompt.messages else "/v1/completions"
    if prompt.messages and prompt.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": prompt.thinking}
    if prompt.messages:
        body["messages"] = [asdict(turn) for turn in prompt.messages]
    else:
        body["prompt"] = prompt.text
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    (folder / BODY).write_text(text, encoding="utf-8")
    return (
        f"Then ask it: curl http://localhost:8000{path} -H 'Content-Type: "
        f"application/json' -d @{BODY}",
    )
