"""Read the parts of a row: texts, conversations, lists of choices."""

from __future__ import annotations

import ast
import json
import re
import string
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from neuron_opsd.data.formats.cells import Cells, How, RawAnswer, is_blank
from neuron_opsd.data.json_text import STRICT, refuse_constant
from neuron_opsd.data.rows import BadRowError, kind_of, repeated, shorten
from neuron_opsd.records import Message, Role

ROLES: tuple[Role, ...] = get_args(Role)

PREFIX = re.compile(
    r"\s*[(\[\uff08]?([A-Za-z])\s?[)\].:\uff09\uff0e\uff1a\u3001]\s*(?=\S)"
)
"""A choice's letter before its text, as in ``B. Paris``, also full-width."""
NUMBER = re.compile(r"\s*(?=\(?\d+[).:])\(?(\d{1,2})(?:\)\.?|[.:](?=\s))\s*(?=\S)")
"""The same with a number, as in ``2. Paris``, but not 2.5."""
NOTHING = ("nan", "NaN", "<NA>")
"""Printed by pandas and NumPy."""
LITERAL = re.compile(
    r"""'(?!'')(?:[^'\\\n]|\\.)*+'|"(?!"")(?:[^"\\\n]|\\.)*+\"""", re.DOTALL
)
"""A one-line Python string literal without a prefix."""
PYTHON_LIST = re.compile(rf"\[(?:[ \t\f\r\n,]|{LITERAL.pattern})*+\]", re.DOTALL)
SURROGATE = re.compile("[\ud800-\udfff]")

EATEN = re.compile(
    r"(?:\x08(?=eta|egin|oxed|inom)|\x0c(?=rac|orall|loor)|\x07(?=lpha)"
    r"|\t(?=heta|imes|ext\{)|\r(?=ho\b|ight)|\n(?=eq\b|abla\b))(\w{1,9})"
)
r"""Remains of ``\frac``, ``\beta`` or ``\times`` read as an escape."""


def checked_text(value: Any, what: str) -> str:
    """Return a text that a model can be given."""
    if not isinstance(value, str):
        raise BadRowError(f"{what} must be text, not {kind_of(value)}")
    if not value.strip():
        raise BadRowError(f"{what} is empty")
    if "\0" in value:
        raise BadRowError(f"{what} holds a NUL character")
    if not value.isascii() and SURROGATE.search(value):
        raise BadRowError(f"{what} holds half of a surrogate pair")
    eaten = EATEN.search(value)
    if eaten is not None:
        raise BadRowError(
            f"{what} holds a control character before {eaten[1]!r}, as LaTeX in JSON "
            "does if its backslashes are not doubled; write two backslashes"
        )
    return value


def parse_id(value: Any, default_id: str) -> str:
    """Return a row's id; whole numbers become their digits."""
    if value is None:
        return default_id
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return checked_text(value, "id")


def parse_conversation(messages: Sequence[Any], what: str) -> tuple[Message, ...]:
    """Return the turns of a conversation, which must end with the user's."""
    if not messages:
        raise BadRowError(f"{what} is an empty list of messages")
    turns = tuple(parse_message(item, n, what) for n, item in enumerate(messages, 1))
    if turns[-1].role != "user":
        raise BadRowError(
            f"the last message of {what} is from {turns[-1].role}, not from user; "
            "leave it out, and put the gold answer into the column answer; if it is "
            "the gold answer itself, use --format trl"
        )
    late = [n for n, turn in enumerate(turns, 1) if turn.role == "system" and n > 1]
    if late:
        raise BadRowError(
            f"message {late[0]} of {what} is from system; a system turn "
            "may only come first"
        )
    return turns


def parse_message(message: Any, number: int, prompt: str) -> Message:
    """Return one turn of a conversation."""
    what = f"message {number} of {prompt}"
    if not isinstance(message, Mapping):
        raise BadRowError(f"{what} must be an object, not {kind_of(message)}")
    for key, value in message.items():
        if key not in ("role", "content") and value is not None:
            raise BadRowError(
                f"{what} has {shorten(key)}, which is not used; remove it"
            )
    role = message.get("role")
    if role not in ROLES:
        raise BadRowError(
            f"{what} has the role {shorten(role)}; allowed are {', '.join(ROLES)}"
        )
    content = message.get("content")
    if isinstance(content, list):
        content = joined_parts(content, f"content of {what}")
    return Message(role, checked_text(content, f"content of {what}"))


def joined_parts(parts: Sequence[Any], what: str) -> str:
    """Join the text of a message given in parts."""
    texts = []
    for number, part in enumerate(parts, 1):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or kind != "text":
            found = kind_of(part) if kind is None else shorten(kind)
            raise BadRowError(
                f"{what} must be text, or parts of the type 'text', but part {number} "
                f"is {found}"
            )
        texts.append(checked_text(part.get("text"), f"part {number} of {what}"))
    return "".join(texts)


def parse_choices(value: Any, what: str) -> tuple[str, ...]:
    """Return the choices, without missing ones at the end."""
    listed = structure(value)
    if not isinstance(listed, list | tuple):
        raise BadRowError(
            f'{what} must be a list of texts such as ["yes", "no"], not '
            + (shorten(value) if isinstance(value, str) else kind_of(value))
        )
    items = list(listed)
    while items and items[-1] is None:
        items.pop()
    one = "choice" if what == "choices" else what
    choices = tuple(
        checked_text(item, f"{one} {number}").strip()
        for number, item in enumerate(items, 1)
    )
    for number, choice in enumerate(choices, 1):
        if choice in NOTHING:
            raise BadRowError(
                f"{one} {number} is {choice!r}, which stands for a missing value; "
                "leave it out"
            )
    if len(choices) < 2:
        raise BadRowError(
            f"has fewer than two choices; leave {what} out if the answer is free"
        )
    return choices


class RepeatedChoiceError(BadRowError):
    """A row offers the same choice twice."""


def refuse_repeated(choices: Sequence[str]) -> None:
    """Refuse choices with two equal texts."""
    if (twice := repeated(choices)) is not None:
        raise RepeatedChoiceError(
            f"the choice {shorten(twice)} appears twice; fix the row, or leave such "
            "rows out with questions.drop_repeated_choices=true"
        )


def without_keys(choices: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Strip the choices' own letters or numbers; return numbers as keys."""
    letters = [match[1] for match in map(PREFIX.match, choices) if match is not None]
    upper, lower = (
        list(alphabet[: len(choices)])
        for alphabet in (string.ascii_uppercase, string.ascii_lowercase)
    )
    if choices and letters in (upper, lower):
        return tuple(PREFIX.sub("", choice, count=1) for choice in choices), ()
    if choices and sorted(letters) in (upper, lower):
        raise BadRowError(
            f"its choices begin with the letters {', '.join(letters)}, which are not "
            "in order; sort them, or leave the letters out"
        )
    numbers = [match[1] for match in map(NUMBER.match, choices) if match is not None]
    bare = tuple(NUMBER.sub("", choice, count=1) for choice in choices)
    in_order = numbers == [str(n) for n in range(1, len(choices) + 1)]
    if choices and in_order and len(set(bare)) == len(bare):
        return bare, tuple(numbers)
    return tuple(choices), ()


def structure(value: Any) -> Any:
    """Return a list or object spelled in JSON or Python; else the value."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        return STRICT.decode(value)
    except BadRowError:
        if is_json(value):  # and not a text that only begins so
            raise
    except (ValueError, RecursionError):
        pass
    return python_list(value) if value.strip().startswith("[") else value


def is_json(text: str) -> bool:
    """Say whether a text is JSON, allowing duplicate names."""
    try:
        json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def python_list(text: str) -> Any:
    """Return the texts of a list printed by Python or NumPy, else the text.

    ``['a' 'b']`` is two texts to NumPy and one to Python, so all literals or none must
    be separated by commas.
    """
    if not PYTHON_LIST.fullmatch(text.strip()):
        return text
    literals, commas = LITERAL.findall(text), LITERAL.sub("", text).count(",")
    if commas and commas not in (len(literals) - 1, len(literals)):
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return [ast.literal_eval(literal) for literal in literals]
    except (SyntaxError, ValueError, SyntaxWarning, DeprecationWarning):
        return text


def joined(*texts: Any) -> str:
    """Join the non-blank texts by line breaks."""
    return "\n".join(str(text).strip() for text in texts if not is_blank(text))


def need(cells: Cells, key: str) -> Any:
    """Return a required value of a set's row."""
    value = cells.get(key)
    if value is None:
        raise BadRowError(f"{cells.name(key)} is missing")
    return value


def text_of(cells: Cells, key: str) -> str:
    """Return a required text of a set's row, stripped."""
    return checked_text(need(cells, key), cells.name(key)).strip()


def texts_of(cells: Cells, *keys: str) -> tuple[str, ...]:
    """Return choices in columns of their own."""
    return tuple(text_of(cells, key) for key in keys)


def answer_in(cells: Cells, key: str, how: How) -> tuple[RawAnswer, ...]:
    """Return the answer of one column, nothing if blank."""
    value = cells.get(key)
    return () if is_blank(value) else (RawAnswer(cells.name(key), value, how),)


def asked(text: str) -> tuple[Message, ...]:
    """Return a single turn that asks a text."""
    return (Message("user", text),)


def identity(cells: Cells) -> Any:
    """Return a row's id under the names that public sets use."""
    keys = ("id", "questionid", "uniqueid", "recordid")
    return next((cells.get(k) for k in keys if not is_blank(cells.get(k))), None)


def parse_given(value: Any, what: str) -> str:
    """Return a teacher's given text, also from messages; else empty."""
    found = structure(value)
    if is_blank(found):
        return ""
    if isinstance(found, list):
        said = [
            parse_message(message, number, what).content
            for number, message in enumerate(found, 1)
        ]
        return "\n".join(said)
    return checked_text(value, what).strip()
