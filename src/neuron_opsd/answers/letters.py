"""Find letters of choices in a text, and what it says about them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BESIDE: Final = 60
"""Characters examined before and after a letter."""

COMMAND = (
    r"\\(?:text|textbf|textit|textrm|mathbf|mathrm|mathit|mathsf|boldsymbol|bf|rm)"
)
OPENING = rf"(?:[\s*_\"'`$(\[{{（【「\\]|{COMMAND}\s?\{{?){{0,12}}"
NOUN = r"(?:(?:option|choice|letter|answer|statement|选项|選項|選択肢|肢)[\s:：#]{0,3})"
FILLER = (
    r"(?:(?:definitely|clearly|obviously|simply|just|indeed|actually|therefore|thus|"
    r"hence|then|probably|likely|most|the|either|correct|right|best|only|now|so|is|be|"
    r"one|still|indeed|really|certainly|surely)[\s,:]{1,3}){0,5}"
)
BOUND_BEFORE = r"(?<![Nn]/)(?<![A-Za-zÀ-ɏ0-9\\_+#-])(?<![A-Za-z]['’.])"
BOUND_AFTER = r"(?![A-Za-zÀ-ɏ0-9+#°]|['’][A-Za-z]|\.[A-Z]\.|-[A-Za-z]|\\_|_\{|\^)"
STANDING: Final = re.compile(
    rf"{BOUND_BEFORE}([A-Z]|(?:(?<=[Oo]ption )|(?<=[Cc]hoice ))[a-z]){BOUND_AFTER}"
)
DESIGNATED: Final = re.compile(
    rf"{OPENING}(?i:{FILLER}){OPENING}(?i:{NOUN})?{OPENING}([A-Za-z]){BOUND_AFTER}"
)
# "A dog" and "I think" are words, not letters of choices.
WORD_AFTER: Final = re.compile(
    r"\s+(?!(?:is|was|and|or|because|since|as|but|not|due|seems|would|by|which|that|only|"
    r"alone|rather|instead|over|must|should|can|cannot|has|looks|in this|for the|here|"
    r"though|while|are|were|out|if|then|nor|than|best|fits|describes|says|matches|might|"
    r"given|could|to|for|through|vs|versus|"
    r"respectively|works|may|"
    r"from the|with the|based|correctly|states|appears)\b)[a-z0-9]"
)
PRONOUN_AFTER: Final = re.compile(
    r"\s(?:would|should|must|can|cannot|could|may|might)\b"
)
SMALL_AFTER: Final = re.compile(
    r"[\s*_]*(?:[).\]},;:!\"'`$*，。）]|$|\s(?:because|since|as|is)\b)"
)
SOME_KIND: Final = re.compile(
    r"\b(?:vitamins?|hepatitis|types?|plan|grade|groups?|points?|team|class|figure|table|"
    r"part|section|factor|person|side|phase|matrix|vector|event|influenza|company|city|"
    r"car|train|town|ion|protein|note|key of|string|drive|model)\s$",
    re.IGNORECASE,
)
ASKED_AFTER: Final = re.compile(r"[\s*_)\].}\"']{0,6}[?？]")

REJECTED_BEFORE: Final = re.compile(
    r"(?:\b(?:(?:wrong|incorrect|false) (?:answer|option|choice)s? (?:is|are|was|"
    r"would be)|"
    r"mistake (?:is|would be)(?: to)?|unlikely|doubt|cross(?:ed|ing)? out|"
    r"(?:people|students|many|some|others|(?:if|when) (?:you|one|we)) (?:might |may |"
    r"would |will |could )?(?:choose|chose|pick(?:ed)?|select(?:ed)?|answer|say|"
    r"think|go for)|"
    r"(?:if|suppose|supposing|assume|assuming)(?: that)? "
    r"(?:the answer|it|this) (?:is|were|"
    r"was|would be)|not|cannot|never|neither|nor|than|unlike|except|isn't|rather than|"
    r"instead of|(?:any|every)thing but|all but|(?:exclud|eliminat)(?:e[sd]?|ing)|"
    r"rul(?:e[sd]?|ing) out|reject\w{0,3}|discard(?:s|ed|ing)?|nicht|pas|"
    r"dismiss\w{0,4}|aren't|wasn't|can't|couldn't|shouldn't|wouldn't)|n't|不是|不选|不選|排除|并非|\n\s?[✗✘❌])"
    r"[\s,]{0,3}(?:(?:be|have been|to be|the|a|an|choose|pick|select|by|simply|just|"
    r"think|believe|say|agree|that)\s)"
    r"{0,3}(?:(?:it|this|the (?:correct |right )?answer)\s?"
    r"(?:'s|is|could be|would be)\s)?"
    rf"(?i:{NOUN})?(?:(?:\(?\w{{1,20}}\)?,\s){{0,3}}\(?\w{{1,20}}\)?,?\s(?:or|nor|oder)\s)?"
    rf"(?i:{NOUN})?[\s*_(\"'`$\[{{]{{0,6}}$",
    re.IGNORECASE,
)
LIST_JOIN = r"(?:,\s|,?\s(?:and|or|nor)\s)"
REJECTED_LIST: Final = re.compile(
    r"\b(?:not|neither|excluding|eliminat(?:e[sd]?|ing)|rul(?:e[sd]?|ing) out)\s"
    rf"(?:options?\s|choices?\s)?((?:\(?[A-Z]\)?{LIST_JOIN}){{1,9}}\(?[A-Z]\b)",
    re.IGNORECASE,
)
"""`Not A, C or D`; but `not A, B` means B."""
ADVERBS = (
    r"(?:(?:also|clearly|obviously|definitely|therefore|thus|simply|just|both|all|likely|"
    r"probably|the|a|an|partially|factually|still|hence|indeed|most|only|more|less)\s){0,4}"
)
WRONG = (
    r"(?:wrong|incorrect|false|ruled out|eliminated|excluded|impossible|invalid|"
    r"unlikely|irrelevant|inaccurate|rejected|untrue|falsch|faux)"
)
REJECTED_AFTER: Final = re.compile(
    r"[)\]*_\"'`$}.:]{0,5}(?:\s?\([^()\n]{0,50}\))?,?\s?(?:"
    r"(?:(?:is|are|was|were|would be|must be|seems|looks|can be|could be|may be)\s|"
    r"[-–:]\s?)"
    rf"{ADVERBS}(?:{WRONG}|not|out|never|hardly)\b|{WRONG}\b|"
    rf"\({WRONG}\b|"
    rf"(?:but|though|although|which|however,?)\s(?:(?:this|that|it)\s)?"
    r"(?:is|was|would be)\s"
    rf"{ADVERBS}(?:{WRONG}|not)\b|"
    rf"(?:(?:,\s?|,?\s?(?:and|or|nor)\s)\(?[A-Z]\)?){{1,4}}\s(?:are|were|can|do|did|seem)"
    rf"(?:n['’]t| not|\s{ADVERBS}(?:{WRONG}|not|out))\b|"
    r"(?:isn|aren|can|does|doesn|won|wouldn|couldn|didn|shouldn)['’]t\b|cannot\b|"
    r"(?:does|do|did|would|could|can|should|will) not\b|[✗✘❌]|"
    r"(?:选项|選項|项|項)?(?:是|为)?(?:错误|錯誤|不对|不正确|不正確|错|有误))",
    re.IGNORECASE,
)
AFFIRMED_AFTER: Final = re.compile(
    r"[)\]*_\"'`$}.]{0,5}(?:\s?\([^()\n]{0,60}\))?,?\s?(?:"
    r"(?:is|must be|should be|would be|has to be|seems|looks|appears|:)\s"
    r"(?:(?:also|clearly|obviously|definitely|therefore|thus|indeed|the|most|probably|only|"
    r"likely|to be|a|certainly|hence|my|final|one|that is|single|option|choice)\s){0,5}"
    r"(?:correct|right|true|best|answer|accurate|appropriate|choice|option|richtig)\b|"
    r"\((?:correct|right|true)\b|[✓✔✅]|"
    r"(?:选项|選項|项|項)?(?:是|为|為)?(?:正确|正確|对的|對的|正解))",
    re.IGNORECASE,
)
ITEM_AFFIRMED: Final = re.compile(
    r"^[ \t*_(\[-]{0,6}([A-Z])[*_]{0,2}[.):][^\n]{1,200}?[-–:][\s*_]{0,4}"
    r"(?:correct|right|true|yes)\b",
    re.IGNORECASE | re.MULTILINE,
)
CHOSEN: Final = re.compile(
    r"(?:\b(?:choose|pick|select|go with|going with|opt for|opting for|chose|vote for|"
    r"settle on|leads? (?:us )?to|points? to|corresponds? to|matches|"
    r"(?:correct|right|best) one is|"
    r"(?:correct|right|best|my|final) (?:choice|option)\s?:|"
    r"my (?:choice|pick|guess|final choice) (?:is|would be)|"
    r"(?:it|this|that)(?:'s| is| must be| should be| has to be| would be)|"
    r"(?:option|choice|letter) (?:is|should be|must be)|(?:must|should|has to) be|"
    r"wähle|choisis|elijo|answer)"
    r"|(?:故|应|應|因此|所以|我)?(?:应|應)?[选選](?:择|擇|项|項)?(?:的是|[:：])?)"
    r"[\s:*]{0,4}",
    re.IGNORECASE,
)
PICKED: Final = re.compile(r"choose|pick|select|option|choice|letter", re.IGNORECASE)
"""Words after which a lower-case letter counts too."""

JOINED: Final = re.compile(
    rf"[)\]*_\"'`$}}.]{{0,5}}\s{{0,2}}(?:,?\s?(?:or|and|and/or|oder|und|sowie)\s|[/&,+]|"
    rf"或者?|还是|還是|和|、|与)\s?(?:also\s|maybe\s|perhaps\s)?(?i:{NOUN})?[\s*_(\"'`$\[{{]{{0,6}}"
    r"(?:(?!I(?:'|\s[a-z]))[A-Z]|(?<=\()[a-z](?=\)))"
    rf"{BOUND_AFTER}(?!\s(?:is|are|was|does|do|can|would)\b)"
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A choice's letter in a text."""

    name: str
    start: int
    end: int


def is_word(text: str, start: int, end: int) -> bool:
    """Say whether a letter is the article A or the pronoun I."""
    after = text[end : end + BESIDE]
    if text[start] in "AI" and WORD_AFTER.match(after):
        return True
    if text[start] == "I" and PRONOUN_AFTER.match(after):
        return True
    if text[start].islower():
        return SMALL_AFTER.match(after) is None
    return False


def designated(text: str, start: int = 0) -> Letter | None:
    """Return the letter at a position, after brackets and fillers."""
    match = DESIGNATED.match(text, start)
    if match is None or is_word(text, match.start(1), match.end(1)):
        return None
    return Letter(match[1].upper(), match.start(1), match.end(1))


def standing(text: str) -> Iterator[Letter]:
    """Yield the letters that stand alone, except articles, pronouns and names."""
    for match in STANDING.finditer(text):
        before = text[max(0, match.start() - BESIDE) : match.start()]
        if is_word(text, match.start(), match.end()) or SOME_KIND.search(before):
            continue
        yield Letter(match[1].upper(), match.start(), match.end())


def is_rejected(text: str, start: int, end: int) -> bool:
    """Say whether a text rejects what stands at a position."""
    before = text[max(0, start - BESIDE) : start]
    after = text[end : end + 2 * BESIDE]
    if REJECTED_BEFORE.search(before) or REJECTED_AFTER.match(after):
        return True
    place = start - max(0, start - BESIDE)
    return any(
        match.start(1) <= place < match.end(1)
        and re.search(r"\s(?:and|n?or)\s", match[1])
        for match in REJECTED_LIST.finditer(before + text[start : end + BESIDE])
    )


def is_asked(text: str, end: int) -> bool:
    """Say whether a question mark follows."""
    return ASKED_AFTER.match(text, end) is not None


def joined_with(text: str, end: int) -> bool:
    """Say whether another letter is given along with one that ends here."""
    return JOINED.match(text, end) is not None


def affirmed(text: str) -> Iterator[Letter]:
    """Yield the letters that a text chooses or calls correct, in order."""
    found = {letter.start: letter for letter in called_correct(text)}
    found |= {letter.start: letter for letter in chosen(text)}
    for start in sorted(found):
        letter = found[start]
        clear = not is_asked(text, letter.end) and not joined_with(text, letter.end)
        if clear and not is_rejected(text, letter.start, letter.end):
            yield letter


def called_correct(text: str) -> Iterator[Letter]:
    """Yield the letters that a text calls correct, also at their item's end."""
    for match in STANDING.finditer(text):
        affirmed = AFFIRMED_AFTER.match(text, match.end())
        if affirmed and not is_asked(text, affirmed.end()):
            yield Letter(match[1].upper(), match.start(), match.end())
    for match in ITEM_AFFIRMED.finditer(text):
        yield Letter(match[1].upper(), *match.span(1))


def chosen(text: str) -> Iterator[Letter]:
    """Yield the letters that follow a verb of choosing."""
    for match in CHOSEN.finditer(text):
        letter = designated(text, match.end())
        if letter is None:
            continue
        small = text[letter.start] in "ai"
        if not small or PICKED.match(match.group()):
            yield letter
