"""The named sets: their identifying columns, readers and licences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from neuron_opsd.answers.spans import last_boxed
from neuron_opsd.data.formats import set_readers
from neuron_opsd.data.formats.cells import QUESTIONS, Cells, Item, is_missing
from neuron_opsd.data.formats.fields import structure
from neuron_opsd.errors import ConfigError

AUTO, PLAIN = "auto", "plain"
YES_OR_NO: Final = ("true", "false", "yes", "no")
DRAWN: Final = "; its choices come in an order that is drawn from their texts"


def has_keyed_choices(cells: Cells) -> bool:
    """Say whether choices come as ``{text, label}``, or within the question."""
    question = structure(cells.get("question"))
    if isinstance(question, Mapping):
        return "stem" in question
    choices = structure(cells.get("choices"))
    return isinstance(choices, Mapping) and {"text", "label"} <= set(choices)


def is_yes_or_no(cells: Cells) -> bool:
    """Say whether a row's answer is true or false."""
    answer, label = cells.get("answer"), cells.get("label")
    return (
        isinstance(answer, bool)
        or (isinstance(answer, str) and answer.strip().casefold() in YES_OR_NO)
        or (isinstance(label, int) and label in (-1, 0, 1))
    )


def has_aliases(cells: Cells) -> bool:
    """Say whether a row's answer comes with right alternatives."""
    answer = structure(cells.get("answer"))
    return isinstance(answer, Mapping) and "value" in answer


def is_worked(cells: Cells) -> bool:
    """Say whether a row's answer is a solution with ``####``."""
    answer = cells.get("answer")
    return isinstance(answer, str) and "\n####" in f"\n{answer}"


def is_boxed(cells: Cells) -> bool:
    r"""Say whether a row's answer is a solution with ``\boxed{}``."""
    answer = cells.get("answer")
    return isinstance(answer, str) and bool(last_boxed(answer))


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One public set, or a shape that several share."""

    name: str
    """As in `--format`."""
    title: str
    needs: tuple[str, ...]
    """Squashed names of its identifying columns."""
    read: Callable[[Cells], Item]
    licence: str
    """The docs say which were looked up."""
    fits: Callable[[Cells], bool] = lambda _: True
    """A further condition for recognising it."""
    by_answer: bool = False
    """Whether only the answer identifies it, so that pools need its name."""
    note: str = ""
    """What a user should know about reading it."""
    reader: str = ""
    """The `answers.reader` for its free answers."""
    left_out: tuple[str, ...] = ()
    """Squashed names of columns not part of its questions."""


SETS: Final = (
    PublicSet(
        *("gpqa", "GPQA", ("question", "correctanswer", "incorrectanswer1")),
        set_readers.read_apart("incorrectanswer"),
        "CC BY 4.0; asks not to be shown in plain text online",
        note=DRAWN,
    ),
    PublicSet(
        *("sciq", "SciQ", ("question", "correctanswer", "distractor1")),
        *(set_readers.read_apart("distractor"), "CC BY-NC 3.0, not commercial"),
        note=f"{DRAWN}, and its support is left out",
        left_out=("support",),
    ),
    PublicSet(
        *("opentdb", "Open Trivia DB", ("question", "correctanswer")),
        *(set_readers.read_trivia_api, "CC BY-SA 4.0"),
        fits=lambda cells: cells.has("incorrectanswers"),
        note=DRAWN,
    ),
    PublicSet(
        *("truthfulqa", "TruthfulQA, single-answer", ("question", "mc1targets")),
        *(set_readers.read_truthfulqa, "Apache-2.0"),
        note=DRAWN,
    ),
    PublicSet(
        *("medmcqa", "MedMCQA", ("question", "opa", "opb", "opc", "opd")),
        *(set_readers.read_medmcqa, "Apache-2.0"),
    ),
    PublicSet(
        *("sciknoweval", "SciKnowEval", ("question", "choices", "type", "domain")),
        *(set_readers.read_sciknoweval, "MIT"),
        left_out=("prompt",),
        fits=lambda cells: isinstance(structure(cells.get("choices")), Mapping),
    ),
    PublicSet(
        *("openbookqa", "OpenBookQA", ("questionstem", "choices")),
        *(set_readers.read_arc, "Apache-2.0 of its repository"),
        fits=has_keyed_choices,
    ),
    PublicSet(
        *("commonsense_qa", "CommonsenseQA", ("question", "questionconcept")),
        *(set_readers.read_arc, "MIT"),
        fits=has_keyed_choices,
    ),
    PublicSet(
        *("arc", "ARC-Easy, ARC-Challenge", ("question",), set_readers.read_arc),
        "CC BY-SA 4.0",
        fits=has_keyed_choices,
    ),
    PublicSet(
        *("mmlu_pro", "MMLU-Pro", ("question", "options", "category")),
        *(set_readers.read_mmlu_pro, "MIT"),
        fits=lambda cells: cells.has("src") or cells.has("cotcontent"),
    ),
    PublicSet(
        *("mmlu", "MMLU", ("question", "subject", "choices"), set_readers.read_mmlu),
        "MIT",
    ),
    PublicSet(
        *("race", "RACE", ("article", "question", "options"), set_readers.read_race),
        "research only, not commercial",
    ),
    PublicSet(
        *("hellaswag", "HellaSwag", ("ctx", "endings"), set_readers.read_hellaswag),
        "MIT",
        left_out=("activitylabel", "ctxa", "ctxb"),
    ),
    PublicSet(
        *("winogrande", "WinoGrande", ("sentence", "option1", "option2")),
        *(set_readers.read_winogrande, "Apache-2.0"),
    ),
    PublicSet(
        *("piqa", "PIQA", ("goal", "sol1", "sol2"), set_readers.read_piqa, "AFL-3.0")
    ),
    PublicSet(
        *("siqa", "SocialIQA", ("context", "question", "answera", "answerb")),
        *(set_readers.read_siqa, "CC BY 4.0"),
    ),
    PublicSet(
        *("copa", "COPA", ("premise", "question", "choice1", "choice2")),
        *(set_readers.read_copa, "BSD 2-clause"),
    ),
    PublicSet(
        *("boolq", "BoolQ", ("question", "passage"), set_readers.read_boolq),
        "CC BY-SA 3.0",
        fits=is_yes_or_no,
        by_answer=True,
        note="; the passage comes before the question, the choices are no and yes",
    ),
    PublicSet(
        *("math", "MATH, MATH-500", ("problem", "solution"), set_readers.read_math),
        "MIT",
        by_answer=True,
        note=r"; its answers are the contents of the solutions' last \boxed{}",
        reader="latex",
    ),
    PublicSet(
        *("triviaqa", "TriviaQA", ("question", "answer")),
        set_readers.free_answers("aliases"),
        "Apache-2.0 of its repository; the questions belong to their authors",
        fits=has_aliases,
        by_answer=True,
        note="; every alias of an answer is right",
    ),
    PublicSet(
        *("alpaca", "instruction, input, output", ("instruction",)),
        *(set_readers.read_alpaca, "Alpaca's own: CC BY-NC 4.0"),
        fits=lambda cells: all(is_missing(cells.get(key)) for key in QUESTIONS),
        left_out=("text",),
    ),
    PublicSet(
        *("verl", "verl's rows, such as DAPO-Math", ("prompt", "rewardmodel")),
        *(set_readers.read_verl, "DAPO-Math-17k: Apache-2.0"),
    ),
    PublicSet(
        *("gsm8k", "GSM8K", ("question", "answer")),
        *(set_readers.free_answers("final-line"), "MIT"),
        fits=is_worked,
        by_answer=True,
        note="; its answers are the texts after ####",
        reader="number",
    ),
    PublicSet(
        *("boxed", r"worked solutions with \boxed{}", ("question", "answer")),
        *(set_readers.free_answers("box"), "that of the set"),
        fits=is_boxed,
        by_answer=True,
        note=r"; its answers are the contents of the last \boxed{}",
        reader="latex",
    ),
    PublicSet(
        *("edu_feedback", "Edu-Feedback", ("input",)),
        *(set_readers.read_edu_feedback, "MIT, of the repository NeuFS"),
        fits=lambda cells: cells.get("label") in set_readers.EXPLAINS,
        by_answer=True,
        note="; the question about a comment is ours",
    ),
    PublicSet(
        *("trl", "rows of TRL with an answer", (), set_readers.read_trl),
        "that of the set",
        fits=lambda _: False,  # may also hold what a model wrote
        note="; the assistant's last turn, or the completion, is the answer",
    ),
)
"""The first that fits a row reads it."""

BY_NAME: Final[Mapping[str, PublicSet]] = {one.name: one for one in SETS}


def recognise(cells: Cells, *, labelled: bool) -> PublicSet | None:
    """Return a row's set, if any; the answer counts only if `labelled`."""
    for one in SETS:
        if one.by_answer and not labelled:
            continue
        if cells.has(*one.needs) and one.fits(cells):
            return one
    return None


def format_of(setting: str, name: str) -> str:
    """Return the format of the pool or a test set from `questions.format`."""
    formats = formats_by_name(setting)
    return formats.get(name, formats.get("", AUTO))


def formats_by_name(setting: str) -> dict[str, str]:
    """Parse ``pool=arc,exam=gpqa``; ``""`` is for other files."""
    formats: dict[str, str] = {}
    for part in setting.split(","):
        target, _, value = part.rpartition("=")
        check_name(value.strip())
        formats[target.strip()] = value.strip()
    return formats


def check_targets(setting: str, names: Collection[str]) -> None:
    """Refuse a setting that gives a format to a missing file."""
    for target in formats_by_name(setting):
        if target and target not in names:
            raise ConfigError(
                f"questions.format (--format) names {target!r}, but the files are "
                f"{', '.join(names)}; name one of these"
            )


def check_name(name: str) -> None:
    """Refuse an unknown format name."""
    names = [AUTO, PLAIN, *BY_NAME]
    if name in names:
        return
    near = get_close_matches(name.lower(), names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"questions.format (--format) is {name!r}, but it must be one of "
        f"{', '.join(names)}{hint}"
    )
