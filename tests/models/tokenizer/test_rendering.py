"""No template takes more than a moment and little memory, whatever it is given."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import hostile_templates
import templates
import thinking_models
from hostile_templates import LARGE, LONG, PAYLOADS, QUICK, SLOW
from loaded import loaded
from neuron_opsd.errors import ModelError, TryAgainError
from neuron_opsd.models.tokenizer.rendering import (
    FILLED,
    MOST,
    RAN_ON,
    Refusal,
    Renderer,
)
from neuron_opsd.models.tokenizer.templates import ChatTemplate, UnwrittenError
from neuron_opsd.processes import workers
from neuron_opsd.records import Message, Prompt
from templates import templated
from tiny import tiny_tokenizer

MOST_SECONDS = 10
"""For one template on a machine with other work; two where it has none."""

MOST_MEMORY = 200 << 20

ECHO = "{{ messages[0].content }}"
ASKED = ({"messages": [{"role": "user", "content": "Which gas?"}]}, "")


@pytest.fixture
def renderer() -> Any:
    """Give a renderer of a test's own, closed after it."""
    made = Renderer()
    yield made
    made.close()


def tried(names: tuple[str, ...]) -> dict[str, Any]:
    """Return what hostile templates did in processes that measure nothing else."""
    script = Path(hostile_templates.__file__)
    done = subprocess.run(
        [sys.executable, str(script), *names], capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(name: str, found: dict[str, Any]) -> None:
    """See that a template was stopped, and that the next one was rendered."""
    said = found["said"]
    assert said
    assert "\n" not in said
    assert len(said) < 500
    assert found["seconds"] < MOST_SECONDS
    assert found["then"] == "Which gas?"
    if name in SLOW or name in LARGE:
        assert said in {RAN_ON, FILLED}
    if name in LONG:
        assert "far more than the conversation has" in said


def test_hostile_templates_are_stopped() -> None:
    all_found = tried(QUICK)
    for name, found in all_found["found"].items():
        check(name, found)
    assert all_found["memory"] < MOST_MEMORY


@pytest.mark.long
def test_more_hostile_templates_are_stopped() -> None:
    all_found = tried(tuple(PAYLOADS))
    assert len(all_found["found"]) >= 40
    for name, found in all_found["found"].items():
        check(name, found)
    assert all_found["memory"] < MOST_MEMORY


def test_a_runaway_is_not_run_again(renderer: Renderer) -> None:
    bomb = SLOW["bomb that one question sets off"]
    harmless = ({"messages": [{"role": "user", "content": "Which?"}]}, "")
    first, stopped, after = renderer.render(bomb, [harmless, ASKED, harmless])
    assert first == "Which?"
    assert stopped == after == Refusal(RAN_ON, runaway=True)
    start = time.perf_counter()
    assert renderer.render(bomb, [harmless] * 1000) == [stopped] * 1000
    assert time.perf_counter() - start < 0.5


def test_a_model_with_a_runaway_is_refused_in_one_line_and_serves_the_plain_form(
    tiny_llama: Path, tmp_path: Path
) -> None:
    runaway = SLOW["nested loops"].replace("x", "") + ECHO
    folder = templated(tiny_llama, tmp_path / "model", runaway)
    model = loaded(folder)
    assert model.encode(Prompt(text="Which gas?"))
    with pytest.raises(ModelError) as error:
        model.encode(Prompt(messages=(Message("user", "Which gas?"),)))
    assert str(error.value) == (
        f"the chat template of {folder} cannot be used: {RAN_ON}; fix it, or set "
        "prompts.form=plain"
    )


def test_many_conversations_are_written_in_order(renderer: Renderer) -> None:
    """They go over in several batches, and a refusal stands in its place."""
    texts = [f"{number}" * 999 for number in range(300)]
    conversations = [
        ({"messages": [{"role": "user", "content": text}]}, "") for text in texts
    ]
    picky = "{% if '200' in messages[0].content %}{{ nothing.x }}{% endif %}" + ECHO
    written = renderer.render(picky, conversations)
    assert written[200] == Refusal("'nothing' is undefined")
    assert [text for text in written if isinstance(text, str)] == [
        text for number, text in enumerate(texts) if number != 200
    ]


@pytest.mark.parametrize("text", ["\ud800", "\0", "\u2028\n\r", '"\\', "\U0001f600"])
def test_every_text_comes_back_as_it_was(text: str, renderer: Renderer) -> None:
    given = {"messages": [{"role": "user", "content": text}]}
    assert renderer.render(ECHO, [(given, "")]) == [text]


def test_the_longest_conversation_is_written_and_a_longer_one_refused(
    renderer: Renderer,
) -> None:
    for text in ("a" * MOST, "\U0001f600" * MOST):
        given = {"messages": [{"role": "user", "content": text}]}
        assert renderer.render(ECHO, [(given, "")]) == [text]
    given = {"messages": [{"role": "user", "content": "a" * (MOST + 1)}]}
    refused, written = renderer.render(ECHO, [(given, ""), ASKED])
    assert isinstance(refused, Refusal)
    assert f"it has more than {MOST} characters" in refused.reason
    assert written == "Which gas?"


def process_of(renderer: Renderer) -> int:
    """Return the number of a renderer's process."""
    assert renderer._process is not None  # noqa: SLF001
    return renderer._process.pid  # noqa: SLF001


def test_a_process_that_others_end_is_started_anew(renderer: Renderer) -> None:
    assert renderer.render(ECHO, [ASKED]) == ["Which gas?"]
    before = process_of(renderer)
    os.kill(before, signal.SIGKILL)
    assert renderer.render(ECHO, [ASKED]) == ["Which gas?"]
    assert process_of(renderer) != before


def test_a_process_that_others_end_twice_is_said(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Renderer._start  # noqa: SLF001

    def dying(self: Renderer) -> Any:
        process = start(self)
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(Renderer, "_start", dying)
    with pytest.raises(TryAgainError, match="was ended twice from outside"):
        renderer.render(ECHO, [ASKED])


def test_an_interrupted_exchange_leaves_no_reply_behind(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("neuron_opsd.models.tokenizer.rendering.read_reply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            renderer.render("{{ 'stale' }}", [ASKED] * 3)
    assert renderer.render(ECHO, [ASKED]) == ["Which gas?"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_the_parents_to_follow(stop: int, renderer: Renderer) -> None:
    renderer.render(ECHO, [ASKED])
    before = process_of(renderer)
    os.kill(before, stop)
    assert renderer.render(ECHO, [ASKED]) == ["Which gas?"]
    assert process_of(renderer) == before


def test_threads_take_turns(renderer: Renderer) -> None:
    found: list[bool] = []

    def ask(name: str) -> None:
        given = {"messages": [{"role": "user", "content": name}]}
        written = [renderer.render(ECHO, [(given, "")]) for _ in range(200)]
        found.append(written == [[name]] * 200)

    threads = [threading.Thread(target=ask, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_the_process_ends_with_its_parent() -> None:
    """Also where that is killed while a template runs on."""
    slow = SLOW["silent loops"]
    code = (
        "import threading, time\n"
        "from neuron_opsd.models.tokenizer.rendering import Renderer\n"
        "r = Renderer()\n"
        f"asked = {ASKED!r}\n"
        "r.render('x', [asked])\n"
        "print(r._process.pid, flush=True)\n"
        f"r.render({slow!r}, [asked])\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert soon(lambda: not is_running(child))


def soon(happened: Callable[[], bool]) -> bool:
    """Wait until something happened, at most for a while."""
    end = time.monotonic() + 30
    while not happened() and time.monotonic() < end:
        time.sleep(0.05)
    return happened()


def is_running(process: int) -> bool:
    """Say whether a process is there and is no zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] != "Z"


# --- what ordinary templates write is what transformers makes them write ---

SPECIALS = (
    "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ unk_token }}",
    "{{ messages | tojson }}{{ {'a': 'é<&>'} | tojson(indent=2, sort_keys=true) }}",
    "{{ tools is none }}{{ documents }}{{ add_generation_prompt }}",
    "{{ dict(a=1) }}{{ dict.fromkeys('ab', 2) }}",
    "{% set n = namespace(a=1) %}{% set n.b = 2 %}{{ n.a + n.b }}",
    "{% for i in range(9) %}{% if i == 3 %}{% continue %}{% endif %}"
    "{% if i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}",
    "  {% if true %}\n  a\n  {% endif %}\n\n",
    "{{ messages[-1].thinking }}{{ messages[-1].reasoning_content }}",
    "{{ strftime_now is defined }}{{ enable_thinking is defined }}",
    "{{ raise_exception('no') }}",
    "{{ namespace(_a=1) }}",
)

CONVERSATIONS = (
    [{"role": "user", "content": "Which gas? \U0001f600\n"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " a\n\n"},
        {"role": "assistant", "content": "b", "reasoning_content": "pondered"},
        {"role": "user", "content": "c"},
    ],
)

ORDINARY = [
    text
    for module in (templates, thinking_models)
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str) and "{" in text
]


@pytest.mark.newest
@pytest.mark.parametrize("source", [*SPECIALS, *ORDINARY])
def test_a_template_writes_what_it_writes_in_transformers(source: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = source
    chat = ChatTemplate(tokenizer, "tiny")
    for turns in CONVERSATIONS:
        for thinks in (None, False):
            switches: dict[str, Any] = {}
            if thinks is not None:
                switches["enable_thinking"] = thinks
            try:
                wanted = tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=True, **switches
                )
            except Exception:  # noqa: BLE001  # whatever it raises, it writes nothing
                wanted = None
            found = None
            with suppress(UnwrittenError):
                found = chat.write(turns, thinking=thinks, answering=True)
            assert without_time(found) == without_time(wanted)


def test_a_process_that_does_not_begin_is_no_fault_of_the_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = workers.command

    def command(*words: Any) -> dict[str, Any]:
        found = real(*words)
        return found | {"args": [*found["args"][:-1], "-c", "raise SystemExit(7)"]}

    monkeypatch.setattr(workers, "command", command)
    renderer = Renderer()
    with pytest.raises(TryAgainError, match=r"does not start \(status 7\); free"):
        renderer.render("x", [({"messages": []}, "")])
    monkeypatch.setattr(workers, "command", real)
    assert renderer.render("x", [({"messages": []}, "")]) == ["x"]
    renderer.close()


def without_time(text: object) -> str | None:
    """Return a text without the time of day, which goes on between two renderings."""
    return None if text is None else re.sub(r"\b\d\d:\d\d:\d\d\b", "", str(text))
