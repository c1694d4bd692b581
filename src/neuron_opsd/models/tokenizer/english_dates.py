"""Days written as templates write them, in English whatever the user's locale is.

`strftime` follows the locale and the time zone that the process has set; a prompt must
not, or a run would ask with other tokens on another machine.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

DAYS: Final = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
]
MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
MARK: Final = re.compile(r"%(?:%|-?([A-Za-z]))")


def write_day(day: date, form: str) -> str:
    """Return a day's start as `strftime` has it in the C locale, in universal time.

    Args:
        day: The day.
        form: With marks such as ``%d %b %Y``.
    """
    weekday, month = DAYS[day.weekday()], MONTHS[day.month - 1]
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
