"""Worker process that tries an adapter's patterns and may be killed.

It reads `{"patterns": [...], "names": [...]}` and writes `ready` at the start and
`done` once every pattern was matched against every name.
"""

from __future__ import annotations

import json
import re
import sys

from neuron_opsd.processes.workers import BYTES, SECONDS, begin


def main() -> None:
    """Match all names the way PEFT does."""
    begin(BYTES, SECONDS)
    given = json.loads(sys.stdin.buffer.read())
    for pattern in given["patterns"]:
        try:
            forms = [re.compile(pattern), re.compile(rf"(.*\.)?({pattern})$")]
        except (re.error, RecursionError, OverflowError):
            continue  # PEFT will report it
        for name in given["names"]:
            forms[0].fullmatch(name)
            forms[1].match(name)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
