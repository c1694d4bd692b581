"""The process that `latex.Verifier` starts and may kill: it asks math-verify.

It is run as a file, with no import from this package, so that it starts quickly and
stays small. Protocol, one JSON value a line: it writes `true` once it is ready; then
for every pair of expressions it reads, it writes whether they are equal.
"""

from __future__ import annotations

import json
import sys

MAX_BYTES = 1 << 30
MAX_SECONDS = 10


def limit_memory() -> None:
    """Cap the address space of this process, where the system can."""
    try:
        import resource
    except ImportError:  # there is none on Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, hard))


def limit_time() -> None:
    """Let the system end this process if the parent can no longer do so."""
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = int(usage.ru_utime + usage.ru_stime) + MAX_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def equal(one: str, other: str) -> bool:
    """Ask math-verify both ways; what it cannot digest is not equal."""
    from math_verify import parse, verify

    try:
        first = parse(f"${one}$", parsing_timeout=None)
        second = parse(f"${other}$", parsing_timeout=None)
        return bool(
            verify(first, second, timeout_seconds=None)
            or verify(second, first, timeout_seconds=None)
        )
    except (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError):
        return False


def main() -> None:
    """Answer pairs until the input ends."""
    limit_memory()
    equal("1", "1")  # imports everything and builds the parser's tables
    replies = sys.stdout
    replies.write("true\n")
    replies.flush()
    for line in sys.stdin:
        one, other = json.loads(line)
        limit_time()
        replies.write(json.dumps(equal(one, other)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
