"""Run the demonstration with several seeds and print what each gave, as Markdown.

    python benchmarks/demo_seeds.py --seeds 0 1 2 --out runs

A seed whose run directory is finished is only read. This makes the table of
`docs/lab-notebook/results.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from neuron_opsd.cli.options import prepare_libraries
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.storage.download_cache import cache_folder

HEADINGS = (
    "seed",
    "test set",
    "base",
    "base majority",
    "own demonstrations in the prompt",
    "form only",
    "trained",
    "trained - base",
    "trained - form only",
    "ECE base",
    "ECE form only",
    "ECE trained",
)


def main() -> None:
    """Run what is left to run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    prepare_libraries(allow_download=False)
    print("|" + "|".join(HEADINGS) + "|")
    print("|" + "---|" * len(HEADINGS))
    for seed in args.seeds:
        name = f"demo{'-quick' if args.quick else ''}-seed-{seed}"
        for line in rows(args.out / name, seed, quick=args.quick):
            print(line, flush=True)


def rows(out: Path, seed: int, *, quick: bool) -> list[str]:
    """Return the lines of one seed, run first if it is not finished."""
    from neuron_opsd.demo.demonstration import Variant, demo

    start = time.monotonic()
    with open_terminal() as terminal:
        demo(out, cache_folder(), Variant(quick=quick, seed=seed), terminal)
        terminal.note(f"seed {seed}: {time.monotonic() - start:.0f} s")
    table = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    lines = [row(seed, name, entry) for name, entry in table.items()]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    mean = summary["cross_domain_mean_delta"]
    cells = [str(seed), "cross-domain mean", *[""] * 5, points(mean, "avg_at_k")]
    return [
        *lines,
        "|"
        + "|".join([*cells, "", "", "", points(mean, "ece", scale=1, digits=3)])
        + "|",
    ]


def row(seed: int, name: str, entry: dict[str, Any]) -> str:
    """Return one test set's line."""
    controls = entry["controls"]
    form = controls.get("form-only", {})
    cells = [
        str(seed),
        name,
        percent(entry["before"]["avg_at_k"]),
        percent(entry["before"]["maj_at_k"]),
        percent(controls.get("prompted", {}).get("avg_at_k")),
        percent(form.get("avg_at_k")),
        percent(entry["after"]["avg_at_k"]),
        points(entry["delta"], "avg_at_k"),
        points(entry.get("net_of_form", {}), "avg_at_k"),
        number(entry["before"]["ece"]),
        number(form.get("ece")),
        number(entry["after"]["ece"]),
    ]
    return "|" + "|".join(cells) + "|"


def percent(value: float | None) -> str:
    """Write a share in per cent."""
    return "" if value is None else f"{100 * value:.1f}"


def number(value: float | None) -> str:
    """Write an error with three digits."""
    return "" if value is None else f"{value:.3f}"


def points(
    table: dict[str, Any], name: str, *, scale: int = 100, digits: int = 1
) -> str:
    """Write a difference with its interval, in points unless told otherwise."""
    if name not in table:
        return ""
    numbers = (scale * table[name][key] for key in ("value", "low", "high"))
    value, low, high = (f"{number:+.{digits}f}" for number in numbers)
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
