"""Days written as templates write them, in English whatever the user's locale is.

`strftime` follows the locale and the time zone that the process has set; a prompt must
not, or a run would ask with other tokens on another machine.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

DAYS: Final = (
    *("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    *("Saturday", "Sunday"),
)
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
MARK: Final = re.compile(r"%(?:%|-?([A-Za-z]))")


def write_day(day: date, form: str) -> str:
    """Return a day's start as `strftime` has it in the C locale, in universal time.

    Args:
        day: The day.
        form: With marks such as ``%d %b %Y``.
    """
    words = words_of(day)

    def written(found: re.Match[str]) -> str:
        letter = found[1]
        return words[letter] if letter in words else day.strftime(found[0])

    return MARK.sub(written, form)


def words_of(day: date) -> dict[str, str]:
    """Return what depends on locale or time zone in a day, by the letter of a mark."""
    weekday, month = DAYS[day.weekday()], MONTHS[day.month - 1]
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return {
        "a": weekday[:3],
        "A": weekday,
        "b": month[:3],
        "B": month,
        "h": month[:3],
        "c": f"{weekday[:3]} {month[:3]} {day.day:2d} 00:00:00 {day.year}",
        "p": "AM",
        "P": "am",
        "r": "12:00:00 AM",
        "s": str(int(start.timestamp())),
        "x": day.strftime("%m/%d/%y"),
        "X": "00:00:00",
    }
