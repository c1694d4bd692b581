"""An Ollama model: a `Modelfile` with template, stops and parameters, and its GGUF.

If the base was a GGUF file, the adapter goes with it; else the merged model is written.
The `Modelfile` overrides what Ollama does unlike the tests, such as penalising
repetition or truncating at 4,096 tokens.

Ollama's Go templates cannot express Jinja in general, but most chat templates put fixed
texts around turns, found here by rendering known texts. If other conversations render
differently, no template is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuron_opsd.exporting.export import Made, Request
from neuron_opsd.exporting.finished import FinishedRun, first_token
from neuron_opsd.exporting.gguf import ADAPTER, MODEL
from neuron_opsd.exporting.merged import facts_of, weights_of
from neuron_opsd.models.gguf import is_gguf
from neuron_opsd.models.gguf.writing import write_adapter, write_model
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.progress import Progress
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Message, Prompt, Question

MODELFILE: Final = "Modelfile"
PLACEHOLDER: Final = "Qzquestion"
PROMPT_ROOM: Final = 4096
"""Tokens for a prompt, besides the longest answer."""
SYSTEM, FIRST, ANSWER, SECOND = "Qzsystem", "Qzfirst", "Qzanswer", "Qzsecond"


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write `Modelfile` and the files that it names."""
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
    template = template_of(run, tokenizer)
    if template is None:
        progress.warn(
            "the chat template does more than put fixed texts around turns, so no "
            "TEMPLATE is written; Ollama uses the one it knows for the model, if any: "
            "compare its answers with `neuron-opsd evaluate --completions`"
        )
    else:
        lines += ["", f'TEMPLATE """{template}"""']
    ends = map(tokenizer.tokens.token_text, sorted(tokenizer.tokens.end_ids))
    lines += ["", *parameters(run, ends, tokenizer.facts.max_positions)]
    (folder / MODELFILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Made(
        facts | {"model": name, "has_template": template is not None},
        (f"Then run it: ollama create {name} -f {MODELFILE} && ollama run {name}",),
    )


def template_of(run: FinishedRun, tokenizer: Any) -> str | None:
    """Return the run's prompt form as an Ollama template, if possible."""
    prompts = run.config.prompts
    if prompts.form != "chat":
        asked = Question("", (Message("user", PLACEHOLDER),))
        text = student_prompt(asked, prompts).text
        return quoted(text).replace(PLACEHOLDER, "{{ .Prompt }}")

    def write(turns: Sequence[Message]) -> str:
        prompt = Prompt(
            messages=tuple(turns), thinking=prompts.student_thinking, date=prompts.date
        )
        return str(tokenizer.prompt_text(prompt))

    found = frame_of(write, first_token(tokenizer))
    return None if found is None else found.as_go()


def parameters(run: FinishedRun, ends: Iterable[str], most: int) -> list[str]:
    """Return the lines that make Ollama sample as the tests did.

    `ends` are texts of end tokens; `most` is the model's maximum number of positions.
    """
    length = run.config.test_tokens
    values = run.sampling | {
        "repeat_penalty": 1.0,
        "num_predict": length,
        "num_ctx": min(most, PROMPT_ROOM + length),
    }
    found = [f"PARAMETER {name} {value}" for name, value in values.items()]
    texts = dict.fromkeys([*(end for end in ends if end.strip()), *run.stops])
    return found + [f'PARAMETER stop "{escaped(text)}"' for text in texts]


def escaped(text: str) -> str:
    """Escape a text for quotes in a `Modelfile`."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@dataclass(frozen=True, slots=True)
class Frame:
    """The fixed texts of a chat template."""

    with_system: tuple[str, str]
    """Before a system turn, and between it and the first question."""
    without_system: str
    to_answer: str
    """Between a question and a given answer."""
    to_question: str
    to_end: str
    """Between the last question and the new answer."""

    def write(self, turns: Sequence[Message]) -> str:
        """Write a conversation."""
        roles = {turn.role for turn in turns[:1]}
        text = self.without_system
        if "system" in roles:
            before, after = self.with_system
            text, turns = before + turns[0].content + after, turns[1:]
        for place, turn in enumerate(turns, 1):
            following = place < len(turns)
            if turn.role == "assistant":
                text += turn.content + self.to_question
            else:
                text += turn.content + (self.to_answer if following else self.to_end)
        return text

    def as_go(self) -> str:
        """Return the template, for Ollama."""
        before, after = map(quoted, self.with_system)
        last = "eq (len (slice $.Messages $place)) 1"
        return (
            f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}"
            f"{{{{ else }}}}{quoted(self.without_system)}{{{{ end }}}}"
            "{{ range $place, $turn := .Messages }}"
            '{{ if eq .Role "user" }}{{ .Content }}'
            f"{{{{ if {last} }}}}{quoted(self.to_end)}"
            f"{{{{ else }}}}{quoted(self.to_answer)}{{{{ end }}}}"
            '{{ else if eq .Role "assistant" }}{{ .Content }}'
            f"{quoted(self.to_question)}{{{{ end }}}}{{{{ end }}}}"
        )


def quoted(text: str) -> str:
    """Escape double braces for Go's templates."""
    return text.replace("{{", '{{ "{{" }}')


def frame_of(
    write: Callable[[Sequence[Message]], str], start_token: str = ""
) -> Frame | None:
    """Return a chat template's fixed texts, `None` if it has others.

    The start token is left out, since the server writes it.
    """
    question, answer = Message("user", FIRST), Message("assistant", ANSWER)
    system, second = Message("system", SYSTEM), Message("user", SECOND)

    def written(*turns: Message) -> str:
        return write(turns).removeprefix(start_token)

    start, _, rest = written(question, answer, second).partition(FIRST)
    to_answer, _, rest = rest.partition(ANSWER)
    to_question, _, to_end = rest.partition(SECOND)
    before, _, rest = written(system, question).partition(SYSTEM)
    after, _, _ = rest.partition(FIRST)
    found = Frame((before, after), start, to_answer, to_question, to_end)
    tried: tuple[tuple[Message, ...], ...] = (
        (question,),
        (system, question),
        (question, answer, second),
        (system, second, answer, question, answer, second),
    )
    return found if all(found.write(t) == written(*t) for t in tried) else None
