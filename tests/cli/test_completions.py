"""Neuron sets of texts that exist already, as the command writes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuron_opsd.cli import main
from neuron_opsd.config import QuestionsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError
from neuron_opsd.models.load import load_model
from neuron_opsd.runs.completions import read_completions
from neuron_opsd.stages.capture import capture_neurons
from tiny_runs import Row, write_rows

BOUNDS = QuestionsConfig()
ROWS = [
    {"id": f"c{n}", "prompt": f"Question: is {n}\u2028odd?\nAnswer:", "completion": c}
    for n, c in enumerate([" yes\n", " the answer is no", "x", " 1 + 2 = 3\n\n"])
]


def extract(
    tmp_path: Path, model: Path, rows: list[Row], *flags: str
) -> tuple[int, Path]:
    """Run the command on some rows; return its exit status and the table's place."""
    source = write_rows(tmp_path / "completions.jsonl", rows)
    out = tmp_path / "deep" / "neurons.parquet"
    argv = ["neurons", "--model", str(model), "--completions", str(source)]
    argv += ["--out", str(out), "--set", "model.compute=float32", "--quiet"]
    return main([*argv, *flags]), out


def test_the_table_has_the_promised_columns(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = extract(tmp_path, tiny_llama, ROWS, "--json")
    assert status == 0
    assert json.loads(capsys.readouterr().out) == {
        "out": str(out),
        "num_completions": 4,
    }
    table = pq.read_table(out)
    assert table.schema.names == [
        "id",
        "neuron_count",
        "neuron_ids",
        "scores",
        "num_tokens",
    ]
    assert table.schema.field("id").type == pa.string()
    assert table.schema.field("neuron_ids").type == pa.list_(pa.uint32())
    assert table.schema.field("scores").type == pa.list_(pa.float32())
    for name in ("neuron_count", "num_tokens"):
        assert pa.types.is_integer(table.schema.field(name).type)
    assert table.column("id").to_pylist() == ["c0", "c1", "c2", "c3"]
    for row in table.to_pylist():
        assert row["neuron_ids"] == sorted(set(row["neuron_ids"]))
        assert len(row["scores"]) == len(row["neuron_ids"]) <= row["neuron_count"]
        assert max(row["neuron_ids"]) < 2 * 64


RULES: dict[str, list[str]] = {
    "flat": ["--value", "gated", "--chunk-tokens", "2"],
    "per-token": ["--keep", "9"],
    "neufs": ["--per-layer", "7", "--keep", "5"],
}


@pytest.mark.parametrize("rule", RULES)
def test_the_sets_are_those_of_the_library(
    rule: str, tiny_llama: Path, tmp_path: Path
) -> None:
    status, out = extract(tmp_path, tiny_llama, ROWS, "--rule", rule, *RULES[rule])
    assert status == 0
    table = pq.read_table(out).to_pylist()
    flags = dict(zip(RULES[rule][::2], RULES[rule][1::2], strict=True))
    settings = [f"neurons.{k[2:].replace('-', '_')}={v}" for k, v in flags.items()]
    config = load_config(
        None,
        [
            f"model.name={tiny_llama}",
            "model.compute=float32",
            f"neurons.rule={rule}",
            *settings,
        ],
    )
    model = load_model(config.model)
    pairs = [model.tokens.encode_rendered(r["prompt"], r["completion"]) for r in ROWS]
    sets = capture_neurons(model, ["x"] * 4, pairs, config.neurons, 1)
    for row, expected in zip(table, sets, strict=True):
        assert row["neuron_count"] == expected.neuron_count
        assert row["neuron_ids"] == expected.neuron_ids.tolist()
        assert row["num_tokens"] == expected.num_tokens
        assert np.allclose(row["scores"], expected.scores, rtol=1e-4, atol=1e-6)


def test_only_the_first_tokens_of_a_completion_are_read(
    tiny_llama: Path, tmp_path: Path
) -> None:
    # The longest of them has more.
    few = ["--set", "neurons.first_tokens=2"]
    lengths = []
    for flags in ([], few):
        status, out = extract(tmp_path, tiny_llama, ROWS, *flags)
        assert status == 0
        lengths.append(pq.read_table(out).column("num_tokens").to_pylist())
    whole, cut = lengths
    assert max(whole) > 2
    assert cut == [min(2, length) for length in whole]


def test_a_span_is_refused_as_completions_are_taken_whole(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    span = ("--set", "neurons.span=answer")
    status, out = extract(tmp_path, tiny_llama, ROWS, *span)
    assert status == 2
    assert not out.exists()
    assert "neurons.span is answer, but this command always" in capsys.readouterr().err


def test_a_prompt_is_taken_as_it_was_rendered(tiny_llama: Path, tmp_path: Path) -> None:
    config = load_config(None, [f"model.name={tiny_llama}"])
    tokens = load_model(config.model).tokens
    prompt, completion = tokens.encode_rendered("<|im_start|>user\nx", "y<|im_end|>")
    assert prompt[0] == tokens.tokenizer.bos_token_id
    assert completion[-1] == tokens.tokenizer.eos_token_id
    rows = [{"id": "a", "prompt": "<|im_start|>user\nx", "completion": "y<|im_end|>"}]
    status, out = extract(tmp_path, tiny_llama, rows)
    assert status == 0
    assert pq.read_table(out).to_pylist()[0]["num_tokens"] == len(completion)


def test_all_bad_rows_are_named_at_once(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [
        ROWS[0],
        {"id": "a", "prompt": "x"},
        {"id": 7, "prompt": "x", "completion": "y"},
        {"id": "b", "prompt": "x", "completion": ""},
        ROWS[0],
    ]
    status, out = extract(tmp_path, tiny_llama, rows)
    assert status == 2
    assert capsys.readouterr().err.splitlines() == [
        "neuron-opsd: completions.jsonl, line 2: completion is None, but it must be a "
        "text",
        "completions.jsonl, line 3: id is 7, but it must be a text",
        "completions.jsonl, line 4: completion is '', but it must be a text",
        "completions.jsonl, line 5: has the id 'c0' of line 1",
    ]
    assert not out.exists()


def test_a_line_break_inside_a_text_ends_no_row(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "x\x85y\u2028z\x0c", "completion": "\u2029"}]
    path = write_rows(tmp_path / "c.jsonl", rows)
    assert [asdict(row) for row in read_completions(path, BOUNDS)] == rows
    path.write_text(path.read_text("utf-8").replace("\n", "\r\n\r\n"), "utf-8")
    assert [asdict(row) for row in read_completions(path, BOUNDS)] == rows


def test_twenty_bad_rows_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("[]\n" * 25)
    with pytest.raises(DataError) as caught:
        read_completions(path, BOUNDS)
    lines = str(caught.value).splitlines()
    assert lines[0] == ("c.jsonl, line 1: not a JSON object but a list")
    assert (len(lines), lines[-1]) == (21, "and 5 more")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "holds no rows"), ("\n\n", "holds no rows"), ("{", "line 1: not JSON")],
)
def test_a_file_without_rows_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_completions(path, BOUNDS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl does not exist"):
        read_completions(tmp_path / "none.jsonl", BOUNDS)


def test_a_completion_longer_than_the_model_holds_is_named(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ROWS[0], {"id": "long", "prompt": "1" * 1100, "completion": "x"}]
    status, _ = extract(tmp_path, tiny_llama, rows)
    assert status == 2
    assert "id long: 1101 tokens, but the model holds 1024; shorten the prompt" in (
        capsys.readouterr().err
    )


def test_a_place_that_cannot_be_written_is_a_users_mistake(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep").write_text("a file is in the way")
    status, out = extract(tmp_path, tiny_llama, ROWS)
    assert status == 2
    assert f"cannot write {out}: " in capsys.readouterr().err
