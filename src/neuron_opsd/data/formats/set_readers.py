"""Read the public sets as their authors or the Hugging Face hub publish them.

Gold answers are passed on unexamined, and read only in test sets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from neuron_opsd.data.formats.cells import (
    Cells,
    How,
    Item,
    RawAnswer,
    in_drawn_order,
    is_blank,
)
from neuron_opsd.data.formats.columns import keyed_choices
from neuron_opsd.data.formats.fields import (
    answer_in,
    asked,
    checked_text,
    identity,
    joined,
    need,
    parse_choices,
    parse_conversation,
    structure,
    text_of,
    texts_of,
)
from neuron_opsd.data.formats.plain import read_plain
from neuron_opsd.data.rows import BadRowError, kind_of

COPA_ASKS: Final = {
    "cause": "What was the cause of this?",
    "effect": "What happened as a result?",
}
EXPLAINS_ASKS: Final = "Does this comment on an essay explain its judgement?"
EXPLAINS: Final = ("Without Explanation", "With Explanation")
PADDING: Final = "N/A"
"""Early MMLU-Pro's missing option."""
FULL: Final = 10
"""Options of a filled MMLU-Pro row."""
UNTITLED: Final = re.compile(r"\s*\[title\]", re.IGNORECASE)
BRACKETED: Final = re.compile(r"\[[^\]]{0,80}\]")
"""HellaSwag's marks of WikiHow headings, such as ``[step]``."""


def read_arc(cells: Cells) -> Item:
    """Read ARC, CommonsenseQA and OpenBookQA: ``{text, label}`` choices and a key.

    The authors' own files hold ``question: {stem, choices: [{text, label}]}``.
    """
    question = structure(cells.get("questionstem") or need(cells, "question"))
    choices = structure(cells.get("choices"))
    if isinstance(question, Mapping):
        listed = question.get("choices")
        if not isinstance(listed, list) or not all(
            isinstance(choice, Mapping) for choice in listed
        ):
            raise BadRowError("question has no list of choices with text and label")
        choices = {
            "text": [choice.get("text") for choice in listed],
            "label": [choice.get("label") for choice in listed],
        }
        question = question.get("stem")
    if not isinstance(choices, dict):
        raise BadRowError(
            f"choices must be an object with text and label, not {kind_of(choices)}"
        )
    texts, keys = keyed_choices(choices, "choices")
    return Item(
        asked(checked_text(question, "question").strip()),
        texts,
        keys,
        answer_in(cells, "answerkey", "letter"),
        id=identity(cells),
    )


def read_sciknoweval(cells: Cells) -> Item:
    """Read SciKnowEval's questions with choices."""
    choices = structure(cells.get("choices"))
    if not isinstance(choices, Mapping) or not choices.get("text"):
        raise BadRowError(
            f"type {cells.get('type')!r} has no choices; keep only rows of the types "
            "mcq-4-choices and mcq-2-choices"
        )
    return read_arc(cells)


def read_mmlu(cells: Cells) -> Item:
    """Read MMLU: the answer is an index from 0, or its letter."""
    answer = cells.get("answer")
    how: How = "index-from-0"
    if isinstance(answer, str) and not answer.strip().isdigit():
        how = "letter"
    return Item(
        asked(text_of(cells, "question")),
        parse_choices(need(cells, "choices"), cells.name("choices")),
        answers=answer_in(cells, "answer", how),
        id=identity(cells),
    )


def read_mmlu_pro(cells: Cells) -> Item:
    """Read MMLU-Pro: a letter and an index from 0, which must agree."""
    options = structure(need(cells, "options"))
    if isinstance(options, list):
        kept = list(options)
        while kept and kept[-1] == PADDING:
            kept.pop()
        # A single `PADDING` may be a choice.
        if len(options) == FULL or len(options) - len(kept) > 1:
            options = kept
    return Item(
        asked(text_of(cells, "question")),
        parse_choices(options, cells.name("options")),
        answers=(
            *answer_in(cells, "answer", "letter"),
            *answer_in(cells, "answerindex", "index-from-0"),
        ),
        id=identity(cells),
    )


def read_columns(
    question: str, choices: tuple[str, ...], answer: str, how: How
) -> Callable[[Cells], Item]:
    """Return a reader of a column per choice."""
    return lambda cells: Item(
        asked(text_of(cells, question)),
        texts_of(cells, *choices),
        answers=answer_in(cells, answer, how),
        id=identity(cells),
    )


# On the hub its answers count from 0, in the authors' files from 1.
read_medmcqa: Final = read_columns(
    "question", ("opa", "opb", "opc", "opd"), "cop", "index"
)
read_piqa: Final = read_columns("goal", ("sol1", "sol2"), "label", "index-from-0")


def read_race(cells: Cells) -> Item:
    """Read RACE: an article, a question about it, options and a letter."""
    return Item(
        asked(joined(text_of(cells, "article"), text_of(cells, "question"))),
        parse_choices(need(cells, "options"), cells.name("options")),
        answers=answer_in(cells, "answer", "letter"),
    )


def apart(cells: Cells, choices: tuple[str, ...]) -> Item:
    """Read a set with the right choice apart, here first; hash the order."""
    question = text_of(cells, "question")
    return Item(
        asked(question),
        in_drawn_order(question, choices),
        answers=(RawAnswer(cells.name("correctanswer"), choices[0], "text"),),
        id=identity(cells),
    )


def read_apart(wrong: str) -> Callable[[Cells], Item]:
    """Return a reader of a right and three wrong answers, a column each."""
    columns = ("correctanswer", *(f"{wrong}{n}" for n in (1, 2, 3)))
    return lambda cells: apart(cells, texts_of(cells, *columns))


def read_trivia_api(cells: Cells) -> Item:
    """Read a right answer and a list of wrong ones, as in Open Trivia DB."""
    wrong, name = structure(need(cells, "incorrectanswers")), cells.name
    if not isinstance(wrong, list):
        raise BadRowError(
            f"{name('incorrectanswers')} must be a list, not {kind_of(wrong)}"
        )
    listed = [text_of(cells, "correctanswer"), *wrong]
    return apart(cells, parse_choices(listed, name("incorrectanswers")))


def read_truthfulqa(cells: Cells) -> Item:
    """Read TruthfulQA's single-answer form, reordered as the first is right."""
    question, targets = text_of(cells, "question"), structure(need(cells, "mc1targets"))
    if not isinstance(targets, Mapping) or "labels" not in targets:
        raise BadRowError("mc1_targets must be an object with choices and labels")
    choices = parse_choices(targets.get("choices"), "choices of mc1_targets")
    labels = targets["labels"]
    if not isinstance(labels, list) or len(labels) != len(choices):
        raise BadRowError("mc1_targets has not as many labels as choices")
    right = [c for c, label in zip(choices, labels, strict=True) if label == 1]
    if len(right) != 1:
        raise BadRowError(f"labels of mc1_targets mark {len(right)} choices, not one")
    answers = (RawAnswer("mc1_targets", right[0], "text"),)
    return Item(asked(question), in_drawn_order(question, choices), answers=answers)


def read_boolq(cells: Cells) -> Item:
    """Read BoolQ: a passage and a yes-or-no question about it."""
    question = text_of(cells, "question")
    mark = "" if question.endswith("?") else "?"
    key = "answer" if cells.has("answer") else "label"
    return Item(
        asked(f"{text_of(cells, 'passage')}\nQuestion: {question}{mark}"),
        ("no", "yes"),
        answers=answer_in(cells, key, "truth"),
        id=identity(cells),
    )


def read_hellaswag(cells: Cells) -> Item:
    """Read HellaSwag: a text and four endings; the label is an index from 0."""
    return Item(
        asked(without_marks(text_of(cells, "ctx"))),
        tuple(map(without_marks, parse_choices(need(cells, "endings"), "endings"))),
        answers=answer_in(cells, "label", "index-from-0"),
    )


def without_marks(text: str) -> str:
    """Strip HellaSwag's heading marks."""
    plain = BRACKETED.sub("", UNTITLED.sub(". ", text))
    return " ".join(plain.split()) or text


def read_winogrande(cells: Cells) -> Item:
    """Read WinoGrande: which of two fills the gap, counted from 1."""
    return Item(
        asked(text_of(cells, "sentence")),
        texts_of(cells, "option1", "option2"),
        ("1", "2"),
        answer_in(cells, "answer", "index-from-1"),
    )


def read_siqa(cells: Cells) -> Item:
    """Read SocialIQA: a situation, a question and three answers, counted from 1."""
    return Item(
        asked(f"{text_of(cells, 'context')} {text_of(cells, 'question')}"),
        texts_of(cells, "answera", "answerb", "answerc"),
        answers=(
            *answer_in(cells, "label", "index-from-1"),
            *answer_in(cells, "correct", "letter"),
        ),
    )


def read_copa(cells: Cells) -> Item:
    """Read COPA: a premise, and its cause or effect."""
    kind = text_of(cells, "question")
    if kind not in COPA_ASKS:
        raise BadRowError(f"question must be cause or effect, not {kind!r}")
    return Item(
        asked(f"{text_of(cells, 'premise')} {COPA_ASKS[kind]}"),
        texts_of(cells, "choice1", "choice2"),
        answers=answer_in(cells, "label", "index-from-0"),
    )


def read_math(cells: Cells) -> Item:
    r"""Read MATH: the answer's column, else the solution's ``\boxed{}``."""
    if is_blank(cells.get("answer")):
        return plain_but(cells, "solution", "box")
    return plain_but(cells, "answer", "auto")


def plain_but(cells: Cells, key: str, how: How) -> Item:
    """Read a row as any other, so that pools without answers are alike."""
    item = read_plain(cells, labelled=False)
    return replace(item, renamed=(), answers=answer_in(cells, key, how))


def free_answers(how: How) -> Callable[[Cells], Item]:
    """Return a reader of questions with one kind of `answer`."""
    return lambda cells: plain_but(cells, "answer", how)


def read_alpaca(cells: Cells) -> Item:
    """Read an instruction with its input, and an output."""
    return Item(
        asked(joined(text_of(cells, "instruction"), cells.get("input"))),
        answers=answer_in(cells, "output", "auto"),
        id=identity(cells),
    )


def read_verl(cells: Cells) -> Item:
    """Read verl's rows: a conversation and a rule's ground truth."""
    prompt = structure(need(cells, "prompt"))
    if isinstance(prompt, str):
        turns = asked(text_of(cells, "prompt"))
    elif isinstance(prompt, list):
        turns = parse_conversation(prompt, cells.name("prompt"))
    else:
        raise BadRowError(
            f"prompt must be text or a list of messages, not {kind_of(prompt)}"
        )
    rule = structure(cells.get("rewardmodel"))
    truth = rule.get("ground_truth") if isinstance(rule, Mapping) else None
    answers = () if is_blank(truth) else (RawAnswer("reward_model", truth),)
    return Item(turns, answers=answers)


def read_trl(cells: Cells) -> Item:
    """Read TRL's rows that end in an assistant turn or separate completion.

    That is the answer, not part of what is asked.
    """
    key = "messages" if cells.has("messages") else "completion"
    answer = structure(need(cells, key))
    turns, name = answer, cells.name(key)
    if key == "completion":
        prompt = structure(need(cells, "prompt"))
        turns = [{"role": "user", "content": prompt}]
        turns = prompt if isinstance(prompt, list) else turns
    if isinstance(answer, list):
        *before, last = answer or [{}]
        turns = before if key == "messages" else turns
        answer = last.get("content") if isinstance(last, Mapping) else None
    return Item(
        parse_conversation(turns, cells.name("prompt") if name != "messages" else name),
        answers=() if is_blank(answer) else (RawAnswer(name, answer),),
        id=identity(cells),
    )


def read_edu_feedback(cells: Cells) -> Item:
    """Read Edu-Feedback: a comment, and whether it explains its judgement."""
    return Item(
        asked(f"{EXPLAINS_ASKS}\nComment: {text_of(cells, 'input')}"),
        EXPLAINS,
        answers=answer_in(cells, "label", "text"),
        id=identity(cells),
    )
