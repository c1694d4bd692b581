"""Print the tables of docs/scale.md, or write them into it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.scale.models import outlines
from benchmarks.scale.tables import sections
from benchmarks.speed.tables import placed
from neuron_opsd.storage.files import write_atomic

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--write", action="store_true", help="write the page's tables")
    options = parser.parse_args(argv)
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    for name, lines in sections(outlines()):
        text = "\n".join(lines)
        page = placed(page, f"scale {name}", text)
        if not options.write:
            print(f"{text}\n")
    if options.write:
        write_atomic(PAGE, page.encode())


if __name__ == "__main__":
    main()
