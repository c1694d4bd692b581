"""What a server must know to answer as the run was tested: prompts, ends, sampling."""

from __future__ import annotations

from typing import Any

from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Message, Prompt, Question


def example_prompt(run: FinishedRun) -> Prompt | None:
    """Return the prompt of a question of the pool, as a test would ask it.

    `None` where the report shows no question.
    """
    if not run.report.cases:
        return None
    case = run.report.cases[0]
    asked = Question(case.question_id, (Message("user", case.question),), case.choices)
    return student_prompt(asked, run.config.prompts)


def stops(run: FinishedRun) -> list[str]:
    """Return the texts that end an answer, besides the model's own end tokens."""
    own = list(run.config.rollouts.stop)
    return own if run.config.prompts.form == "chat" else ["\n", *own]


def sampling(run: FinishedRun) -> dict[str, Any]:
    """Return how tests draw answers, in the words of OpenAI's protocol and vLLM's."""
    config = run.config
    return {
        "temperature": config.evaluation.temperature,
        "top_p": config.rollouts.top_p,
        "top_k": config.rollouts.top_k,
        "min_p": config.rollouts.min_p,
        "max_tokens": config.test_tokens,
        "stop": stops(run),
    }


def request_body(run: FinishedRun, name: str) -> tuple[str, dict[str, Any]] | None:
    """Return the path and the body of a request that asks a question of the pool."""
    prompt = example_prompt(run)
    if prompt is None:
        return None
    body: dict[str, Any] = {"model": name, **sampling(run)}
    if not prompt.messages:
        return "/v1/completions", body | {"prompt": prompt.text}
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
    if prompt.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": prompt.thinking}
    return "/v1/chat/completions", body | {"messages": turns}
