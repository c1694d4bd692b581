"""What a server must know to answer as the run was tested: prompts, ends, sampling."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from neuron_opsd.exporting.finished import FinishedRun
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Message, Question


def stops(run: FinishedRun) -> list[str]:
    """Return the texts that end an answer, in the plain form a line break too."""
    own = list(run.config.rollouts.stop)
    return own if run.config.prompts.form == "chat" else ["\n", *own]


def first_token(tokenizer: Any) -> str:
    """Return the text of the token that is put before every text, if one is."""
    inner = tokenizer.tokens.tokenizer
    begins = inner("a").input_ids[:1] == [inner.bos_token_id]
    return str(inner.bos_token) if begins else ""


def sampling(run: FinishedRun) -> dict[str, Any]:
    """Return how tests draw tokens, in the words of vLLM and others."""
    rollouts = run.config.rollouts
    return {
        "temperature": run.config.evaluation.temperature,
        "top_p": rollouts.top_p,
        "top_k": rollouts.top_k,
        "min_p": rollouts.min_p,
    }


def request_body(run: FinishedRun, name: str) -> tuple[str, dict[str, Any]] | None:
    """Return the path and the body of a request that asks a question of the pool.

    `None` where the report shows no question.
    """
    if not run.report.cases:
        return None
    case = run.report.cases[0]
    asked = Question(case.question_id, (Message("user", case.question),), case.choices)
    prompt = student_prompt(asked, run.config.prompts)
    body: dict[str, Any] = {"model": name, **sampling(run)}
    body |= {"max_tokens": run.config.test_tokens, "stop": stops(run)}
    if not prompt.messages:
        return "/v1/completions", body | {"prompt": prompt.text}
    turns = [asdict(turn) for turn in prompt.messages]
    if prompt.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": prompt.thinking}
    return "/v1/chat/completions", body | {"messages": turns}
