"""The disposable process of `rendering.Renderer`, which runs chat templates.

A template is a program by the model's author. Here it has no input or output, and the
system kills it for excess time or memory, which no list of forbidden filters could
guarantee.

Run as a file, with few imports, to start fast and stay small. Line protocol: it writes
``ready``, then reads JSON requests of any number of conversations and replies to each
once rendered: ``["text", text]``, ``["long", characters]`` if too long to send, or
``["error", kind, message, template line or null]``.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.utils
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from neuron_opsd.processes.workers import BYTES, SECONDS, limit_memory, limit_time

MAX_ADDED = 200_000
"""Characters a template may write beyond four times its turns'."""

MAX_SAID = 2000
"""Maximum characters of a template's refusal message."""

RAISED = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What jinja2 and Python raise for a template; anything else ends the process."""

DAYS: Final = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS: Final = (
    "January February March April May June July August September October November "
    "December"
)

MARK: Final = re.compile(r"%(?:%|-?([A-Za-z]))")


class Namespace(jinja2.utils.Namespace):
    """A namespace without attributes that start with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        """Take the first argument as the namespace, so that `self` may be a name."""
        self, *others = args
        attributes = dict(*others, **kwargs)
        for name in attributes:
            check_name(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        check_name(name)
        super().__setitem__(name, value)


class Generation(jinja2.ext.Extension):
    """Parses ``{% generation %}``, which marks answers, and renders its content."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> jinja2.nodes.Node:
        """Return the block as a call, for its own scope."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_written")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _written(self, caller: Callable[[], str]) -> str:
        return caller()


class Dict:
    """Replaces Python's `dict`, with only two of its uses."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return a table."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return a table with these keys."""
        return dict.fromkeys(*args, **kwargs)


def check_name(name: object) -> None:
    """Refuse a name internal to Python."""
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} is not a name for a template")


def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that transformers gives templates."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols],
    )
    made.filters["tojson"] = to_json
    made.globals |= {"raise_exception": raise_exception, "namespace": Namespace}
    made.globals["dict"] = Dict()
    return made


def to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  # as templates call it
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Write a value as JSON, without jinja's HTML escapes."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def raise_exception(message: str) -> None:
    """Refuse a conversation, as templates do."""
    raise jinja2.TemplateError(message)


class Templates:
    """Compiled templates."""

    def __init__(self) -> None:
        self.environment = environment()
        self.environment.globals["strftime_now"] = self.strftime_now
        self.compiled: dict[str, jinja2.Template] = {}
        self.day = ""
        """Date at whose start the clock stands; empty for today."""

    def render(self, source: str, given: Mapping[str, Any], day: str) -> list[Any]:
        """Return the reply for one conversation, on a date (today if empty)."""
        most = MAX_ADDED + 4 * sum(len(turn["content"]) for turn in given["messages"])
        self.day = day
        try:
            if source not in self.compiled:
                self.compiled[source] = self.environment.from_string(source)
            text = self.compiled[source].render(**given)
        except RAISED as error:
            line = getattr(error, "lineno", None)
            known = isinstance(error, jinja2.TemplateSyntaxError)
            said = str(error)[:MAX_SAID]
            return ["error", kind_of(error), said, line if known else None]
        return ["text", text] if len(text) <= most else ["long", len(text)]

    def strftime_now(self, format: str) -> str:  # noqa: A002  # as templates call it
        """Tell a template the date."""
        today = datetime.now().astimezone().date()
        day = date.fromisoformat(self.day) if self.day else today
        return write_day(day, format)


def kind_of(error: Exception) -> str:
    """Return the name of an error's type, or of its known base."""
    for kind in (MemoryError, RecursionError, KeyError):
        if isinstance(error, kind):
            return kind.__name__
    return type(error).__name__


def ignore_signals() -> None:
    """Leave shutdown to the parent, whose exit also closes the input."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def main() -> None:
    """Answer requests until the input ends."""
    ignore_signals()
    limit_memory(BYTES)
    templates, sources, replies = Templates(), [], sys.stdout.buffer
    replies.write(b"ready\n")
    replies.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        sources += request["new"]
        for given, day in request["conversations"]:
            limit_time(SECONDS)
            reply = templates.render(sources[request["source"]], given, day)
            # Writing a reply is not the template's time.
            limit_time(0)
            replies.write(to_json(reply).encode("utf-8", "surrogatepass") + b"\n")
            replies.flush()


def write_day(day: date, form: str) -> str:
    """Format a day's start as `strftime` does in the C locale and UTC.

    `strftime` itself follows the machine's locale and time zone.
    """
    weekday, month = DAYS.split()[day.weekday()], MONTHS.split()[day.month - 1]
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    # Everything that depends on locale or time zone.
    words = {
        "a": weekday[:3],
        "A": weekday,
        "b": month[:3],
        "h": month[:3],
        "B": month,
        "p": "AM",
        "P": "am",
        "r": "12:00:00 AM",
        "X": "00:00:00",
        "c": f"{weekday[:3]} {month[:3]} {day.day:2d} 00:00:00 {day.year}",
        "s": str(int(start.timestamp())),
        "x": day.strftime("%m/%d/%y"),
    }
    return MARK.sub(lambda m: words.get(m[1]) or day.strftime(m[0]), form)


if __name__ == "__main__":
    main()
