"""A tokenizer's expressions, tried in another process before they enter this one."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from neuron_opsd.errors import ModelError
from neuron_opsd.models.tokenizer import loading_worker
from neuron_opsd.processes import workers

TRIED: Final = (b'"Regex"', b'"Replace"', b'"Prepend"')
"""What lets a tokenizer take time or let a text grow; the rest is bounded as it is."""


def try_tokenizer(path: Path | None) -> None:
    """Refuse a tokenizer that never finishes some texts, or lets them grow.

    Args:
        path: Of its `tokenizer.json`, if it has one.

    Raises:
        TryAgainError: If it cannot be tried.
    """
    if path is None:
        return
    data = path.read_bytes()
    if any(word in data for word in TRIED):
        try_once(str(path.absolute()), hashlib.sha256(data).hexdigest())


@cache
def try_once(path: str, digest: str) -> None:
    """Try a file once, as long as its bytes stay the same."""
    del digest
    done = workers.run_once(loading_worker, "tries a tokenizer", path)
    # Killed or given up over a text; what it could not read at all is told later.
    gave_up = done.returncode < 0 or b"PanicException" in done.stderr
    if gave_up or b"MemoryError" in done.stderr:
        raise ModelError(
            f"the tokenizer {path} does not finish a text of a few hundred "
            f"characters in {loading_worker.SECONDS:g} s and little memory, as its "
            "expressions backtrack or let texts grow; get it again from a place that "
            "you trust"
        )
