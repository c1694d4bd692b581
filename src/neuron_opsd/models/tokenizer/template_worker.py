"""The process that `rendering.Renderer` starts and may lose: it runs chat templates.

A template is a program of whoever made the model. Here it can read and write nothing,
and the system ends it when it takes more processor time or memory than a conversation
is worth: no list of forbidden filters could promise that.

It is run as a file and imports next to nothing, so that it starts quickly and stays
small. Protocol, a line each: it writes ``ready``; then for each request it reads, in
JSON, which may hold many conversations, it writes a reply for each as soon as that is
rendered. A reply is ``["text", text]``, ``["long", characters]`` where that is too much
to be sent, or ``["error", kind, what it said, line of the template or null]``.
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
"""Characters that a template may write besides four times what the turns say."""

MAX_SAID = 2000
"""Characters of what a template says when it refuses."""

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
"""What jinja2 and Python raise of a template; anything else ends the process."""

DAYS: Final = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS: Final = (
    "January February March April May June July August September October November "
    "December"
)

MARK: Final = re.compile(r"%(?:%|-?([A-Za-z]))")


class Namespace(jinja2.utils.Namespace):
    """A namespace without attributes that begin with an underscore."""

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
    """Reads ``{% generation %}``, which marks answers, and writes what it holds."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> jinja2.nodes.Node:
        """Return the block as a call, which gives it a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_written")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _written(self, caller: Callable[[], str]) -> str:
        return caller()


class Dict:
    """Stands for Python's `dict`, of which templates get these two uses."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return a table."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return a table with these keys."""
        return dict.fromkeys(*args, **kwargs)


def check_name(name: object) -> None:
    """Refuse a name of Python's own."""
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} is not a name for a template")


def environment() -> ImmutableSandboxedEnvironment:
    """Return what templates are written for: all that transformers gives them."""
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
    """Write a value as JSON, without jinja's escapes for web pages."""
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
    """Templates that were compiled already."""

    def __init__(self) -> None:
        self.environment = environment()
        self.environment.globals["strftime_now"] = self.strftime_now
        self.compiled: dict[str, jinja2.Template] = {}
        self.day = ""
        """At whose start the clock stands still; today where it is empty."""

    def render(self, source: str, given: Mapping[str, Any], day: str) -> list[Any]:
        """Return the reply for one conversation, told a day or, where empty, today."""
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
        """Tell a template what day it is."""
        today = datetime.now().astimezone().date()
        day = date.fromisoformat(self.day) if self.day else today
        return write_day(day, format)


def kind_of(error: Exception) -> str:
    """Return the name of an error's type, or of the known one that it is a kind of."""
    for kind in (MemoryError, RecursionError, KeyError):
        if isinstance(error, kind):
            return kind.__name__
    return type(error).__name__


def ignore_signals() -> None:
    """Leave it to the parent to end; it closes the input, also when it is gone."""
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
            # Whoever writes is no longer busy with the template.
            limit_time(0)
            replies.write(to_json(reply).encode("utf-8", "surrogatepass") + b"\n")
            replies.flush()


def write_day(day: date, form: str) -> str:
    """Return a day's start as `strftime` has it in the C locale, in universal time.

    `strftime` itself follows the locale and the time zone of the machine.
    """
    weekday, month = DAYS.split()[day.weekday()], MONTHS.split()[day.month - 1]
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    # All that depends on locale or time zone.
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
