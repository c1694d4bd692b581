"""Writes the pages of the documentation that follow from the code: `make docs`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from contents import llms_text
from library_page import library_page
from neuron_opsd.cli.app import build_app
from neuron_opsd.cli.exit_statuses import EXIT_STATUSES
from neuron_opsd.config import Config, ContextsConfig, DistillConfig
from neuron_opsd.config.tables import flatten_table, toml_value
from neuron_opsd.methods import METHODS, Method, Oracle
from neuron_opsd.methods.distillation import PROTOTYPE
from neuron_opsd.runs.resolution import settled
from neuron_opsd.section import MOST, OneOf
from schemas import schema_pages

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"

SETTINGS = """\
# Settings

<!-- Written by `make docs` from the settings in src/neuron_opsd; do not edit. -->

Every setting has one name. `selection.keep_fraction` is
`Config().selection.keep_fraction` in Python, `--set selection.keep_fraction=0.1` on the
command line, and `keep_fraction` under `[selection]` in a TOML file given with
`--config`. A flag wins over the file, the file over the default. `neuron-opsd config`
prints all of them with these explanations as a TOML file to start from.
"""


COMMANDS_HEAD = """\
<!-- Written by `make docs` from src/neuron_opsd/cli; do not edit. -->

"""

COMMANDS_FOOT = """
What a command ends with: [exit statuses](exit-statuses.md).

## JSON output

With `--json` a command prints one JSON document on stdout and nothing else there. The
folder `schemas/` beside this page has its JSON schema for each command, such as
[run.json](schemas/run.json). Required fields stay; others may be added, so ignore names
that you do not know. Missing numbers are null.

## Environment

| variable | meaning |
|---|---|
| `NEURON_OPSD_CACHE` | where fetched files and models converted from GGUF are stored; \
else `neuron-opsd` under `XDG_CACHE_HOME`, else `~/.cache/neuron-opsd` |
| `NEURON_OPSD_DEBUG` | `1` shows the traceback of an error |
| `NO_COLOR` | any value turns colours off |
| `HF_HOME`, `HF_TOKEN` | where the hub's files are; the token for gated models |
"""


STATUSES_HEAD = """\
# Exit statuses

<!-- Written by `make docs` from src/neuron_opsd/cli/exit_statuses.py; do not edit. -->

What every command of `neuron-opsd` ends with, so that a script or a batch system knows
what to do next. Whatever the status, one line on stderr says why.

| status | meaning |
|---|---|
"""

STATUSES_FOOT = """
A batch job can be repeated as it is after 75 and after a signal. After 1 and 2 it would
fail in the same way:

```sh
neuron-opsd run --config settings.toml --pool pool.jsonl --out runs/first
status=$?
case $status in
  0) ;;
  75 | 129 | 130 | 138 | 143) scontrol requeue "$SLURM_JOB_ID" ;;
  *) exit $status ;;
esac
```

SIGINT is Ctrl-C. A signal during training lets the current step end and be stored
first. A second signal ends the process at once, and loses no more than a power cut
would; what arrives within a third of a second of the first is the same one.

A process that is killed with SIGKILL, as by a system without memory, says nothing and
ends with 137. What a run keeps is whole then as well, and the same command resumes it.
"""


def statuses_page() -> str:
    """Return the reference of all exit statuses as Markdown."""
    rows = (f"| {status} | {said} |\n" for status, said in EXIT_STATUSES.items())
    return STATUSES_HEAD + "".join(rows) + STATUSES_FOOT


def commands_page() -> str:
    """Return the reference of all commands as Markdown, from the parser itself."""
    body = build_app().generate_docs().partition("\n")[2]
    before, _, after = body.partition("## Table of Contents\n")
    commands = after[after.index("**Commands**") :]
    text = (before + commands).strip()
    return f"# Commands\n\n{COMMANDS_HEAD}{text}\n{COMMANDS_FOOT}"


def settings_page(settings: type[BaseModel] = Config) -> str:
    """Return the reference of all settings as Markdown."""
    lines = [SETTINGS, *settings_table(settings)]
    for name, field in settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            lines += ["", f"## [{name}]", "", section.__doc__ or "", ""]
            lines += settings_table(section)
    return "\n".join(lines) + "\n"


def settings_table(section: type[BaseModel]) -> Iterator[str]:
    """Yield a Markdown table of the plain fields of a section."""
    yield "| setting | default | allowed | what it is |"
    yield "|---|---|---|---|"
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel):
            continue
        text = " ".join((field.description or "").split())
        cells = [f"`{name}`", toml(field.default), allowed(field), text]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


METHODS_HEAD = """\
# Methods

<!-- Written by `make docs` from src/neuron_opsd/methods; do not edit. -->

What `--set method=NAME` can train and `neuron-opsd compare` can compare. All methods
share rollouts, prompts, adapters, checkpoints, signs of collapse and evaluation. A step
asks `distill.batch_size` questions and draws `distill.num_samples` rollouts of each, or
`policy.num_votes` if the method votes and that is more; form-only draws none. Equal
rollouts of a question are computed once and counted. Signs of collapse are read from
what the student answers to the guard's questions, whatever the method trains on, and
from the rollouts of the steps.

A method is one class: what it needs, how its examples are made, what it rolls out, its
loss, its own settings, and those of its source
([add a method](../how-to/add-a-method.md)). These are the methods there are:

{index}

## Which setting wins

Later entries win: the defaults; what the method takes where answers are chosen among
choices, and its own settings, both listed below; in a comparison, eight rollouts per
question for all; the preset of the method's source, if you ask for it; your settings
file; `--set`; and a variant's own settings, `NAME=METHOD:section.field=value`. The
order is the same in `run` and in `compare`. If a setting for all methods of a
comparison would turn one of them into another method (ema-only with demonstrations),
the comparison says so and stops. If it wins over a preset, or methods are not given the
same, the comparison says so and starts.

## Budgets, and the settings of the sources

By default (`preset = "equal"`) every method trains an adapter at one learning rate, for
as many steps, on as many questions; `compare` also gives all the same number of
rollouts. A comparison then shows what a method does with a budget, not how well each
was tuned. The learning rates of the sources differ by a factor of fifty, mostly because
they train all weights of models of other sizes. A rate that suits one method need not
suit another, so a comparison at one rate is a statement about that rate.

`--preset paper` (or `preset = "paper"`) trains a method as its paper or public code
does, as far as that is known; in a comparison it applies to all methods, or to one as
`NAME=METHOD:preset=paper`. Settings given by name win over the preset. The tables
below show what the source says, the preset, and the default. In all of them:

- The sources train all weights, except OPSD and U-OPSD. An adapter uses ten times the
  rate of full tuning (Schulman and Thinking Machines Lab, "LoRA Without Regret", 2025);
  with `distill.tuning = full` the preset has the source's own rate.
- Warm-up is a share of `distill.steps`, which no preset sets, so that methods are
  compared after the same number of updates. One epoch is the number of questions in the
  pool, divided by `distill.batch_size`.
- How the pool is answered, and how models are tested, is not part of a preset.

## Neurons

Neurons are read if `selection.rule` is one whose words in [settings](settings.md) speak
of neurons, or if demonstrations are chosen by `contexts.rule = nearest`. Otherwise no
pass is spent on them, and reports leave them out. A model without gated MLPs (GPT-2,
GPT-NeoX and Pythia, OPT, Phi-3, mixtures of experts) can be trained by every method
that needs no neurons. On such a model these methods select questions at random and find
demonstrations by words, unless you set otherwise, and say so. neuron-opsd and context-
sft, whose demonstrations are found by neurons, are refused there until you set
`contexts.rule`. In mixtures of experts only the attention gets an adapter.
"""

Cell: TypeAlias = Callable[[type[Method], Config], str]

ITEMS: Mapping[str, tuple[str, Cell]] = {
    "learning rate": ("learning rate", lambda _, c: f"{c.distill.learning_rate:g}"),
    "schedule": (
        "schedule",
        lambda _, c: f"{c.distill.schedule}, {c.distill.warmup_steps} steps of warm-up",
    ),
    "sampling": ("sampling", lambda _, c: sampling(c.distill)),
    "samples": (
        "rollouts of a question, trained on",
        lambda _, c: f"{c.distill.num_samples}",
    ),
    "votes": (
        "rollouts of a question that vote",
        lambda _, c: f"{max(c.distill.num_samples, c.policy.num_votes)}",
    ),
    "steps": ("steps", lambda _, c: f"{c.distill.steps}"),
    "questions": ("questions a step", lambda _, c: f"{c.distill.batch_size}"),
    "selection": ("questions trained on", lambda _, c: selected(c)),
    "demonstrations": ("demonstrations", lambda _, c: demonstrated(c.contexts)),
    "divergence": (
        "weight of the divergence from the base",
        lambda m, c: (
            f"{m.kl_weight if c.policy.kl_weight is None else c.policy.kl_weight:g}"
        ),
    ),
}
"""What the tables of methods compare: the name in `Preset.said` to a heading, and what
settings say of it."""

NOT_EVERYWHERE = ("votes", "divergence", "selection", "demonstrations")
"""Items that only the methods have that speak of them."""


def sampling(config: DistillConfig) -> str:
    """Say how training draws, without what leaves the distribution as it is."""
    parts = [f"temperature {config.temperature:g}"]
    if config.sampling_top_p < 1.0:
        parts.append(f"top-p {config.sampling_top_p:g}")
    if config.sampling_top_k:
        parts.append(f"top-k {config.sampling_top_k}")
    return ", ".join(parts)


def selected(config: Config) -> str:
    """Say which questions are trained on."""
    rule = config.selection
    balanced = ", balanced" if rule.balance else ""
    return f"`{rule.rule}`, {100 * rule.keep_fraction:g} %{balanced}"


def demonstrated(contexts: ContextsConfig) -> str:
    """Say which demonstrations a teacher sees."""
    shown = f"{contexts.num_demonstrations}, `{contexts.rule}`"
    return f"{shown}, of each question the `{contexts.answer}` answer"


def source_table(method: type[Method]) -> Iterator[str]:
    """Yield a Markdown table of a method's settings beside those of its source."""
    said = method.preset.said
    columns = [
        settled(Config(method=method.name, preset="paper")),
        settled(Config(method=method.name)),
    ]
    yield "| | its source | `--preset paper` | default |"
    yield "|---|---|---|---|"
    for item, (heading, cell) in ITEMS.items():
        if item not in said and item in NOT_EVERYWHERE:
            continue
        ours = [cell(method, config) for config in columns]
        if item == "learning rate":
            ours[0] += f" (full tuning: {method.preset.full_rate:g})"
        yield f"| {heading} | {said.get(item, 'not stated')} | {' | '.join(ours)} |"


def methods_page() -> str:
    """Return the reference of all methods as Markdown."""
    index = (f"- [{name}](#{name}): {one.summary}" for name, one in METHODS.items())
    lines = [METHODS_HEAD.replace("{index}", "\n".join(index))]
    for method in METHODS.values():
        own = [
            f"`{name} = {toml_value(value)}`"
            for name, value in flatten_table(method.settings).items()
        ]
        first, _, more = inspect.cleandoc(method.__doc__ or "").partition("\n\n")
        lines += [
            f"## {method.name}",
            "",
            first,
            "",
            *([more, ""] if more else []),
            f"- its loss acts on {method.acts_on}",
            f"- after: {method.source}",
            f"- sets: {', '.join(own) or 'nothing of its own'}",
            *short_lines(method),
            *(["- an oracle: `run` refuses it"] if issubclass(method, Oracle) else []),
            *[f"- {note}" for note in method.notes],
            *preset_lines(method),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def short_lines(method: type[Method]) -> list[str]:
    """Return what a method sets where answers are chosen among choices."""
    taken = {
        name: value
        for name, value in flatten_table(method.short_answers).items()
        if name not in flatten_table(method.settings)
    }
    said = ", ".join(f"`{name} = {toml_value(one)}`" for name, one in taken.items())
    return [f"- where answers are chosen among choices, also: {said}"] if said else []


def preset_lines(method: type[Method]) -> list[str]:
    """Return what is said of a method's preset."""
    if method.preset is PROTOTYPE:
        return ["- its preset trains it as neuron-opsd's does"]
    return ["", *source_table(method)]


def toml(value: Any) -> str:
    """Return a value as a settings file has it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str | tuple):
        return f"`{toml_value(value)}`"
    return f"`{value}`"


def allowed(field: FieldInfo) -> str:
    """Say which values a setting may have."""
    named = [one.names for one in field.metadata if isinstance(one, OneOf)]
    if get_origin(field.annotation) is Literal:
        named.append(get_args(field.annotation))
    if named:
        return ", ".join(f"`{value}`" for value in named[0])
    limits = [limit for limit in map(in_words, bounds_of(field)) if limit]
    return " and ".join(limits) or kind(field.annotation)


def bounds_of(field: FieldInfo) -> list[object]:
    """Return a field's bounds, also those of a number that may be left unset."""
    found: list[object] = list(field.metadata)
    for part in get_args(field.annotation):
        for inner in get_args(part)[1:]:
            found += inner.metadata if isinstance(inner, FieldInfo) else [inner]
    return found


def in_words(limit: object) -> str:
    """Say one bound in words."""
    match limit:
        case Ge(ge=bound):
            return f"at least {bound}"
        case Gt(gt=bound):
            return f"above {bound}"
        case Le(le=bound) if bound != MOST:
            return f"at most {bound}"
        case Lt(lt=bound):
            return f"below {bound}"
    return ""


def kind(annotation: object) -> str:
    """Name what a setting without bounds holds."""
    if get_origin(annotation) is Mapping:
        return "a table of numbers"
    if get_origin(annotation) is tuple:
        return "a list of texts"
    return "text" if annotation is str else "`true`, `false`"


def pages() -> dict[Path, str]:
    """Return every generated page by its place."""
    return {
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "methods.md": methods_page(),
        REFERENCE / "cli.md": commands_page(),
        REFERENCE / "library.md": library_page(),
        HERE / "llms.txt": llms_text((HERE / "README.md").read_text(encoding="utf-8")),
        REFERENCE / "exit-statuses.md": statuses_page(),
        **{REFERENCE / "schemas" / name: text for name, text in schema_pages().items()},
    }


def main() -> int:
    """Write every generated page, or with `--check` name those that are out of date."""
    status = 0
    for path, text in pages().items():
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} is out of date; run `make docs`")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
