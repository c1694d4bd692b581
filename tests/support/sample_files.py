"""Files of samples as other programs write them, with answers that tests know."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

Row: TypeAlias = dict[str, Any]

LETTERS = "ABCD"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(count: int) -> list[Row]:
    """Return questions with free answers: the sum of a number and itself."""
    return [
        {"id": f"q{n}", "question": f"What is {n} plus {n}?", "answer": str(2 * n)}
        for n in range(count)
    ]


def capitals() -> list[Row]:
    """Return questions with choices."""
    return [
        {
            "id": "fr",
            "question": "Capital of France?",
            "choices": ["Lyon", "Paris", "Nice"],
            "answer": "Paris",
        },
        {
            "id": "de",
            "question": "Capital of Germany?",
            "choices": ["Berlin", "Bonn", "Munich"],
            "answer": "Berlin",
        },
        {
            "id": "it",
            "question": "Capital of Italy?",
            "choices": ["Milan", "Turin", "Rome"],
            "answer": "Rome",
        },
    ]


def answered(
    questions: Sequence[Row], right: Sequence[int], samples: int = 4
) -> list[Row]:
    """Return samples of sums, of which the first few of each question are right.

    Wrong answers all differ, so that a right one that is given twice has the vote.
    """
    return [
        {
            "id": question["id"],
            "sample": number,
            "completion": f"It is {question['answer']}."
            if number < count
            else f"It is {1000 + number}.",
        }
        for question, count in zip(questions, right, strict=True)
        for number in range(samples)
    ]


def lm_eval_row(doc_id: int, doc: Row, texts: Sequence[str], **more: Any) -> Row:
    """Return a row of lm-eval's `--log_samples` of a task that generates."""
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": str(doc.get("answer")),
        "arguments": {"gen_args_0": {"arg_0": doc["question"], "arg_1": {"until": []}}},
        "resps": [list(texts)],
        "filtered_resps": list(texts[:1]),
        "filter": "none",
        "metrics": ["exact_match"],
        **more,
    }


def likelihood_row(doc_id: int, doc: Row, logprobs: Sequence[float]) -> Row:
    """Return a row of lm-eval's `--log_samples` of a task of multiple choice."""
    choices = doc["choices"]
    best = max(range(len(choices)), key=lambda place: logprobs[place])
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": str(choices.index(doc["answer"])),
        "arguments": {
            f"gen_args_{place}": {"arg_0": doc["question"], "arg_1": f" {choice}"}
            for place, choice in enumerate(choices)
        },
        "resps": [[[str(one), "False"]] for one in logprobs],
        "filtered_resps": [[str(one), "False"] for one in logprobs],
        "filter": "none",
        "metrics": ["acc"],
        "acc": float(choices[best] == doc["answer"]),
    }


def inspect_sample(question: Row, text: str, epoch: int = 1, **more: Any) -> Row:
    """Return a sample of an inspect log."""
    choices = question.get("choices")
    target = question["answer"]
    if choices:
        target = LETTERS[choices.index(target)]
    return {
        "id": question["id"],
        "epoch": epoch,
        "input": question["question"],
        **({"choices": choices} if choices else {}),
        "target": target,
        "output": {
            "model": "mockllm/model",
            "choices": [
                {
                    "message": {"role": "assistant", "content": text},
                    "stop_reason": "stop",
                }
            ],
            "usage": {"output_tokens": len(text.split())},
        },
        "events": [{"event": "model", "much": ["more"] * 3}],
        **more,
    }


def write_log(path: Path, samples: Sequence[Row]) -> Path:
    """Write an inspect log as one JSON object."""
    log = {"version": 2, "status": "success", "eval": {}, "samples": samples}
    path.write_text(json.dumps(log))
    return path


def write_zip_log(path: Path, samples: Sequence[Row], method: str = "zstd") -> Path:
    """Write an inspect log as a zip file, its samples compressed by a method."""
    names = [f"samples/{one['id']}_epoch_{one['epoch']}.json" for one in samples]
    files = {"header.json": b"{}"} | {
        name: json.dumps(one).encode() for name, one in zip(names, samples, strict=True)
    }
    if method == "deflate":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
            for name, data in files.items():
                log.writestr(name, data)
        return path
    path.write_bytes(zstd_zip(files))
    return path


def zstd_zip(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file whose entries are compressed by Zstandard, in two frames each.

    Python's own library writes none before 3.14.
    """
    out, central = io.BytesIO(), io.BytesIO()
    for name, data in files.items():
        half = len(data) // 2
        packed = b"".join(
            pa.compress(part, codec="zstd", asbytes=True)
            for part in (data[:half], data[half:])
            if part
        )
        fields = (93, 0, 33, zlib.crc32(data), len(packed), len(data), len(name))
        place = out.tell()
        out.write(struct.pack("<4s2H3HL2L2H", b"PK\3\4", 63, 0, *fields, 0))
        out.write(name.encode() + packed)
        central.write(
            struct.pack(
                "<4s3H3HL2L5H2L",
                *(b"PK\1\2", 63, 63, 0, *fields, 0, 0, 0, 0, 0, place),
            )
        )
        central.write(name.encode())
    at, size = out.tell(), len(central.getvalue())
    out.write(central.getvalue())
    end = (0, 0, len(files), len(files), size, at, 0)
    out.write(struct.pack("<4s4H2LH", b"PK\5\6", *end))
    return out.getvalue()
