"""The commands `compare`, `methods` and `analyse`, from arguments to exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuron_opsd.cli import main
from neuron_opsd.methods import METHODS
from tiny_runs import SETTINGS, parity_rows, pool_rows, write_rows

SHORT = (*SETTINGS, "distill.steps=2", "distill.num_samples=2")


@pytest.fixture(scope="module")
def words(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama_plain: Path
) -> list[str]:
    """Give the arguments of a short comparison."""
    folder = tmp_path_factory.mktemp("command")
    pool = write_rows(folder / "pool.jsonl", pool_rows("choices"))
    own = write_rows(folder / "own.jsonl", parity_rows(range(100, 104), "a"))
    other = write_rows(folder / "other.jsonl", parity_rows(range(200, 204), "b"))
    return [
        *("compare", "--model", str(tiny_llama_plain), "--source", f"parity={pool}"),
        *("--test", f"parity={own}", f"other={other}", "--out", str(folder / "out")),
        *("--methods", "lmsi", "w=neuron-opsd:contexts.rule=words", "--seeds", "1"),
        *("--set", *SHORT, "--quiet"),
    ]


def test_a_dry_run_says_what_is_left_and_writes_nothing(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "models: 3, of which 3 are left" in shown
    assert "time:   about " in shown
    assert not Path(words[words.index("--out") + 1]).exists()
    assert main([*words, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == {
        "form-only": 1,
        "lmsi": 1,
        "w": 1,
    }


def test_a_comparison_ends_with_a_table_a_sentence_and_the_page(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    page = Path(words[words.index("--out") + 1]) / "comparison.html"
    assert shown.rstrip().endswith(f"report: {page}")
    lines = [line.split() for line in shown.splitlines()]
    names = [line[0] for line in lines if line]
    for name in ("base", "prompted", "form-only", "lmsi", "w"):
        assert name in names
    assert " ".join(words[:3]).replace("compare", "neuron-opsd compare") in (
        page.read_text()
    )
    before = page.read_bytes()
    page.unlink()
    assert main(["report", str(page.parent)]) == 0
    assert page.read_bytes() == before
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in found["budgets"]} == {"form-only", "lmsi", "w"}
    assert found["contrasts"]


def test_all_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    for method in METHODS.values():
        assert f"{method.name} " in shown
        assert method.source in shown
    assert main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["oracle-grpo"]["oracle"]
    assert "trie" in found["ttrl"]["acts_on"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("compare --out o --test x=f", "--source is missing"),
        (
            "compare --model m --out o --source x=f --test x=f --methods grpo",
            "'grpo' names no method to compare; write one of neuron-opsd",
        ),
        (
            "compare --model m --out o --source x=f x=g --test x=f",
            "--source names 'x' twice",
        ),
        (
            "compare --model m --out o --source x=f --test x=f --warm-start all",
            "--warm-start is 'all', but it must be no or form or both",
        ),
        ("analyse --out o", "RUNS is missing"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_a_recipe_names_methods_and_settings_and_flags_win(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        "seeds = 2\nsettings.distill.steps = 5\n[methods]\nlmsi = {}\n"
        'by-words = { method = "neuron-opsd", contexts.rule = "words" }\n'
    )
    place = words.index("--methods")
    own = [*words[:place], *words[place + 3 :]]
    seeds = own.index("--seeds")
    rest = [*own[:seeds], *own[seeds + 2 :], "--recipe", str(path), "--dry-run"]
    rest[rest.index("--out") + 1] = str(tmp_path / "out")
    assert main([*rest, "--json"]) == 0
    left = {"form-only": 2, "lmsi": 2, "by-words": 2}
    assert json.loads(capsys.readouterr().out)["left"] == left
    assert main([*rest, "--json", "--seeds", "1", "--methods", "by-words"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == {
        "form-only": 1,
        "by-words": 1,
    }
    assert main([*rest, "--seeds", "0"]) == 2
    assert "--seeds is 0" in capsys.readouterr().err
    assert main([*rest, "--set", "distill.steps=0"]) == 2
    assert "distill.steps is 0" in capsys.readouterr().err
    path.write_text("[methods]\nlmsi = { distill.stps = 1 }\n")
    assert main(rest) == 2
    said = capsys.readouterr().err
    assert "lmsi: [distill] has no setting stps; did you mean steps?" in said
    assert said.count("\n") == 1
