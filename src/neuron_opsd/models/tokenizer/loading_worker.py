"""The process that tries a tokenizer, and may be lost: it cuts texts into words.

A tokenizer rewrites a text and cuts it by regular expressions that came with the model.
Some never end on some texts, and some let a text grow without end. It is run as a file,
with the path of a `tokenizer.json`, and writes `ready` when it begins and `done` once
all texts are cut.
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
"""What the file may take for each of its bytes, besides what the texts may."""

REPEATS = 400
PAIRED = "a1 .\n_é"
"""One of each kind of character that expressions tell apart."""

WORDS = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
"""Stands for the model, which reads words and cuts none."""


def texts() -> list[str]:
    """Return texts over which expressions stumble: a sign many times, then another."""
    runs = [sign * REPEATS + end for sign in string.printable for end in ("!", "x")]
    pairs = [(one + other) * REPEATS + "!" for one in PAIRED for other in PAIRED]
    return [string.printable, *runs, *pairs]


def main() -> None:
    """Cut all texts."""
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
