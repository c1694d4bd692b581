"""The rules of the house, as functions from a module's source to what breaks them.

A module is named as it is imported, without the package: ``method.neurons``. Each rule
takes that name and the source text, so a test can plant a fault and see it found.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

PACKAGE = "neuron_opsd"

Rule: TypeAlias = Callable[[str, str], list[str]]

LAYERS: tuple[set[str], ...] = (
    {"documents", "errors", "progress", "records", "seeds"},
    {"section"},
    {"processes"},
    {"answers"},
    {"method"},
    {"config"},
    {"prompts", "results"},
    {"storage"},
    {"cluster", "data", "models", "tracking"},
    {"report", "stages"},
    {"methods"},
    {"known"},
    {"beliefs"},
    {"pipeline"},
    {"runs"},
    {"demo", "judging", "live", "planning"},
    {"comparison"},
    {"analysis"},
    {"probing"},
    {"exporting"},
    {"forgetting"},
    {"library", "steps"},
    {"cli"},
)
"""Rooms from the ground up. A room may import what stands below it, and neither its
neighbours nor what stands above."""

APART: dict[str, set[str]] = {
    "method": {"processes"},
    "report": {"data", "models", "storage"},
    "stages": {"data", "storage"},
    "methods": {"data", "results", "storage"},
}
"""What a room does not import though it stands below: pure numerics start no process,
pages are made from records alone, and what trains knows no files."""

GOLD_MODULES = {
    "analysis.inputs",
    "comparison.oracles",
    "data.questions",
    "demo.benchmarks",
    "demo.fetch",
    "demo.sources",
    "exporting.inspect_ai",
    "exporting.lm_eval",
    "judging.marking",
    "judging.questions",
    "probing.labels",
    "records",
    "runs.context",
    "runs.gold_checks",
    "runs.inputs",
    "runs.reporting",
    "runs.testing",
    "stages.scoring",
}
"""Modules that may name gold answers, besides the report and the command;
none of them chooses what is trained on, or trains."""

TARGET_MODULES = {
    "comparison.run_group",
    "comparison.forecast",
    "comparison.grid",
    "comparison.oracles",
    "methods",
    "methods.method",
}
"""Modules that may name what oracles are told: where oracles are defined, and where a
comparison tells them. In a method's own module only an oracle's class may."""

DOORS = {
    "models.config_file",
    "models.decoding.choices",
    "models.gguf",
    "models.gguf.writing",
    "models.library_errors",
    "models.load",
    "models.outline",
    "models.remembering",
    "models.roles",
    "models.room",
    "models.vllm.adapters",
    "models.weights.finite",
    "models.weights.merging",
    "models.weights.precision",
    "models.weights.shards",
}
"""What others may import of `models`: roles, loading, pure numerics, and what is known
of files; never the classes that fulfil the roles."""

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "pandas.read_pickle"}
UNSAFE_ARGUMENTS = {"trust_remote_code", "allow_pickle"}

EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
"""Names that say nothing; a function that has no home shows a missing noun."""

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 350


def room_of(module: str) -> str:
    """Return the room of a module, the top of the house for its doors."""
    first = module.partition(".")[0]
    return "cli" if first in {"__main__", "__init__"} else first


def level_of(room: str) -> int:
    """Return how high a room stands.

    Raises:
        ValueError: If it stands nowhere.
    """
    for level, rooms in enumerate(LAYERS):
        if room in rooms:
            return level
    raise ValueError(f"{room} stands in no layer; name it in LAYERS")


def may_import(room: str, other: str) -> bool:
    """Say whether a room may import another."""
    if room == other:
        return True
    return level_of(other) < level_of(room) and other not in APART.get(room, set())


def imported(source: str) -> Iterator[str]:
    """Yield the full name of all that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from (f"{start}.{alias.name}" for alias in node.names)


def upward_imports(module: str, source: str) -> list[str]:
    """Find imports of a higher room or a neighbour, and of the package as a whole."""
    room = room_of(module)
    found = []
    for name in imported(source):
        if name.startswith("."):
            found.append(f"{module} has the relative import {name}")
        if name == f"{PACKAGE}.__version__" or not name.startswith(f"{PACKAGE}."):
            continue
        other = room_of(name.removeprefix(f"{PACKAGE}."))
        if not stands(other) or not may_import(room, other):
            found.append(f"{module} imports {name}")
    return found


def stands(room: str) -> bool:
    """Say whether a name is that of a room; the front page's names are not."""
    return any(room in rooms for rooms in LAYERS)


def transformers_outside_models(module: str, source: str) -> list[str]:
    """Find imports of transformers and peft outside the doorway to weights."""
    if room_of(module) == "models":
        return []
    return [
        f"{module} imports {name}"
        for name in imported(source)
        if name.partition(".")[0] in {"transformers", "peft"}
    ]


def ray_outside_cluster(module: str, source: str) -> list[str]:
    """Find imports of Ray outside the room that joins a cluster."""
    if room_of(module) == "cluster":
        return []
    return [
        f"{module} imports {name}"
        for name in imported(source)
        if name.partition(".")[0] == "ray"
    ]


def trackers_outside_tracking(module: str, source: str) -> list[str]:
    """Find imports of trackers of experiments outside the room that tells them."""
    if room_of(module) == "tracking":
        return []
    return [
        f"{module} imports {name}"
        for name in imported(source)
        if name.partition(".")[0] in {"mlflow", "tensorboard", "trackio", "wandb"}
    ]


def past_the_doorway(module: str, source: str) -> list[str]:
    """Find imports of what stands behind the roles, outside `models`."""
    if room_of(module) == "models":
        return []
    inside = f"{PACKAGE}.models."
    return [
        f"{module} imports {name}"
        for name in imported(source)
        if name.startswith(inside)
        and not {name, name.rpartition(".")[0]} & {f"{PACKAGE}.{d}" for d in DOORS}
    ]


def gold_answers_below_evaluation(module: str, source: str) -> list[str]:
    """Find the type of the gold answers where training could see it."""
    if module in GOLD_MODULES or room_of(module) in {"report", "cli"}:
        return []
    names = {"GoldAnswers", "answer_of"}
    found = [
        f"{module}, line {node.lineno}: names {label}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name | ast.Attribute)
        and (label := node.id if isinstance(node, ast.Name) else node.attr) in names
    ]
    found += [
        f"{module} imports {name}"
        for name in imported(source)
        if name.rpartition(".")[2] in names
    ]
    return found


def targets_outside_oracles(module: str, source: str) -> list[str]:
    """Find what oracles are told where no oracle is."""
    if module in TARGET_MODULES:
        return []
    tree = ast.parse(source)
    inside = {
        part
        for node in ast.walk(tree)
        if room_of(module) == "methods" and is_oracle(node)
        for part in ast.walk(node)
    }
    names = {"Target", "Targets"}
    if room_of(module) == "methods":
        names |= {"targets"}
    return [
        f"{module} names {name}"
        for node in ast.walk(tree)
        if node not in inside
        for name in names & names_of(node)
    ]


def is_oracle(node: ast.AST) -> bool:
    """Say whether a node is the class of a method that is given gold answers."""
    if not isinstance(node, ast.ClassDef):
        return False
    return any(
        isinstance(base, ast.Name) and base.id == "Oracle" for base in node.bases
    )


def names_of(node: ast.AST) -> set[str]:
    """Return what one node of a module names."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            return {name}
        case ast.alias(name=name, asname=other):
            return {name.rpartition(".")[2], other or ""}
        case ast.Constant(value=str(text)):
            return {text}
    return set()


def unsafe_calls(module: str, source: str) -> list[str]:
    """Find what could run code out of a file: pickle, eval, remote code."""
    found = [
        f"{module} imports {name}"
        for name in imported(source)
        if name.partition(".")[0] in UNSAFE_MODULES or name in UNSAFE_CALLS
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in UNSAFE_CALLS:
                found.append(f"{module}, line {node.lineno}: calls {called}")
            found += [
                f"{module}, line {node.lineno}: gives {keyword.arg}"
                for keyword in node.keywords
                if keyword.arg in UNSAFE_ARGUMENTS and not is_false(keyword.value)
            ]
    return found


def is_false(node: ast.expr) -> bool:
    """Say whether an argument is the word False."""
    return isinstance(node, ast.Constant) and node.value is False


def prints_outside_cli(module: str, source: str) -> list[str]:
    """Find `print` where the terminal should not be known."""
    if room_of(module) == "cli":
        return []
    return [
        f"{module}, line {node.lineno}: prints"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and node.id == "print"
    ]


def too_long(module: str, source: str) -> list[str]:
    """Find functions and modules too long to read at once."""
    found = []
    num_lines = len(source.splitlines())
    if num_lines > MAX_MODULE_LINES:
        found.append(f"{module} has {num_lines} lines, above {MAX_MODULE_LINES}")
    for function in functions(ast.parse(source)):
        length = (function.end_lineno or 0) - function.lineno + 1
        if length > MAX_FUNCTION_LINES:
            found.append(f"{module}.{function.name} has {length} lines")
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def empty_names(module: str, source: str) -> list[str]:
    """Find modules whose name says nothing."""
    del source
    return [
        f"{module}: {part} is no name"
        for part in module.split(".")
        if part in EMPTY_NAMES
    ]


def public_without_docstring(module: str, source: str) -> list[str]:
    """Find a module, class or function that outsiders use and nobody explains."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else [f"{module} has no docstring"]
    return found + list(unexplained(module, tree))


def unexplained(owner: str, tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Yield the public classes, functions and methods that have no docstring."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{owner}.{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from unexplained(f"{owner}.{node.name}", node)


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        upward_imports,
        transformers_outside_models,
        ray_outside_cluster,
        trackers_outside_tracking,
        past_the_doorway,
        gold_answers_below_evaluation,
        targets_outside_oracles,
        unsafe_calls,
        prints_outside_cli,
        too_long,
        empty_names,
        public_without_docstring,
    )
}


def circles(sources: Mapping[str, str]) -> list[str]:
    """Find modules that import each other, wherever in them and for whatever reason.

    Args:
        sources: By the module's name; a package has that of its folder.

    Returns:
        The modules that stand in a circle.
    """
    below = {module: set(targets(module, sources)) for module in sources}
    # What imports nothing that is left stands in no circle.
    while free := [m for m, targets in below.items() if not targets & below.keys()]:
        for module in free:
            del below[module]
    # Nor does what nothing imports that is left.
    while free := [m for m in below if not any(m in found for found in below.values())]:
        for module in free:
            del below[module]
    return sorted(below)


def targets(module: str, sources: Mapping[str, str]) -> Iterator[str]:
    """Yield the modules that a module imports, or from which it imports names."""
    for name in imported(sources[module]):
        other = name.removeprefix(f"{PACKAGE}.")
        while other and other not in sources:
            other = other.rpartition(".")[0]
        if name.startswith(f"{PACKAGE}.") and other and other != module:
            yield other
