"""The process that tries the patterns of an adapter, and may be lost.

It is run as a file, reads `{"patterns": [...], "names": [...]}`, and writes `ready`
when it begins and `done` once every pattern was held against every name.
"""

from __future__ import annotations

import json
import re
import sys

from neuron_opsd.processes.workers import BYTES, SECONDS, begin


def main() -> None:
    """Match all names, as PEFT does."""
    begin(BYTES, SECONDS)
    given = json.loads(sys.stdin.buffer.read())
    for pattern in given["patterns"]:
        try:
            forms = [re.compile(pattern), re.compile(rf"(.*\.)?({pattern})$")]
        except (re.error, RecursionError, OverflowError):
            continue  # PEFT will say so
        for name in given["names"]:
            forms[0].fullmatch(name)
            forms[1].match(name)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
