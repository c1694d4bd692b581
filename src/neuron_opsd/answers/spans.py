"""Find the final answer in a completion, and make texts comparable.

Input is what follows any reasoning, see `reasoning.final_part`. All patterns take
linear time.
"""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_ANNOUNCEMENTS: Final = 64
"""Announcements examined, from the end of a text."""
MAX_SPAN: Final = 400
"""Characters of an announced answer that are examined."""
QUOTES: Final = "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}“”«»"
OUTER: Final = f" .,;:!?\"'`*_()[]{{}}{QUOTES}…。，；：！？（）「」『』"
"""May surround an answer without being part of it."""

# Control characters and lone surrogates belong in no answer or file.
GAPS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
LOOSE = r"(?:[*_\s\"'`:=]|(?<=[-=>\n])>){0,9}"
COPULA = (
    r"(?:is|was|are|(?:would|will|should|must|has to)(?:\s(?:therefore|thus|then|hence|"
    r"likely|probably|clearly))?\sbe|equals)\b"
    r"|[:=\N{FULLWIDTH COLON}\N{RIGHTWARDS ARROW}]|[-=]{1,2}>"
    r"|[-\N{EN DASH}—](?=\s|[A-Z]\b)"
)
TOPIC = r"(?:\s+(?:to|for|of|in|here|choice|option|letter|key)\b[^.:=\n]{0,60}?)?"
ASIDE = r"(?:[,\s]{0,3}(?:therefore|thus|then|hence|so|finally)\b,?)?"
OTHERS = (
    r"\b(?:antwort|lösung|ergebnis)(?:\s+(?:ist|lautet)\b|\s?:)"
    r"|\bréponse(?:\s+(?:correcte\s+)?est\b|\s?:)"
    r"|\brespuesta(?:\s+(?:correcta\s+|final\s+)?es\b|\s?:)"
    r"|\brisposta(?:\s+(?:corretta\s+)?è|\s?:)"
    r"|\bresposta(?:\s+(?:correta\s+)?é|\s?:)"
    r"|\bответ(?:\s+это\b|\s?[:—])"
    r"|(?:答案|答え|正解|回答)(?:应该|应|應|就)?"
    r"(?:[是为為选選は]|[:\N{FULLWIDTH COLON}=])"
    r"|答案(?=\s?[(\N{FULLWIDTH LEFT PARENTHESIS}A-Z0-9])"
    r"|(?:정답|답)(?:은|[:\N{FULLWIDTH COLON}])"
)
ANSWER: Final = re.compile(
    rf"\banswer[*_\"'`]{{0,4}}{TOPIC}{ASIDE}\s{{0,3}}[*_\"'`]{{0,4}}(?:{COPULA}){LOOSE}"
    r"|^[ \t#*_]{0,9}(?:the )?(?:final |correct )?answer[ \t*_]{0,9}$"
    r"|<answer>"
    rf"|(?:{OTHERS}){LOOSE}",
    re.IGNORECASE | re.MULTILINE,
)
HASHES: Final = re.compile(r"^[ \t]*####[ \t]*(?=\S)", re.MULTILINE)
"""The mark before GSM8K's answers; elsewhere a heading."""

HYPOTHESIS: Final = re.compile(
    r"\b(?:if|whether|suppose|supposing|assume|assuming|unless|say|"
    r"(?:do|does|did|would|can)(?:n['’]t|\snot)\s(?:think|believe|say)|"
    r"(?:people|students|some|many|most|others?|one|you|they)\s(?:may\s|might\s|would\s|"
    r"could\s|will\s)?(?:think|say|believe|assume|argue|answer|claim|guess))\s+(?:that\s+)?"
    r"(?:the\s+|my\s+)?(?:final\s+|correct\s+|right\s+|best\s+)?$",
    re.IGNORECASE,
)
EMPTY: Final = re.compile(
    r"(?:clear|obvious|simple|correct|right|wrong|incorrect|as follows|given|found|"
    r"based|below|above|consistent|supported|verified|confirmed)\b[^\n:]{0,80}$",
    re.IGNORECASE,
)
"""Says something about an answer without giving it."""

WRONG_BEFORE: Final = re.compile(r"\b(?:wrong|incorrect|false)\s$", re.IGNORECASE)
CONDITION: Final = re.compile(
    r"\b(?:if|had)\b[^.!?\n]{1,100},?\s(?:then\s)?(?:the\s)?\w{0,9}\s?$"
)
"""Makes a following `answer would be` a hypothesis."""

TAKEN_BACK: Final = re.compile(
    r"\b(?:wait|hold on|scratch that|correction:?|on second thoughts?|"
    r"i made (?:a mistake|an error)|no(?=,\s)|actually,? (?:it|i|no)\b|"
    r"actually,?(?=\s(?:[b-hj-z]|-?\$?[0-9][0-9.,]{0,20})\W{0,3}(?:\n|$)))"
    r"[,.!\s-]{0,4}(?:no\b[,.!\s]{0,3})?",
    re.IGNORECASE,
)
NEXT_TURN: Final = re.compile(
    r"^[ \t>*#_]{0,8}(?:question|problem|q|human|user|instruction|example)\b"
    r"[ \t]?[0-9]{0,4}[*_]{0,3}[ \t]?[:\N{FULLWIDTH COLON}]|<\|im_start\|>",
    re.IGNORECASE | re.MULTILINE,
)
TAGS: Final = re.compile(r"</?[A-Za-z][^<>\n]{0,40}>")
BRACES: Final = re.compile(r"\\f?box(?:ed)?\s{0,3}\{|\\.|[{}]", re.DOTALL)
BOXES_JOINED: Final = re.compile(
    r"\}\s?(?:\$|\\\))?\s?(?:,|,?\s?(?:and|or)|,?\s?\\text\s?\{\s?(?:and|or)\s?\})\s?"
    r"(?:\$|\\\()?\s?\\f?box(?:ed)?\s{0,3}\{"
)
MATH: Final = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|[。！？；]|\n+")
HALF_WORD: Final = re.compile(r"(?:\S*[^\s}\])>。！？!?.*`\"]|\S*[0-9][.,])\Z")

ONE_SPELLING: Final = (
    str.maketrans("‘’‚‛ʼ´′＇“”„‟″＂‐‑‒–—−﹣", "''''''''\"\"\"\"\"\"-------")
    | {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if code != 0xFF0D}
    | {0xFF0D: "-", 0x3000: " "}
    | dict.fromkeys((0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF), "")
    | {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl"}
)
"""Maps variants of quotes, dashes, letters and ligatures to plain ones."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found in a completion, and where."""

    answer: str | None
    """Normalised; `None` if there is none."""
    why: str
    """Briefly, what the answer was read from, or why there is none."""


def own_part(text: str, is_answer: Callable[[str], bool]) -> str:
    """Cut off what a model writes after its answer as if asked again."""
    for match in NEXT_TURN.finditer(text):
        head = text[: match.start()].strip()
        if not head:
            continue
        announced = ANSWER.search(head) or HASHES.search(head) or "\\boxed" in head
        alone = "\n" not in head and len(head) <= MAX_SPAN and is_answer(head)
        return text[: match.start()] if announced or alone else text
    return text


@dataclass(frozen=True, slots=True)
class Announcement:
    """What follows `the answer is`, `Answer:` and the like."""

    span: str
    after: str
    """Later text that retracts the announcement; else empty."""


def announcements(text: str) -> list[Announcement]:
    """Return the announced answers of a text, last first.

    A span is the rest of its line, or else the next line. Suppositions (`if the answer
    is`) and empty remarks (`the answer is clear`) are left out.
    """
    matches = collections.deque(ANSWER.finditer(text), maxlen=MAX_ANNOUNCEMENTS)
    found: list[Announcement] = []
    for match in reversed(matches):
        if is_supposed(text, match):
            continue
        span = first_line(text[match.end() : match.end() + MAX_SPAN])
        span = span.partition("</answer>")[0].strip()
        if span.strip(OUTER) and not EMPTY.match(span):
            taken_back = TAKEN_BACK.search(text, match.end())
            after = "" if taken_back is None or found else text[taken_back.end() :]
            found.append(Announcement(span, after))
    return found


def is_supposed(text: str, announced: re.Match[str]) -> bool:
    """Say whether an announcement is hypothetical, or what others think."""
    before = text[max(0, announced.start() - 2 * 60) : announced.start()]
    if HYPOTHESIS.search(before) or WRONG_BEFORE.search(before):
        return True
    return "would" in announced.group() and bool(CONDITION.search(before.lower()))


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last closed ``\boxed{...}``, or `None`.

    Innermost boxes count, empty ones do not. Two joined by `and`, `or` or a comma are
    one list.
    """
    found = boxes(text)[-2:]
    if not found:
        return None
    contents = [text[start:end].strip() for start, end in found]
    if len(found) < 2 or contents[0] == contents[1]:
        return contents[-1]
    joined = BOXES_JOINED.fullmatch(text, found[0][1], found[1][0])
    return ", ".join(contents) if joined else contents[-1]


def boxes(text: str) -> list[tuple[int, int]]:
    """Return start and end of the contents of closed boxes, in one pass."""
    found: list[tuple[int, int]] = []
    opened: list[int | None] = []
    last_start = -1
    for match in BRACES.finditer(text):
        token = match.group()
        if token.startswith(("\\boxed", "\\fbox")):
            opened.append(match.end())
        elif token == "{":
            opened.append(None)
        elif token == "}" and opened:
            start = opened.pop()
            if start is not None and start > last_start:
                if text[start : match.start()].strip(OUTER):
                    found.append((start, match.start()))
                last_start = start
    return found


def all_math(text: str) -> list[tuple[int, int, str]]:
    r"""Return every ``$...$``, ``\(...\)`` and ``\[...\]`` with its start and end.

    A single dollar sign opens before a non-blank, and closes after a non-blank without
    a digit following, so amounts of money are not math.
    """
    closing = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
    wanted, start = "", 0
    found: list[tuple[int, int, str]] = []
    for match in MATH.finditer(text):
        token, before = match.group(), text[match.start() - 1 : match.start()]
        after = text[match.end() : match.end() + 1]
        if token == wanted and token == "$" and (before.isspace() or after.isdigit()):
            start = match.end()
        elif token == wanted:
            if content := text[start : match.start()].strip():
                found.append((start - len(token), match.end(), content))
            wanted = ""
        elif token in closing and not wanted and not (token == "$" and after.isspace()):
            wanted, start = closing[token], match.end()
    return found


def first_line(text: str) -> str:
    """Return the first non-blank line."""
    return next((line for line in text.splitlines() if line.strip(OUTER + "#$")), "")


def hashed(text: str) -> list[str]:
    """Return the rest of every line that begins with `####`, last first."""
    matches = collections.deque(HASHES.finditer(text), maxlen=MAX_ANNOUNCEMENTS)
    rests = (text[one.end() : one.end() + MAX_SPAN] for one in reversed(matches))
    return [rest.partition("\n")[0].strip() for rest in rests]


def whole_words(text: str) -> str:
    """Drop the last word of a truncated completion: it may be half a word."""
    half = HALF_WORD.search(text[-MAX_SPAN:])
    return text if half is None else text[: len(text) - len(half.group())]


def collapse(text: str) -> str:
    """Turn runs of white space and control characters into single spaces."""
    return GAPS.sub(" ", text).strip()


def plain(text: str) -> str:
    """Normalise a text for comparison: one spelling, one case, single spaces.

    Variants of accents, quotes, hyphens, full-width letters and ligatures become alike.
    Superscripts and fractions stay.
    """
    text = unicodedata.normalize("NFC", collapse(text)).translate(ONE_SPELLING)
    return unicodedata.normalize("NFC", collapse(text).casefold())
