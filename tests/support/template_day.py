"""The day that a chat template prints, told by what loads in a moment."""

from __future__ import annotations

import locale
import sys

from neuron_opsd.models.tokenizer.template_worker import Templates


def template_day() -> str:
    """Return a day as a chat template prints it."""
    form = "%A, %-d %B: %c"
    source = f"{{{{ strftime_now({form!r}) }}}}"
    told = Templates().render(source, {"messages": []}, "2026-05-03")
    return str(told[1])


if __name__ == "__main__":
    locale.setlocale(locale.LC_ALL, "")
    sys.stdout.buffer.write(template_day().encode())
