"""Each example is run as a user would, and does what it says."""

from __future__ import annotations

import ast
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import places
from neuron_opsd.config.tables import flatten_table, load_config, merge
from neuron_opsd.demo.demonstration import IN_DOMAIN, QUICK
from neuron_opsd.demo.demonstration import SETTINGS as DEMO_SETTINGS
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.selection import SELECTION_RULES
from neuron_opsd.methods import _BY_NAME, METHODS, add_method
from neuron_opsd.methods.imitation import LMSI
from tiny_runs import (
    POOL_SIZE,
    SETTINGS,
    files_of,
    read_json,
    run_command,
    tiny_request,
)

EXAMPLES = places.ROOT / "examples"


@pytest.fixture
def run_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Give a function that runs an example and returns what it printed."""

    def run(name: str, *argv: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, argv)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def own_entries() -> Iterator[None]:
    """Take back the methods and rules that a test adds."""
    tables: list[dict[str, Any]] = [_BY_NAME, SELECTION_RULES]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        for name in table.keys() - old.keys():
            del table[name]


OTHER = ("contexts.rule=question-neurons", "contexts.answer=neuron-medoid")


@pytest.mark.parametrize(
    ("kind", "told"), [("choices", ()), ("free", ()), ("free", OTHER)]
)
def test_algorithm_1_gives_the_adapter_of_a_run(
    run_example: Callable[..., str],
    tiny_llama: Path,
    tmp_path: Path,
    kind: str,
    told: tuple[str, ...],
) -> None:
    request = replace(tiny_request(tmp_path, kind=kind), tests={})
    arguments = (tiny_llama, request.pool, tmp_path / "adapter", *SETTINGS, *told)
    printed = run_example("algorithm1.py", *arguments)
    assert "step 4: loss " in printed
    assert run_command(request, tiny_llama, told) == 0
    run, steps = files_of(request.out / "adapter"), files_of(tmp_path / "adapter")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert steps[file] == run[file]


def test_algorithm_1_fits_on_a_screen() -> None:
    assert len((EXAMPLES / "algorithm1.py").read_text().splitlines()) < 80


def test_own_data_ends_with_a_measured_adapter(
    run_example: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    files = request.pool, request.tests["parity"], request.out
    printed = run_example("own_data.py", tiny_llama, *files, *SETTINGS)
    assert "the student is asked:\n" in printed
    table = read_json(request.out / "evaluation.json")["exam"]
    after = table["after"]["avg_at_k"]
    gain = after - table["before"]["avg_at_k"]
    assert f"exam: {gain:+.3f} (" in printed
    assert printed.endswith(f"Avg@k of the adapter: {after:.3f}\n")


@pytest.mark.usefixtures("own_entries")
def test_a_new_method_is_trained_beside_another(
    run_example: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path)
    files = request.pool, request.tests["parity"], tmp_path / "compared"
    short = (*SETTINGS, "distill.steps=2", "distill.num_samples=4")
    printed = run_example("new_method.py", tiny_llama, *files, *short)
    table = read_json(tmp_path / "compared" / "results.json")
    budget = {row["method"]: row for row in table["budgets"]}
    own = budget["shortest-agreeing"]
    assert own["prompts"] == budget["lmsi"]["prompts"]
    assert 0 < own["trained_tokens"] < own["generated_tokens"]
    for method in ("base", "form-only", "lmsi", "shortest-agreeing"):
        assert f"\n{method}: Avg@4 0." in f"\n{printed}"


@pytest.mark.usefixtures("own_entries")
def test_a_method_is_added_once() -> None:
    class Mine(LMSI):
        name = "mine"

    assert add_method(Mine) is Mine
    assert add_method(Mine) is METHODS["mine"]
    with pytest.raises(ConfigError, match="there is a method lmsi already"):
        add_method(type("Other", (LMSI,), {}))


@pytest.mark.usefixtures("own_entries")
def test_a_new_rule_selects_by_votes_and_entropies(
    run_example: Callable[..., str], tiny_llama: Path, tmp_path: Path
) -> None:
    pool, run = tiny_request(tmp_path).pool, tmp_path / "certain"
    printed = run_example("new_selection_rule.py", tiny_llama, pool, run, *SETTINGS)
    assert printed.startswith(f"10 of {POOL_SIZE} questions selected\n")
    kept = {
        one["rank"]: one for one in read_json(run / "selection.json") if one["kept"]
    }
    assert kept.keys() == set(range(10))
    assert kept[0]["reason"] == "place 1 of 20 from the most certain"


NOTEBOOK = EXAMPLES / "first_run.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    """Return the cells of a kind of the notebook."""
    return [one for one in read_json(NOTEBOOK)["cells"] if one["cell_type"] == kind]


def test_the_notebook_runs_from_top_to_bottom(
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its cells run one after the other, on what stands for the demo's files."""
    request = tiny_request(tmp_path)
    settings = dict(load_config(None, SETTINGS).model_dump(exclude_unset=True))
    given = {
        "MODEL": str(tiny_llama),
        "POOL": request.pool,
        "TESTS": dict(request.tests),
        "OUT": str(request.out),
        "SETTINGS": flatten_table(settings),
    }
    first, *others = cells("code")
    assert first["metadata"]["tags"] == ["parameters"]
    script = tmp_path / "notebook.py"
    parameters = [f"{name} = {value!r}\n" for name, value in given.items()]
    sources = ["".join(cell["source"]) + "\n" for cell in others]
    script.write_text("".join([*parameters, *sources]))
    names = {node.id for node in assigned("".join(first["source"]))}
    assert names >= given.keys()
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(script))
    printed = capsys.readouterr().out
    assert f"{POOL_SIZE} questions, for example:\n- Is 0 odd or even?" in printed
    accuracy = read_json(request.out / "evaluation.json")["parity"]["before"]
    assert f"parity, avg_at_k: {accuracy['avg_at_k']:.3f} before" in printed
    assert (request.out / "report.html").is_file()


def assigned(source: str) -> Iterator[ast.Name]:
    """Yield all names that a cell assigns to."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node


def test_the_notebook_is_kept_without_what_it_printed() -> None:
    table = read_json(NOTEBOOK)
    assert (table["nbformat"], table["nbformat_minor"]) == (4, 5)
    for cell in cells("code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    ids = [cell["id"] for cell in table["cells"]]
    assert len(set(ids)) == len(ids)


def test_the_notebook_names_the_demos_files_and_settings() -> None:
    first = "".join(cells("code")[0]["source"])
    assert IN_DOMAIN in first
    wanted = merge(dict(DEMO_SETTINGS), dict(QUICK))
    told = ast.literal_eval(first.partition("SETTINGS = ")[2])
    known = flatten_table(wanted)
    assert {name: known[name] for name in told} == told
