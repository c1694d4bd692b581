"""Public sets as the hub publishes them, built here by the `datasets` library itself.

Every set stands in a folder of the hub's form: a card that names configurations,
splits and files, and files with the columns and features of the published ones. They
are read as a user names them, such as ``cais/mmlu:anatomy:test``; what they ask is
made up.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.formats.public_sets import format_of
from neuron_opsd.data.question_files import open_dataset
from neuron_opsd.data.question_rows import Reading
from neuron_opsd.data.questions import QuestionFile, parse_table
from neuron_opsd.data.splitting import SplitData, split
from neuron_opsd.errors import DataError

if TYPE_CHECKING:
    from types import ModuleType

WORDS = ["ice", "tin", "gold", "lead"]
TEN = [*WORDS, "zinc", "iron", "salt", "wax", "oil", "ash"]


@pytest.fixture(scope="module")
def datasets() -> ModuleType:
    why = "reading published sets needs the package datasets"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ModuleType = pytest.importorskip("datasets", reason=why)
        return found


@pytest.fixture
def hub(
    datasets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Return what puts a set where `load_dataset` finds it without a network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()

    def publish(name: str, configs: Mapping[str, Mapping[str, Any]]) -> Path:
        """Write a set: configuration to split to a `Dataset`, a text or rows."""
        folder = tmp_path / name
        card = ["---", "configs:"]
        for config, splits in configs.items():
            card += [f"- config_name: {config}", "  data_files:"]
            for part, table in splits.items():
                file = write_table(folder / config / part, table)
                place = file.relative_to(folder)
                card += [f"  - split: {part}", f"    path: {place}"]
        (folder / "README.md").write_text("\n".join([*card, "---", ""]))
        return folder

    return publish


def write_table(path: Path, table: Any) -> Path:
    """Write the rows of a split as Parquet, CSV (a text) or JSON lines (rows)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(table, str):
        place = path.with_suffix(".csv")
        place.write_text(table)
    elif isinstance(table, list):
        place = path.with_suffix(".jsonl")
        place.write_text("".join(json.dumps(row) + "\n" for row in table))
    else:
        place = path.with_suffix(".parquet")
        table.to_parquet(place)
    return place


def read(name: str, *, labelled: bool = True, **settings: Any) -> QuestionFile:
    """Read a set by its name on the hub."""
    config = QuestionsConfig(**settings)
    reading = Reading(format_of(config.format, ""), config, labelled=labelled)
    return parse_table(open_dataset(name, config, allow_download=False), reading)


def asked(file: QuestionFile) -> list[tuple[str, str, tuple[str, ...], str | None]]:
    """Return what was read: ids, texts, choices and gold answers."""
    gold = file.gold.answer_of
    return [(q.id, q.text, q.choices, gold.get(q.id)) for q in file.questions]


def check_pool(name: str, file: QuestionFile, **settings: Any) -> None:
    """Make sure that a pool asks the same, and that no answer of it is read."""
    pool = read(name, labelled=False, **settings)
    assert pool.questions == file.questions
    assert pool.gold.answer_of == {}


def test_mmlu_pro(datasets: ModuleType, hub: Callable[..., Path]) -> None:
    text, whole = datasets.Value("string"), datasets.Value("int64")
    features = datasets.Features(
        {
            "question_id": whole,
            "question": text,
            "options": datasets.Sequence(text),
            "answer": text,
            "answer_index": whole,
            "cot_content": text,
            "category": text,
            "src": text,
        }
    )
    rows = [
        (70, "Which floats?", TEN, "E", 4, "", "business", "ori_mmlu-business_ethics"),
        (71, "Which sinks?", WORDS[:3], "C", 2, "A: ...", "law", "stemez-Law"),
    ]
    columns = [dict(zip(features, row, strict=True)) for row in rows]
    table = datasets.Dataset.from_list(columns, features=features)
    hub("TIGER-Lab/MMLU-Pro", {"default": {"test": table, "validation": table}})
    name = "TIGER-Lab/MMLU-Pro:test"
    file = read(name)
    assert asked(file) == [
        ("70", "Which floats?", tuple(TEN), "zinc"),
        ("71", "Which sinks?", tuple(WORDS[:3]), "gold"),
    ]
    assert file.notes == (f"{name}: read as MMLU-Pro",)
    check_pool(name, file)
    with pytest.raises(DataError, match=r'Unknown split "train"\. Should be one of'):
        read("TIGER-Lab/MMLU-Pro")


VALIDATORS = (
    "Feedback",
    "Validator Revision Suggestion",
    "Is First Validation",
    "Post hoc agreement",
    "Sufficient Expertise?",
    "Understand the question?",
    "Question Difficulty",
    "Validator Answered Correctly",
    "Self-reported time (minutes)",
    "Probability Correct",
    "Manual Correctness Adjustment",
)
"""Of GPQA, for each of several validators."""


def gpqa_header() -> list[str]:
    """Return the columns of GPQA's CSV files, in the order of the published ones."""
    parts = [
        "Question",
        "Correct Answer",
        *(f"Incorrect Answer {n}" for n in (1, 2, 3)),
        "Explanation",
    ]
    columns = [f"Pre-Revision {part}" for part in parts]
    columns += ["Self-reported question-writing time (minutes)", *parts]
    columns += ["Revision Comments (from Question Writer)", "Subdomain"]
    columns += ["Writer's Difficulty Estimate", "Extra Revised Question"]
    columns += ["Extra Revised Explanation", "Extra Revised Correct Answer"]
    columns += [f"Extra Revised Incorrect Answer {n}" for n in (1, 2, 3)]
    columns += ["Non-Expert Validator Accuracy", "Majority Non-Expert Vals Incorrect"]
    columns += ["Expert Validator Accuracy", "Record ID", "High-level domain"]
    columns += ["Question Writer"]
    for who in ("EV_1", "EV_2", "NEV_1", "NEV_2", "NEV_3"):
        columns += [f"{what}_{who}" for what in VALIDATORS]
    return [*columns, "Canary String"]


def test_gpqa(hub: Callable[..., Path]) -> None:
    header = gpqa_header()
    made = {
        "Question": "Which floats?\n",
        "Correct Answer": "ice\n",
        **{f"Incorrect Answer {n}": WORDS[n] for n in (1, 2, 3)},
        "Explanation": "It is light.",
        "Record ID": "rec06pnAkLOr2t2mp",
    }
    others = {
        name: made.get(name.removeprefix("Pre-Revision "), f"{n}")
        for n, name in enumerate(header)
    }
    row = others | made
    quoted = (f'"{row[name]}"' for name in header)
    text = ",".join(f'"{name}"' for name in header) + "\n" + ",".join(quoted) + "\n"
    hub("Idavidrein/gpqa", {"gpqa_main": {"train": text}, "gpqa_extended": {}})
    file = read("Idavidrein/gpqa:gpqa_main:train")
    (question,) = file.questions
    assert question.id == "rec06pnAkLOr2t2mp"
    assert question.text == "Which floats?"
    assert sorted(question.choices) == sorted(WORDS)
    assert file.gold.answer_of == {question.id: "ice"}
    check_pool("Idavidrein/gpqa:gpqa_main:train", file)


def test_medmcqa(datasets: ModuleType, hub: Callable[..., Path]) -> None:
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "id": text,
            "question": text,
            **dict.fromkeys(("opa", "opb", "opc", "opd"), text),
            "cop": datasets.ClassLabel(names=["a", "b", "c", "d"]),
            **dict.fromkeys(("choice_type", "exp", "subject_name", "topic_name"), text),
        }
    )

    def table(right: Sequence[int]) -> Any:
        rows = [
            (f"id-{n}", f"Which is {n}?", *WORDS, cop, "single", None, "Anatomy", None)
            for n, cop in enumerate(right)
        ]
        listed = [dict(zip(features, row, strict=True)) for row in rows]
        return datasets.Dataset.from_list(listed, features=features)

    name = "openlifescienceai/medmcqa"
    splits = {"train": table([0, 3, 1]), "test": table([-1, -1])}
    hub(name, {"default": splits | {"validation": table([2])}})
    file = read(name)
    assert [row[3] for row in asked(file)] == ["ice", "lead", "tin"]
    check_pool(name, file)
    assert asked(read(f"{name}:validation"))[0][3] == "gold"
    # The answers of its test split are not published.
    assert read(f"{name}:test").gold.answer_of == {}


def test_mmlu(datasets: ModuleType, hub: Callable[..., Path]) -> None:
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "question": text,
            "subject": text,
            "choices": datasets.Sequence(text),
            "answer": datasets.ClassLabel(names=["A", "B", "C", "D"]),
        }
    )
    rows = [
        {"question": q, "subject": "anatomy", "choices": WORDS, "answer": n}
        for n, q in enumerate(("Which is A?", "Which is B?"))
    ]
    table = datasets.Dataset.from_list(rows, features=features)
    parts = {"test": table, "validation": table, "dev": table}
    hub("cais/mmlu", {"anatomy": parts, "all": parts})
    file = read("cais/mmlu:anatomy:test")
    assert [row[3] for row in asked(file)] == ["ice", "tin"]
    check_pool("cais/mmlu:anatomy:test", file)
    said = r"missing\. Please pick one.*'anatomy'.*as in cais/mmlu:CONFIGURATION:test"
    with pytest.raises(DataError, match=said):
        read("cais/mmlu:test")


def keyed(datasets: ModuleType, **others: Any) -> Any:
    """Return the features of a set whose choices come as texts and labels."""
    text = datasets.Value("string")
    choices = datasets.Sequence({"text": text, "label": text})
    named = {name: datasets.Value(kind) for name, kind in others.items()}
    return datasets.Features({**named, "choices": choices, "answerKey": text})


@pytest.mark.parametrize(
    ("name", "others", "row"),
    [
        (
            "allenai/ai2_arc:ARC-Challenge:test",
            {"id": "string", "question": "string"},
            {"id": "Mercury_1", "question": "Which floats?", "answerKey": "3"},
        ),
        (
            "tau/commonsense_qa:default:validation",
            {"id": "string", "question": "string", "question_concept": "string"},
            {
                "id": "1afa",
                "question": "Which floats?",
                "question_concept": "floating",
                "answerKey": "C",
            },
        ),
        (
            "allenai/openbookqa:main:test",
            {"id": "string", "question_stem": "string"},
            {"id": "8-343", "question_stem": "Which floats?", "answerKey": "C"},
        ),
        (
            "allenai/openbookqa:additional:test",
            {
                "id": "string",
                "question_stem": "string",
                "fact1": "string",
                "humanScore": "float32",
                "clarity": "float32",
                "turkIdAnonymized": "string",
            },
            {
                "id": "8-343",
                "question_stem": "Which floats?",
                "fact1": "wood floats",
                "humanScore": 1.0,
                "clarity": 1.6,
                "turkIdAnonymized": "b356d338b7",
                "answerKey": "C",
            },
        ),
    ],
)
def test_sets_with_keyed_choices(
    datasets: ModuleType,
    hub: Callable[..., Path],
    name: str,
    others: dict[str, str],
    row: dict[str, Any],
) -> None:
    keys = list("1234") if row["answerKey"].isdigit() else list("ABCD")
    row = row | {"choices": {"text": WORDS, "label": keys}}
    features = keyed(datasets, **others)
    table = datasets.Dataset.from_list([row], features=features)
    path, config, part = name.split(":")
    hub(path, {config: {part: table}})
    file = read(name)
    assert asked(file) == [(row["id"], "Which floats?", tuple(WORDS), "gold")]
    check_pool(name, file)


def test_commonsense_qa_without_answers(
    datasets: ModuleType, hub: Callable[..., Path]
) -> None:
    row = {
        "id": "1afa",
        "question": "Which floats?",
        "question_concept": "floating",
        "choices": {"text": WORDS, "label": list("ABCD")},
        "answerKey": "",
    }
    columns = {"id": "string", "question": "string", "question_concept": "string"}
    features = keyed(datasets, **columns)
    table = datasets.Dataset.from_list([row], features=features)
    hub("tau/commonsense_qa", {"default": {"test": table}})
    assert read("tau/commonsense_qa:test").gold.answer_of == {}


def test_gsm8k(datasets: ModuleType, hub: Callable[..., Path]) -> None:
    row = {"question": "How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 1,007"}
    table = datasets.Dataset.from_list([row])
    hub("openai/gsm8k", {"main": {"train": table, "test": table}})
    file = read("openai/gsm8k:main:test")
    assert asked(file) == [("gsm8k-1", "How many?", (), "1,007")]
    assert file.reader == "number"
    check_pool("openai/gsm8k:main:test", file)


def test_math_500(hub: Callable[..., Path]) -> None:
    row = {
        "problem": "What is $\\frac{1}{2}$ of 3?",
        "solution": "It is $\\boxed{\\frac{3}{2}}$.",
        "answer": "\\frac{3}{2}",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "test/algebra/1.json",
    }
    hub("HuggingFaceH4/MATH-500", {"default": {"test": [row]}})
    name = "HuggingFaceH4/MATH-500:test"
    file = read(name)
    assert asked(file) == [
        ("test/algebra/1.json", row["problem"], (), "\\frac{3}{2}"),
    ]
    assert file.reader == "latex"
    check_pool(name, file)


def test_edu_feedback(hub: Callable[..., Path]) -> None:
    labels = ("With Explanation", "Without Explanation")
    rows = [
        {"id": n, "input": f"Comment {n} is good. ", "label": labels[n % 2]}
        for n in range(4)
    ]
    hub("someone/edu-feedback", {"default": {"train": rows}})
    file = read("someone/edu-feedback")
    text = "Does this comment on an essay explain its judgement?\nComment: "
    assert asked(file)[0] == ("0", f"{text}Comment 0 is good.", labels[::-1], labels[0])
    check_pool("someone/edu-feedback", file, format="edu_feedback")


def science_rows(count: int) -> list[dict[str, Any]]:
    """Return rows as version 2 of SciKnowEval has them, some of them of other kinds."""
    rows = []
    for n in range(count):
        chooses = n % 4 != 3
        case = n // 5 % 40
        passage = f"{' '.join(f'c{case}w{k}' for k in range(50))}. It was {case}."
        domain = ("Biology", "Chemistry", "Material", "Physics")[n % 5 % 4]
        reads = domain == "Chemistry"
        rows.append(
            {
                "prompt": {"default": "Given a question and four options, choose."},
                "question": f"{passage} What of {n}?" if reads else words(n),
                "choices": {
                    "text": WORDS if chooses else [],
                    "label": list("ABCD") if chooses else [],
                },
                "answerKey": "ABCD"[n % 3] if chooses else "",
                "answer": "" if chooses else "A long answer.",
                "type": "mcq-4-choices" if chooses else "open-ended-qa",
                "domain": domain,
                "details": {
                    "level": f"L{n // 5 % 5 + 1}",
                    "task": "detailed_understanding" if reads else "literature_QA",
                    "subtask": "detailed_understanding" if reads else "literature_QA",
                    "source": "PubMed",
                },
            }
        )
    return rows


def words(number: int) -> str:
    """Return a question that has little in common with the others."""
    return " ".join(f"w{number * 7 + k}" for k in range(7)) + " which?"


def read_science(tmp_path: Path, **choices: Any) -> SplitData:
    """Split the set by its name on the hub, as a folder of that name stands here."""
    name = "hicai-zju/SciKnowEval:v2:test"
    with pytest.warns(UserWarning, match=".*"):
        return split(name, tmp_path / "out", {}, **choices)


@pytest.fixture
def science(
    hub: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Publish SciKnowEval, with a question twice and one with another answer."""
    rows = science_rows(800)
    rows += [rows[0], rows[1] | {"answerKey": "D"}]
    hub("hicai-zju/SciKnowEval", {"v2": {"test": rows}})
    # The folder that stands in for the hub would be taken for a mistyped file.
    monkeypatch.setattr("neuron_opsd.data.questions.is_dataset", lambda _: True)
    return rows


@pytest.mark.usefixtures("science")
def test_sciknoweval_is_read_by_domains_and_levels(tmp_path: Path) -> None:
    data = read_science(
        tmp_path,
        by="domain",
        where=["type=mcq-4-choices,mcq-2-choices", "details.level=L1,L2,L3"],
    )
    assert [part.name for part in data.parts] == [
        "Biology",
        "Chemistry",
        "Material",
        "Physics",
    ]
    for part in data.parts:
        pool, test = Path(part.pool).read_text(), Path(part.test).read_text()
        assert '"answer"' not in pool
        assert test.count('"answer"') == part.num_test > 0
        assert all(json.loads(line)["choices"] == WORDS for line in test.splitlines())


def test_sciknoweval_keeps_duplicates_and_passages_on_one_side(
    tmp_path: Path, science: list[dict[str, Any]]
) -> None:
    data = read_science(tmp_path, where=["type=mcq-4-choices"])
    assert data.largest_group == 5  # four of one passage, and one of these again
    (part,) = data.parts
    sides = [
        {json.loads(line)["question"] for line in Path(file).read_text().splitlines()}
        for file in (part.pool, part.test)
    ]
    assert not sides[0] & sides[1]
    cases = [
        {text.split("It was ")[1].split(".")[0] for text in side if "It was" in text}
        for side in sides
    ]
    assert cases[1]
    assert not cases[0] & cases[1]
    assert any("appear again with another answer" in note for note in data.notes)
    assert part.num_pool + part.num_test == sum(
        row["type"] == "mcq-4-choices" for row in science
    )


@pytest.mark.usefixtures("science")
def test_sciknoweval_with_open_questions_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="type 'open-ended-qa' has no choices"):
        split("hicai-zju/SciKnowEval:v2:test", tmp_path / "out", {})
