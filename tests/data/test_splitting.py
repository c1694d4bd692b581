"""A pool and a test from one file: who goes where, and what is written."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cli.app import main
from neuron_opsd.data.overlap import check_overlap
from neuron_opsd.data.passages import fingerprints, shared_passages
from neuron_opsd.data.questions import read_questions
from neuron_opsd.data.sides import joined
from neuron_opsd.data.splitting import SplitData, split
from neuron_opsd.errors import ConfigError, DataError

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def words(seed: object, count: int) -> str:
    """Return words that no other text has."""
    draw = random.Random(str(seed))
    return " ".join("".join(draw.choices(LETTERS, k=7)) for _ in range(count))


def rows_of(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return labelled questions that have nothing in common."""
    return [
        {"id": f"q{n}", "question": f"{words(n, 12)}?", "answer": str(n)}
        for n in range(start, start + count)
    ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def divided(
    folder: Path, rows: Sequence[dict[str, Any]], name: str = "out", **choices: Any
) -> tuple[set[str], set[str], SplitData]:
    """Split rows; return the ids of pool and test, and what was said."""
    seed = choices.pop("seed", 0)
    with pytest.warns() if choices.pop("warns", False) else nullcontext():
        data = split(
            write(folder / "all.jsonl", rows), folder / name, {"seed": seed}, **choices
        )
    (part,) = data.parts
    pool = read_questions(part.pool, labelled=False).questions
    test = read_questions(part.test).questions
    return {q.id for q in pool}, {q.id for q in test}, data


def test_every_question_is_on_one_side_and_about_a_fifth_is_tested(
    tmp_path: Path,
) -> None:
    pool, test, data = divided(tmp_path, rows_of(1000))
    assert not pool & test
    assert pool | test == {f"q{n}" for n in range(1000)}
    # 1,000 draws of 0.2 have a deviation of 13; this is five and a half of them.
    assert 130 < len(test) < 270
    assert (data.parts[0].num_pool, data.parts[0].num_test) == (len(pool), len(test))
    assert (data.num_groups, data.largest_group) == (1000, 1)


def test_the_pool_has_no_answers_and_the_test_has_all(tmp_path: Path) -> None:
    rows = [row | {"choices": ["x", row["answer"]]} for row in rows_of(60)]
    pool, test, data = divided(tmp_path, rows)
    (part,) = data.parts
    for line in Path(part.pool).read_text().splitlines():
        assert json.loads(line).keys() == {"id", "question", "choices"}
    assert read_questions(part.test).gold.answer_of == {q: q[1:] for q in test}
    assert pool


def test_rows_that_are_added_move_no_other(tmp_path: Path) -> None:
    pool, test, _ = divided(tmp_path, rows_of(300))
    more_pool, more_test, _ = divided(tmp_path, rows_of(900), "more")
    assert pool == more_pool & {f"q{n}" for n in range(300)}
    assert test == more_test & {f"q{n}" for n in range(300)}


def test_the_order_of_rows_does_not_matter_and_the_seed_does(tmp_path: Path) -> None:
    rows = rows_of(300)
    _, test, _ = divided(tmp_path, rows)
    assert divided(tmp_path, rows[::-1], "reversed")[1] == test
    other = divided(tmp_path, rows, "seeded", seed=1)[1]
    assert 0 < len(other & test) < len(test)


def test_a_group_stays_together_and_where_it_is_as_it_grows(tmp_path: Path) -> None:
    rows = [row | {"who": f"p{n % 40}"} for n, row in enumerate(rows_of(400))]
    pool, test, data = divided(tmp_path, rows, group="who")
    who = {row["id"]: row["who"] for row in rows}
    assert not {who[q] for q in pool} & {who[q] for q in test}
    assert (data.num_groups, data.largest_group) == (40, 10)
    more = [{"who": "p7", **row} for row in rows_of(50, 400)]
    _, grown, _ = divided(tmp_path, [*more, *rows], "grown", group="who")
    assert test == grown & who.keys()


def test_equal_texts_stay_together_whatever_their_choices(tmp_path: Path) -> None:
    rows = rows_of(100)
    twins = [row | {"id": f"twin-{row['id']}", "choices": ["a", "b"]} for row in rows]
    for number, twin in enumerate(twins):
        twin["question"] = twin["question"].upper()
        twin["answer"] = "ab"[number % 2]
    _, test, data = divided(tmp_path, [*rows, *twins])
    assert {q for q in test if q.startswith("twin-")} == {
        f"twin-{q}" for q in test if not q.startswith("twin-")
    }
    assert data.largest_group == 2


def passages(count: int, each: int, passage_words: int) -> list[dict[str, Any]]:
    """Return questions about texts that several of them have in common."""
    return [
        {
            "id": f"p{passage}-{n}",
            "question": f"{words(('p', passage), passage_words)}\n"
            f"{words((passage, n), 30)}?",
            "answer": "so",
        }
        for passage in range(count)
        for n in range(each)
    ]


def test_questions_about_one_passage_stay_together(tmp_path: Path) -> None:
    rows = passages(60, 5, 40)
    pool, test, data = divided(tmp_path, rows)
    assert (data.num_groups, data.largest_group) == (60, 5)
    assert not {q.split("-")[0] for q in pool} & {q.split("-")[0] for q in test}
    assert len(test) > 20
    # Without the search they are drawn one by one, so the guard is what held them.
    _, loose, data = divided(tmp_path, rows, "loose", passage_words=0)
    assert data.largest_group == 1
    assert len({q.split("-")[0] for q in loose}) > len(loose) / 5


@pytest.mark.parametrize("length", [32, 33, 60])
def test_every_shared_run_of_the_length_is_found_wherever_it_stands(
    length: int,
) -> None:
    for draw in range(20):
        shared = words(("shared", draw), length)
        texts = [
            f"{words((draw, n), 5 * n + 1)} {shared} {words((draw, n, 'e'), 9)}"
            for n in range(3)
        ]
        pairs = shared_passages(texts, 32).pairs.tolist()
        assert joined(pairs, 3).tolist() == [0, 0, 0]


def test_of_a_long_text_few_hashes_are_held() -> None:
    held = fingerprints(words("long", 2000), 32, {})
    assert 100 < held.size < 2000 / 4  # two in ten of winnowing's windows


def test_short_runs_make_no_passage() -> None:
    shared = words("template", 23)
    texts = [f"{shared} {words(n, 40)}" for n in range(3)]
    assert shared_passages(texts, 32).pairs.size == 0


def test_what_a_tenth_of_all_share_is_an_instruction_and_said(tmp_path: Path) -> None:
    asks = words("instruction", 50)
    rows = rows_of(200)
    for row in rows[:40]:
        row["question"] = f"{asks} {row['question']}"
    pool, test, data = divided(tmp_path, rows, warns=True)
    assert data.largest_group == 1
    (said,) = data.notes
    assert "40 questions share a long text" in said
    assert " ".join(asks.split()[:12]) in said
    assert pool & {"q1", "q2", "q3", "q4"}
    assert test


def test_no_test_question_nearly_equals_one_of_the_pool(tmp_path: Path) -> None:
    rows = []
    for n in range(200):
        text = words(n, 40).split()
        for changed in range(3):
            near = [*text[:38], f"changed{changed}", *text[39:]]
            rows.append(
                {"id": f"{n}-{changed}", "question": " ".join(near), "answer": "so"}
            )
    pool, test, data = divided(tmp_path, rows, warns=True, passage_words=0)
    assert test
    assert pool
    assert data.num_near > 50
    (part,) = data.parts
    asked = read_questions(part.pool, labelled=False).questions
    tested = read_questions(part.test).questions
    assert check_overlap(asked, {"test": tested}, 0.9) == []
    # One drawn into the pool takes all that nearly equal it along.
    assert not {q.split("-")[0] for q in pool} & {q.split("-")[0] for q in test}
    assert f"{data.num_near:,} questions drawn for the test" in data.notes[0]


def test_a_chain_of_near_questions_ends_on_one_side(tmp_path: Path) -> None:
    """A group that leaves the test may nearly equal others that stayed."""
    chain = words("chain", 100).split()
    rows = rows_of(50)
    for n in range(60):
        rows.append(
            {"id": f"c{n}", "question": " ".join(chain[n : n + 40]), "answer": "so"}
        )
    pool, test, data = divided(tmp_path, rows, warns=True, passage_words=0)
    assert data.num_near
    (part,) = data.parts
    asked = read_questions(part.pool, labelled=False).questions
    check_overlap(asked, {"t": read_questions(part.test).questions}, 0.9)
    assert {q for q in pool | test if q[0] == "c"} == {f"c{n}" for n in range(60)}


def test_a_question_without_an_answer_is_never_tested(tmp_path: Path) -> None:
    rows = rows_of(300)
    for row in rows[::3]:
        del row["answer"]
    pool, test, data = divided(tmp_path, rows, warns=True)
    assert {row["id"] for row in rows[::3]} <= pool
    assert test
    assert any("have no answer" in note for note in data.notes)


def test_equal_questions_with_other_answers_are_said(tmp_path: Path) -> None:
    rows = [*rows_of(50), rows_of(1)[0] | {"id": "again", "answer": "other"}]
    *_, data = divided(tmp_path, rows, warns=True)
    assert "1 questions appear again" in data.notes[0]
    assert "'again'" in data.notes[0]


def science() -> list[dict[str, Any]]:
    """Return rows of the form in which SciKnowEval is published."""
    rows = []
    for n in range(240):
        kind = "open-ended-qa" if n % 6 == 0 else "mcq-4-choices"
        rows.append(
            {
                "question": f"{words(n, 12)}?",
                "choices": {"text": list("wxyz"), "label": list("ABCD")}
                if kind.startswith("mcq")
                else {"text": [], "label": []},
                "answerKey": "B" if kind.startswith("mcq") else "",
                "answer": "" if kind.startswith("mcq") else "long",
                "type": kind,
                "domain": ("Biology", "Physics", "Earth science")[n % 3],
                "details": {"level": f"L{n % 5 + 1}", "task": "t", "subtask": "s"},
            }
        )
    return rows


def test_parts_and_rows_are_chosen_by_columns(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="read as SciKnowEval|left out"):
        data = split(
            write(tmp_path / "s.jsonl", science()),
            tmp_path / "out",
            {},
            by="domain",
            where=["type=mcq-4-choices,mcq-2-choices", "details.level=L1,L2,L3"],
        )
    assert "120 rows were left out by --where" in data.notes
    assert [part.name for part in data.parts] == ["Biology", "Earth-science", "Physics"]
    for part in data.parts:
        test = read_questions(part.test)
        assert set(test.gold.answer_of.values()) == {"x"}
        assert len(test.questions) == part.num_test > 0
    assert sum(part.num_pool + part.num_test for part in data.parts) == 120
    made = json.loads((tmp_path / "out" / "split.json").read_text())
    assert made["by"] == "domain"
    assert made["questions"]["Physics"]["pool"] == data.parts[2].num_pool
    assert "Earth-science/pool.jsonl" in made["sha256_of"]


def test_the_reader_that_a_set_needs_is_said(tmp_path: Path) -> None:
    rows = [row | {"answer": f"So.\n#### {n}"} for n, row in enumerate(rows_of(60))]
    _, test, data = divided(tmp_path, rows, warns=True)
    assert "its answers need answers.reader=number" in data.notes[1]
    gold = read_questions(data.parts[0].test).gold.answer_of
    assert gold == {name: name[1:] for name in test}


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"where": ["domain=Botany"]}, r"no row with domain 'Botany' \(there are"),
        ({"where": ["domain"]}, "must be COLUMN=VALUE"),
        ({"group": "author"}, "has no column 'author'; it has 'question'"),
        ({"by": "details.nothing"}, "has no column 'details.nothing'"),
        ({"test_share": 1.0}, "must be between 0 and 1"),
        ({"passage_words": 3}, "must be 0, or 8 or more"),
        ({"by": "type"}, "would be in the"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, choices: dict[str, Any], said: str
) -> None:
    rows = [row for row in science() if row["type"] == "mcq-4-choices"]
    rows[0]["type"] = "mcq-2-choices"
    with pytest.raises((ConfigError, DataError), match=said):
        split(write(tmp_path / "s.jsonl", rows), tmp_path / "out", {}, **choices)
    assert not (tmp_path / "out").exists()


def test_a_file_without_answers_is_refused(tmp_path: Path) -> None:
    rows = [{"question": row["question"]} for row in rows_of(10)]
    with pytest.raises(DataError, match="holds no answers"):
        split(write(tmp_path / "s.jsonl", rows), tmp_path / "out", {})


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = write(tmp_path / "s.jsonl", rows_of(50))
    out = tmp_path / "out"
    out.mkdir()
    split(file, out, {})
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError, match=r"holds pool\.jsonl, split\.json"):
        split(file, out, {"seed": 1})
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_the_files_come_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neuron_opsd.data.splitting.sha256_file", fail)
    file = write(tmp_path / "s.jsonl", rows_of(50))
    with pytest.raises(Exception, match="disk is full"):
        split(file, tmp_path / "out", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.jsonl"]


def test_the_command_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write(tmp_path / "s.jsonl", rows_of(50)), tmp_path / "out"
    assert main(["split", str(file), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"--pool {out}/pool.jsonl --test test={out}/test.jsonl" in said
    assert "50 groups, the largest of 1 questions" in said
