"""Run the same tiny run under what may change its bytes, and show what does.

    python benchmarks/determinism.py

Each line is a run of its own, or one that was started as the first was and resumed
otherwise, with the share of the promised files that are the same to the byte, the
largest difference between weights of the adapters, and what the run said. Exit status
1 says that something differed in silence, or where bytes are promised.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "support")]

from safetensors.numpy import load_file  # noqa: E402

from tiny import tiny_model  # noqa: E402
from varied_runs import made, vary  # noqa: E402

BASE = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
WEIGHTS = Path("adapter", "adapter_model.safetensors")
SAYS = "not bit-exact: "


@dataclass(frozen=True)
class Variant:
    """One way to run."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    promised: bool = False
    """Whether the bytes are promised to be the same."""
    resumed: bool = False
    """Whether it is begun as the base is, and only resumed so."""


VARIANTS = (
    Variant("the same again", promised=True),
    Variant("hash seed 1", {"PYTHONHASHSEED": "1"}, promised=True),
    Variant("hash seed 2", {"PYTHONHASHSEED": "2"}, promised=True),
    Variant("folders backwards", words=("--backwards",), promised=True),
    Variant("resumed", promised=True, resumed=True),
    Variant("2 threads", {"OMP_NUM_THREADS": "2"}),
    Variant("2 threads, resumed", {"OMP_NUM_THREADS": "2"}, resumed=True),
    Variant("4 threads, resumed", {"OMP_NUM_THREADS": "4"}, resumed=True),
    Variant("ATen AVX2, resumed", {"ATEN_CPU_CAPABILITY": "avx2"}, resumed=True),
    Variant("ATen plain, resumed", {"ATEN_CPU_CAPABILITY": "default"}, resumed=True),
    Variant("oneDNN AVX2, resumed", {"DNNL_MAX_CPU_ISA": "AVX2"}, resumed=True),
    Variant("batches of 64 tokens", words=("model.tokens_per_batch=64",)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all variants, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="determinism-") as name:
        folder = Path(name)
        model = tiny_model(folder / "model", "llama")
        base = place(folder, "base")
        vary(model, base, BASE)
        print(f"{'variant':<24} {'files the same':>14} {'weights differ by':>18}  said")
        faults = [show(model, folder, base, variant) for variant in VARIANTS]
    return int(any(faults))


def place(folder: Path, name: str) -> Path:
    """Make a folder for a run."""
    (folder / name).mkdir()
    return folder / name


def show(model: Path, folder: Path, base: Path, variant: Variant) -> bool:
    """Run a variant, print its line, and say whether something is wrong with it."""
    home = place(folder, variant.name)
    if variant.resumed:
        vary(model, home, BASE, "--halt")
    told = vary(model, home, {**BASE, **variant.variables}, *variant.words)
    said = [line for line in told if line.startswith(SAYS)]
    wanted, found = made(base / "run"), made(home / "run")
    same = sum(wanted[name] == found[name] for name in wanted)
    apart = difference(base / "run" / WEIGHTS, home / "run" / WEIGHTS)
    line = said[0].removeprefix(SAYS).partition(";")[0] if said else "nothing"
    print(
        f"{variant.name:<24} {same:>7} of {len(wanted)} {apart:>18.3g}  {line}",
        flush=True,
    )
    if variant.promised:
        return same < len(wanted)
    return variant.resumed and not said


def difference(one: Path, other: Path) -> float:
    """Return the largest difference between weights of two adapters."""
    first, second = load_file(one), load_file(other)
    return max(float(abs(first[name] - second[name]).max()) for name in first)


if __name__ == "__main__":
    sys.exit(main())
