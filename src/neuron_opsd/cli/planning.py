"""The commands before a run: split, preview, plan, config, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import neuron_opsd as no
from neuron_opsd.cli import options
from neuron_opsd.cli.exit_statuses import DONE, MISTAKE
from neuron_opsd.cli.terminal import PROGRAM, Terminal
from neuron_opsd.cli.text import duration, size
from neuron_opsd.errors import ConfigError

if TYPE_CHECKING:
    from neuron_opsd.data.splitting import SplitData
    from neuron_opsd.planning.doctor import Check
    from neuron_opsd.planning.fitting import Fit
    from neuron_opsd.planning.foresight import Foresight
    from neuron_opsd.planning.workload import Plan
    from neuron_opsd.runs.preview import Preview


WAYS: Final = {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}

FIT_HEADINGS: Final = (
    "training",
    "held between passes",
    "saved a token",
    "at most, one completion",
    "longest completion",
    "completions a pass",
)


def split(  # noqa: PLR0913 - one argument per flag
    file: str,
    /,
    *,
    out: Path,
    test_share: float = 0.2,
    group: str = "",
    by: str = "",
    where: options.Texts = (),
    passage_words: int = 32,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Make an unlabelled pool and a labelled test set from one labelled file.

    A hash of a question's text, or of its group, decides its side, together with the
    seed. Questions with the same text or passage stay together, and no test question
    nearly equals one of the pool.

    Args:
        file: Labelled questions, or the id of a dataset.
        out: New or empty folder for pool.jsonl, test.jsonl and split.json.
        test_share: Approximate share of questions in the test set.
        group: Column whose equal values stay on one side, such as a patient.
        by: Column; each of its values gets a folder with a pool and a test.
        where: One or more `COLUMN=VALUE,VALUE`: keep only these rows. A nested column
            is named with a dot, as in details.level=L1,L2.
        passage_words: How many words in a row count as a shared passage; 0 turns this
            off.
    """
    config = options.resolve(settings)
    with options.opened(output, config) as terminal:
        data = no.split(
            file,
            out,
            config,
            terminal,
            test_share=test_share,
            group=group,
            by=by,
            where=where,
            passage_words=passage_words,
        )
        terminal.show_result(data, show_split)


def show_split(terminal: Terminal, data: SplitData) -> None:
    """Show the size of each side and the next steps."""
    rows = [
        [part.name or "all", f"{part.num_pool:,}", f"{part.num_test:,}"]
        for part in data.parts
    ]
    terminal.show_table(["part", "pool", "test"], rows)
    terminal.show(
        f"{data.num_groups:,} groups, the largest of {data.largest_group:,} questions"
    )
    if len(data.parts) == 1:
        (part,) = data.parts
        terminal.show(f"--pool {part.pool} --test test={part.test}")
        return
    terminal.show(
        " ".join(["--source", *(f"{part.name}={part.pool}" for part in data.parts)]),
        " ".join(["--test", *(f"{part.name}={part.test}" for part in data.parts)]),
    )


def preview(
    *,
    pool: str,
    question: str | None = None,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Show one question as the student and as the teacher would see it.

    Args:
        pool: File with the unlabelled questions, or the id of a dataset.
        question: Id of the question; default: the first of the pool.
    """
    config = options.resolve_with_model(settings)
    with options.opened(output, config) as terminal:
        seen = no.preview(pool, config, question, terminal)
        terminal.show_result(seen, show_preview)


def show_preview(terminal: Terminal, seen: Preview) -> None:
    """Show prompts, an example completion and what is trained on."""
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
        terminal.show(f"── {title}\n{body}\n")


def plan(
    *,
    pool: str | None = None,
    tests: options.Tests = (),
    gpu_memory: Annotated[tuple[float, ...], options.several()] = (),
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Estimate tokens, time, memory and disk of a run before you start it.

    Times small samples of the run's own stages on this machine and counts the rest.
    With --gpu-memory it says instead what fits on such a GPU: from the model's
    config.json alone, without its weights and without the GPU.

    Args:
        pool: File with the unlabelled questions, or the id of a dataset.
        tests: Test sets, NAME=FILE each.
        gpu_memory: Memory of one GPU in GB, for example 80; several are compared.
    """
    if pool is None and not gpu_memory:
        raise ConfigError(
            "--pool (to time a run on this machine) or --gpu-memory (to see what fits "
            f"on a GPU) is missing; see {PROGRAM} plan --help"
        )
    config = options.resolve_with_model(settings)
    files = options.read_named(tests)
    with options.opened(output, config) as terminal:
        if gpu_memory:
            seen = no.foresee(config, gpu_memory, pool, files, terminal)
            terminal.show_result(seen, show_foresight)
        else:
            show_plan(terminal, no.plan(str(pool), config, files, terminal))


def show_foresight(terminal: Terminal, seen: Foresight) -> None:
    """Show the model, then what fits each memory, and settings."""
    lengths = seen.lengths
    terminal.show(
        f"{seen.model} ({seen.family}): {seen.num_parameters:,} parameters; trained: "
        f"{seen.num_trained:,}; keys and values: {size(seen.cache_token)} a token"
    )
    whence = "counted" if lengths.counted else "assumed, as no --pool is given"
    terminal.show(
        f"longest texts: prompt {lengths.prompt:,} tokens, teacher's prompt "
        f"{lengths.shown:,} ({whence}), completion {lengths.completion:,}"
    )
    for fit in seen.fits:
        show_fit(terminal, fit)


def show_fit(terminal: Terminal, fit: Fit) -> None:
    """Show ways to train on one GPU, rows decoded together, and settings."""
    terminal.show(f"\n── one GPU of {fit.memory / 2**30:g} GB")
    rows = [
        [
            WAYS[found.way.tuning] + (", checkpointing" * found.way.checkpointing),
            size(found.peak.static.total),
            size(found.saved),
            size(found.peak.total),
            f"{found.longest:,}" if found.longest else "none",
            f"{found.per_pass}",
        ]
        for found in fit.options
    ]
    terminal.show_table(FIT_HEADINGS, rows)
    for row in fit.rows:
        terminal.show(
            f"{row.engine} decodes {row.pool} of the longest completions together, "
            f"{row.half} of half that length"
        )
    if fit.chosen is None:
        terminal.show(f"nothing fits: {fit.advice}")
    else:
        terminal.show(f"take: --set {' '.join(fit.settings)}")


def show_plan(terminal: Terminal, found: Plan) -> None:
    """Show each stage and the totals."""
    if terminal.json:
        terminal.show_json(asdict(found) | {"seconds": found.seconds})
        return
    rows = [
        [
            stage.name,
            f"{stage.tokens:,}",
            *times(stage.seconds, stage.low, stage.high),
        ]
        for stage in found.stages
    ]
    terminal.show_table(["stage", "tokens", "time", "likely range"], rows)
    time, spread = times(found.seconds, found.low, found.high)
    terminal.show(f"time:   {time} ({spread or found.why_untimed})")
    memory = found.peak_memory_bytes
    held = f"{size(memory)} at most" if memory else "unknown on this system"
    engine = found.engine_memory_bytes
    beside = f", of which vLLM holds {size(engine)}" if engine else ""
    terminal.show(f"memory: {held}{beside}", f"disk:   {size(found.disk_bytes)}")


def times(
    seconds: float | None, low: float | None, high: float | None
) -> tuple[str, str]:
    """Format a time and its range."""
    if seconds is None or low is None or high is None:
        return "not measured", ""
    return duration(seconds), f"{duration(low)} to {duration(high)}"


def config(
    *,
    settings: options.Settings = options.DEFAULT_SETTINGS,
    output: options.Output = options.DEFAULT_OUTPUT,
) -> None:
    """Print every setting with its value and what it does, as a TOML file.

    Settings that neither you nor the method set are commented out.
    """
    from neuron_opsd.config.tables import to_toml

    resolved = options.resolve(settings)
    if "method" in resolved.model_fields_set:
        # Imported late, as the methods import PyTorch.
        from neuron_opsd.runs.resolution import with_method

        resolved = with_method(resolved)
    with options.opened(output) as terminal:
        if terminal.json:
            terminal.show_json(resolved.model_dump())
        else:
            text = to_toml(resolved, comments=True, only_chosen=True)
            terminal.show_toml(text.rstrip())


def doctor(
    *, out: Path = Path(), output: options.Output = options.DEFAULT_OUTPUT
) -> int:
    """Check whether this machine is ready, and say how to fix what is not.

    Args:
        out: Where runs will be written.

    Returns:
        The exit status: 2 if something must be fixed, else 0.
    """
    with options.opened(output) as terminal:
        from neuron_opsd.planning.doctor import diagnose
        from neuron_opsd.storage.download_cache import cache_folder

        checks = diagnose(cache_folder(), out)
        if terminal.json:
            terminal.show_json({"checks": checks})
        else:
            show_checks(terminal, checks)
    return MISTAKE if any(check.state == "fail" for check in checks) else DONE


def show_checks(terminal: Terminal, checks: Sequence[Check]) -> None:
    """Show each check, with advice under those that fail."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        terminal.show(f"{check.state:<4}  {check.name:<{width}}  {check.value}")
        if check.advice:
            terminal.show(f"{'':<4}  {'':<{width}}  → {check.advice}")
