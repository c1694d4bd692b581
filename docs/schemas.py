"""Writes the JSON schema of what each command prints with `--json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from docstring_parser import parse_from_object
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from neuron_opsd.cli.documents import DOCUMENTS


class OutputSchema(GenerateJsonSchema):
    """Schemas of what is printed: every field is, and a number may be missing.

    JSON has no word for NaN and infinity, so that commands print null for them.
    """

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        """Let a number be null."""
        return {**super().float_schema(schema), "type": ["number", "null"]}

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Say nothing of what a field is by default."""
        return self.generate_inner(schema["schema"])

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001 - as its base
        """Say that all fields of records are printed."""
        if field["type"] == "typed-dict-field":
            return super().field_is_required(field, total)
        return True

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Repeat no name of a field as its title."""
        del schema
        return False

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        """Describe fields by what stands below them in the code."""
        found = super().dataclass_schema(schema)
        for said in parse_from_object(schema["cls"]).params:
            if said.arg_name in found["properties"] and said.description:
                text = " ".join(said.description.split()).replace("`None`", "`null`")
                found["properties"][said.arg_name].setdefault("description", text)
        return found


def schema_of(command: str) -> dict[str, Any]:
    """Return the JSON schema of what a command prints."""
    found = TypeAdapter(DOCUMENTS[command]).json_schema(
        mode="serialization", schema_generator=OutputSchema
    )
    return {
        "$schema": OutputSchema.schema_dialect,
        **found,
        "title": f"neuron-opsd {command} --json",
    }


def schema_pages() -> Mapping[str, str]:
    """Return the text of every schema's file, by its name."""
    return {
        f"{command}.json": json.dumps(schema_of(command), indent=2) + "\n"
        for command in DOCUMENTS
    }
