"""What commands print with `--json`, held against the schemas that are published."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from neuron_opsd.cli.options import COMMAND_LINE
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.cli.text import plain_values
from places import DOCS

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMAS = DOCS / "reference" / "schemas"


def checked(
    show: Callable[[Terminal, Mapping[str, Any]], None],
) -> Callable[[Terminal, Mapping[str, Any]], None]:
    """Return a function that prints a document after it was found to fit."""

    def show_json(terminal: Terminal, document: Any) -> None:
        _, *words = shlex.split(COMMAND_LINE.get()) or [""]
        # A command's function may also be called by itself; and that no command is
        # without a schema is a test of its own.
        if words and (SCHEMAS / f"{words[0]}.json").is_file():
            check(words[0], document)
        show(terminal, document)

    return show_json


def check(command: str, document: Any) -> None:
    """Raise what is wrong with a document that a command prints."""
    printed = json.loads(json.dumps(plain_values(document), allow_nan=False))
    validator(command).validate(printed)


@cache
def validator(command: str) -> Draft202012Validator:
    """Return what checks a command's documents, and refuses names of no schema."""
    from jsonschema import Draft202012Validator

    schema = json.loads((SCHEMAS / f"{command}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(closed(schema))


def closed(schema: Any) -> Any:
    """Return a schema in which objects with named fields have no others."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        inner.setdefault("additionalProperties", False)
    return inner
