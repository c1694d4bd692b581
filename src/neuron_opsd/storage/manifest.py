"""The manifest of a run directory: its origin, its sources and what is done.

It proves what is stored next to it, and carries its own hash, so that no flipped bit
reaches a report.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Container, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from neuron_opsd.documents import DocumentError, fault_in, parse_table
from neuron_opsd.errors import ConfigError, DataError, NeuronOpsdError, clauses
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.files import write_atomic

MANIFEST = "manifest.json"
PARTS = "parts"
"""Folder of the chunks of unfinished stages."""
PLAN: Final = "plan.json"
"""Says how an output is cut, next to its chunks."""
RECEIPT: Final = ".done"
SCHEMA_VERSION = 1
PACKAGES = (
    *("neuron_opsd", "torch", "transformers", "peft", "numpy"),
    *("math-verify", "sympy"),
)
UNSET = "(unset)"
NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")
USE_THE_OTHER = "use the version that wrote it, or start again with another --out"
NEW_PLACE = "; start again with another --out"
FORMER_OUTPUTS: Final = {"teacher_check": "fitness"}
"""Outputs and their names in earlier versions."""
PLACES = ("model.name",)
"""Settings that may name a place, which has many spellings."""
SEAL: Final = "seal"
"""Field with the SHA-256 of all others."""

Settings: TypeAlias = Mapping[str, Any]
"""JSON values by dotted name."""


def inner_path(name: str) -> str:
    """Return a name, checked to be a path inside a run directory."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(f"{name!r} is no path below the run directory")
    return name


InnerPath: TypeAlias = Annotated[str, AfterValidator(inner_path)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=10**18)]


class KnownFacts(BaseModel):
    """Facts used in calculations, by stage."""

    model_config = ConfigDict(extra="allow", strict=True)

    tokens: dict[str, Count] = {}
    seconds: dict[str, Seconds] = {}
    ranks: dict[str, Count] = {}
    adapters: dict[str, Any] = {}


def checked_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return checked facts unchanged."""
    KnownFacts.model_validate(facts)
    return facts


class Output(BaseModel):
    """One finished file or folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: InnerPath
    sha256: str
    """Of the file, or of the names and hashes in `files`."""
    seconds: Seconds | None = None
    """Computing time over all processes; `None` if only written."""
    made_from: dict[str, str] | None = None
    """Source names to SHA-256; `None` from versions that did not keep it."""
    files: dict[str, str] = {}
    """SHA-256 of a folder's files by name."""
    size: int | None = None
    """Bytes of the file or of `files`; `None` from versions that did not keep it."""


class Manifest(BaseModel):
    """The contents of `manifest.json`."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int
    settings: dict[str, Any]
    inputs: dict[str, str]
    """File name to SHA-256."""
    versions: dict[str, str]
    environment: dict[str, str] = {}
    outputs: dict[InnerPath, Output] = {}
    facts: Annotated[dict[str, Any], AfterValidator(checked_facts)] = {}


class Receipt(BaseModel):
    """The receipt of a finished chunk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    seconds: Seconds


def read_receipt(path: Path) -> Receipt | None:
    """Read a receipt; `None` if missing or damaged."""
    try:
        return Receipt.model_validate(unseal(read_plain(path)))
    except (DataError, DocumentError, ValidationError):
        return None


def kept_name(name: str, outputs: Container[str]) -> str:
    """Return the name an output is listed under, maybe a former one."""
    folder, slash, last = name.rpartition("/")
    former = f"{folder}{slash}{FORMER_OUTPUTS.get(last, last)}"
    return former if former in outputs else name


def new_manifest(
    settings: Settings, inputs: Mapping[str, str], environment: Mapping[str, str]
) -> Manifest:
    """Return the manifest of a new run."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        settings=as_json(settings),
        inputs=dict(inputs),
        versions=dict(installed_versions()),
        environment=dict(environment),
    )


def is_manifest(path: Path) -> bool:
    """Return whether a file has the fields of a run's manifest."""
    try:
        table = parse_table(read_plain(path))
    except (NeuronOpsdError, DocumentError):
        return False
    needed = {name for name, one in Manifest.model_fields.items() if one.is_required()}
    return needed <= table.keys()


def read_manifest(folder: Path) -> Manifest:
    """Read a run directory's manifest, also while another process runs it.

    Raises:
        DataError: If there is no manifest or it cannot be understood.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise DataError(f"{folder} is not a run directory: no {MANIFEST}")
    table: dict[str, Any] = {}
    try:
        table = unseal(read_plain(path, NEW_PLACE))
        found = table.get("schema_version")
        if found == SCHEMA_VERSION:
            return Manifest.model_validate(table)
    except (DocumentError, ValidationError) as error:
        if names := unknown_names(error):
            raise DataError(
                f"{path}{written_by(table)} has entries that this version does not "
                f"know ({clauses(names)}); {USE_THE_OTHER}"
            ) from None
        raise DataError(f"{path} is damaged ({fault_in(error)}){NEW_PLACE}") from None
    raise DataError(
        f"{path}{written_by(table)} has schema version {found!r}, this program reads "
        f"{SCHEMA_VERSION}; {USE_THE_OTHER}"
    )


def unknown_names(error: Exception) -> list[str]:
    """Return the fields a later version added; none if values are wrong."""
    if not isinstance(error, ValidationError):
        return []
    found = error.errors()
    unknown = [one for one in found if one["type"] == "extra_forbidden"]
    if len(unknown) < len(found):
        return []
    return [".".join(map(str, one["loc"])) for one in unknown]


def written_by(table: Any) -> str:
    """Say which version wrote a manifest."""
    versions = table.get("versions") if isinstance(table, dict) else None
    found = versions.get("neuron_opsd") if isinstance(versions, dict) else None
    return f" (of neuron-opsd {found})" if isinstance(found, str) else ""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` atomically."""
    write_atomic(folder / MANIFEST, seal(manifest.model_dump()))


def check_settings(folder: Path, old: Settings, new: Settings) -> None:
    """Refuse to resume a run with other settings."""
    fresh = as_json(new)
    changed = [
        f"{name} was {value_text(old, name)}, now {value_text(fresh, name)}"
        for name in dict.fromkeys([*old, *fresh])
        if value_text(old, name) != value_text(fresh, name)
    ]
    if changed:
        # A manifest holds all settings: another version has more or fewer.
        ours = old.keys() == fresh.keys()
        with_what = "the old ones" if ours else "the version it was started with"
        raise ConfigError(
            f"{folder} was started with other settings: {clauses(changed)}; resume "
            f"with {with_what}, or choose another --out"
        )


def check_provenance(folder: Path, manifest: Manifest) -> None:
    """Refuse to resume a run without listed sources."""
    for output in manifest.outputs.values():
        if output.made_from is None:
            raise DataError(
                f"{folder} was started by a version that kept no hashes of what "
                f"{output.file} was made from, so it can be read (status, report, "
                "analyse) but not resumed; finish it with the version that started it, "
                "or choose another --out"
            )


def check_inputs(folder: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Refuse to resume a run with other files."""
    problems = [
        f"{name} {input_change(name, old, new)}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    if problems:
        raise DataError(
            f"{folder} was started with other input files: {clauses(problems)}; give "
            "the old files, or choose another --out"
        )


@cache
def installed_versions() -> Mapping[str, str]:
    """Return the versions that results depend on, importing none."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def input_change(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Say how an input file changed."""
    if name not in new:
        return "is left out"
    return "was changed" if name in old else "is new"


def value_text(settings: Settings, name: str) -> str:
    """Write a setting as JSON, telling 1 from 1.0 and true."""
    if name not in settings:
        return UNSET
    value = settings[name]
    if name in PLACES and isinstance(value, str):
        value = place_text(value)
    return json.dumps(value, sort_keys=True)


def place_text(value: str) -> str:
    """Make an existing place absolute; keep others."""
    try:
        path = Path(value).expanduser()
        return str(path.resolve()) if value and path.exists() else value
    except (OSError, RuntimeError, ValueError):
        return value


def json_sha256(value: Any) -> str:
    """Return the SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def as_json(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table as read back from a file."""
    return dict(json.loads(json.dumps(dict(table))))


def seal(table: Mapping[str, Any]) -> bytes:
    """Return a table's JSON text with its seal."""
    held = as_json(table)
    return (json.dumps({**held, SEAL: json_sha256(held)}, indent=2) + "\n").encode()


def unseal(data: bytes) -> dict[str, Any]:
    """Return a table without its seal, if it has one."""
    table = parse_table(data)
    known = table.pop(SEAL, None)
    if known is not None and known != json_sha256(table):
        raise DocumentError("its content was changed")
    return table
