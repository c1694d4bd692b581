"""A disposable process that tries a tokenizer by splitting texts into words.

It normalises and splits by the model author's regular expressions, of which some never
end and some let texts grow without bound. Run as a file with the path of a
`tokenizer.json`; writes `ready` at the start and `done` at the end.
"""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

from tokenizers import Tokenizer

from neuron_opsd.processes.workers import BYTES, SECONDS, begin

SECONDS_PER_BYTE = 1 / (20 << 20)
BYTES_PER_BYTE = 16
"""Memory allowed per byte of the file, besides that for the texts."""

REPEATS = 400
PAIRED = "a1 .\n_é"
"""One of each kind of character that expressions distinguish."""

WORDS = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
"""Replaces the model, which does not affect splitting."""


def texts() -> list[str]:
    """Return texts that trip expressions: a repeated sign, then another."""
    runs = [sign * REPEATS + end for sign in string.printable for end in ("!", "x")]
    pairs = [(one + other) * REPEATS + "!" for one in PAIRED for other in PAIRED]
    return [string.printable, *runs, *pairs]


def main() -> None:
    """Split all texts."""
    path = Path(sys.argv[1])
    size = path.stat().st_size
    begin(BYTES + size * BYTES_PER_BYTE, SECONDS + size * SECONDS_PER_BYTE)
    table = json.loads(path.read_bytes())
    kept = {name: table.get(name) for name in ("normalizer", "pre_tokenizer")}
    table = {"version": "1.0", "added_tokens": [], "model": WORDS, **kept}
    tokenizer = Tokenizer.from_str(json.dumps(table))
    for text in texts():
        tokenizer.encode(text, add_special_tokens=False)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
