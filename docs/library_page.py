"""The page of the library: every public name with its signature and its docstring.

On a forge they are shown as code. On the site mkdocstrings shows them instead, of the
objects that comments name (`site_hooks.py`).
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import neuron_opsd

HEAD = """\
# Library

<!-- Written by `make docs` from the docstrings in src/neuron_opsd; do not edit. -->

`import neuron_opsd as no` gives you the names on this page, and only these are meant to
be imported. The import costs nothing: a name is loaded when it is first used.
[examples/own_data.py](../../examples/own_data.py) is a complete program, and
[examples/algorithm1.py](../../examples/algorithm1.py) is the method, step by step.

A setting is named as on the [page of settings](settings.md). A place is a path, as text
or as a `Path`; for questions it may also be the id of a dataset.
"""

PROGRAM = Path(__file__).parents[1] / "examples" / "algorithm1.py"

UNUSED = 1 << 30
"""Place of a name that the program does not use: after all others."""

COMMANDS = "Commands"
KINDS: Mapping[str, tuple[str, ...]] = {
    "Settings": ("config", "config.recipes", "config.tables"),
    "Inputs": ("data.questions", "models.load"),
    "Steps of the method": ("steps", "stages.teaching"),
    "Methods of your own": ("methods",),
    "Progress and errors": ("progress", "tracking.tracked", "errors"),
}
"""Heading to the modules whose names it has; names of other modules are commands."""

ABOUT: Mapping[str, str] = {
    COMMANDS: "What the commands do, as functions: plain arguments in, records out.",
    "Steps of the method": "One function for each step of Algorithm 1, in its order. "
    "Each takes what those before it returned. What is computed stays in memory; `run` "
    "does the same in a directory that resumes.",
}

RECORDS = """\
## What they return

Records that the functions above return. They are frozen: read them, do not build them.
"""


def library_page() -> str:
    """Return the reference of the library as Markdown."""
    named: dict[str, list[str]] = {kind: [] for kind in (COMMANDS, *KINDS)}
    public = [name for name in neuron_opsd.__all__ if not name.startswith("__")]
    for name in sorted(public, key=place_of):
        named[kind_of(name)].append(name)
    lines, shown = [HEAD], set[Any]()
    for kind, names in named.items():
        lines += [f"## {kind}", "", *([ABOUT[kind], ""] if kind in ABOUT else [])]
        for name in names:
            thing = getattr(neuron_opsd, name)
            lines += entry(f"### {name}", thing)
            for table in {keywords_of(thing)} - shown - {None}:
                shown.add(table)
                lines += entry(f"#### Keyword arguments of {name}", table)
    lines.append(RECORDS)
    for record in records(public):
        lines += entry(f"### {record.__name__}", record)
    return "\n".join(lines).rstrip() + "\n"


def kind_of(name: str) -> str:
    """Return the heading that a public name stands below."""
    home = getattr(neuron_opsd, name).__module__.partition(".")[2]
    return next((kind for kind, homes in KINDS.items() if home in homes), COMMANDS)


def place_of(name: str) -> tuple[int, bool, str, int]:
    """Return what orders names: Algorithm 1, then the library, then other modules."""
    thing = getattr(neuron_opsd, name)
    use = PROGRAM.read_text(encoding="utf-8").find(f"no.{name}(")
    home, line = thing.__module__, inspect.getsourcelines(thing)[1]
    return (use if use >= 0 else UNUSED), not home.endswith(".library"), home, line


def keywords_of(thing: Any) -> Any:
    """Return the table that a function's keyword arguments make up, if there is one."""
    code = getattr(inspect.unwrap(thing), "__code__", None)
    if code is None or not code.co_flags & inspect.CO_VARKEYWORDS:
        return None
    hints = get_type_hints(thing)
    (table,) = get_args(hints[list(inspect.signature(thing).parameters)[-1]])
    return table


def records(names: list[str]) -> list[type]:
    """Return the records that functions return, by their names."""
    found: dict[str, type] = {}
    for thing in (getattr(neuron_opsd, name) for name in names):
        if inspect.isfunction(thing):
            for part in parts(get_type_hints(thing)["return"]):
                if isinstance(part, type) and is_dataclass(part):
                    found[part.__name__] = part
    return [found[name] for name in sorted(found)]


def parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and all that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from parts(part)


def entry(heading: str, thing: Any) -> Iterator[str]:
    """Yield the lines of one name."""
    yield from (heading, "", f"<!-- {thing.__module__}.{thing.__qualname__} -->", "")
    yield from ("```python", outline(inspect.getsource(thing)), "```", "")


def outline(source: str) -> str:
    """Return a definition as far as its docstring goes; of a class also its fields."""
    text = textwrap.dedent(source)
    (node,) = ast.parse(text).body
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    first, *others = node.body
    kept = [(node.lineno, first.end_lineno)]
    if isinstance(node, ast.ClassDef):
        kept += [
            (part.lineno, part.end_lineno)
            for part in others
            if isinstance(part, ast.AnnAssign | ast.Expr)
        ]
    lines = text.splitlines()
    head, *fields = ("\n".join(lines[start - 1 : end]) for start, end in kept)
    shown = "\n\n".join([head, "\n".join(fields)] if fields else [head])
    return re.sub(r"  # noqa.*", "", shown)
