"""From a file of your own questions to an adapter and a measured evaluation.

    python examples/own_data.py MODEL questions.jsonl exam.jsonl runs/first

`questions.jsonl` needs no answers: `{"question": ..., "choices": [...]}` on each line,
or `{"prompt": ...}`. `exam.jsonl` has the column `answer` besides. What was stopped
resumes when it is called again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import neuron_opsd as no


def improve(model: str, questions: str, exam: str, out: Path, more: list[str]) -> None:
    """Look at one question, train, and measure what that did."""
    settings = no.load_config(assignments=[f"model.name={model}", *more])

    seen = no.preview(questions, settings)
    print(f"the student is asked:\n{seen.student_prompt}\n")
    print(f"and the teacher, who sees demonstrations:\n{seen.teacher_prompt}\n")

    report = no.run(questions, out, settings, {"exam": exam})
    for test in report.tests:
        gain = test.delta["avg_at_k"]
        print(f"{test.name}: {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
    print(f"the whole report: {out / 'report.html'}")

    # The adapter is an ordinary PEFT adapter, and can be measured on its own.
    measures = no.evaluate({"exam": exam}, settings, adapter=out / "adapter")
    print(f"Avg@k of the adapter: {measures['exam']['avg_at_k']:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder, GGUF file or hub id")
    parser.add_argument("questions", help="file of unlabelled questions")
    parser.add_argument("exam", help="file of questions with answers")
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("settings", nargs="*", help="section.field=value")
    given = parser.parse_args()
    improve(given.model, given.questions, given.exam, given.out, given.settings)
