"""Reasoning: where it ends, and that nothing unfinished is taken for an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_opsd.answers.reasoning import (
    KNOWN,
    Marks,
    ends_inside,
    final_part,
    final_start,
    without_marks,
)
from neuron_opsd.config import Config, ModelConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, DataError, ModelError
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.models.load import load_model
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import (
    Completion,
    Demonstration,
    GoldAnswers,
    Message,
    Prompt,
    Question,
    TeacherContext,
    TrainingExample,
)
from neuron_opsd.runs.context import QUIET_ANSWERS, TestSet, remarks, resolve
from neuron_opsd.runs.inputs import Inputs
from neuron_opsd.stages.rollouts import ask, read, sample_rollouts
from neuron_opsd.stages.teaching import (
    DemonstrationPool,
    fitted_prompt,
    shown_text,
    with_solution,
)
from resolved import written_freely
from thinking_models import HYBRID, MAGISTRAL, OPENS, SWITCHED, UNCLOSED, thinking_model
from thinking_models import thinking_tokenizer as tokenizer_with
from tiny import tiny_model

SKY = Question("sky", (Message("user", "What colour is the sky?"),), ("blue", "green"))
FREE = Question("sea", (Message("user", "What is in the sea?"),))

HARMONY = "<|channel|>analysis<|message|>x<|end|><|start|>assistant"


@pytest.mark.parametrize(
    ("text", "opened", "final"),
    [
        pytest.param("Paris", False, "Paris", id="none"),
        pytest.param("Paris", True, None, id="opened-by-the-prompt-and-cut"),
        pytest.param("x</think>\n\nParis", True, "Paris", id="opened-by-the-prompt"),
        pytest.param("x</think>Paris", False, "Paris", id="opened-unknown-to-us"),
        pytest.param("<think>x</think> Paris", False, "Paris", id="own-block"),
        pytest.param("<think>x</think> Paris", True, "Paris", id="opened-twice"),
        pytest.param("<think>Paris", False, None, id="own-block-cut"),
        pytest.param("<think>Paris", True, None, id="opened-twice-and-cut"),
        pytest.param("a</think>b<think>c", True, None, id="opened-again"),
        pytest.param("a</think>b</think>c", True, "c", id="closed-twice"),
        pytest.param("a</think>", True, "", id="nothing-after"),
        pytest.param("B <think>hm", False, None, id="an-answer-before-open-thoughts"),
        pytest.param("[THINK]x[/THINK]4", False, "4", id="magistral"),
        pytest.param("[THINK]x", False, None, id="magistral-cut"),
        pytest.param("<thinking>x</thinking>4", False, "4", id="thinking"),
        pytest.param("<thinking>x</think>4", False, None, id="the-wrong-end"),
        pytest.param("◁think▷x◁/think▷4", False, "4", id="kimi"),
        pytest.param("◁think▷x", False, None, id="kimi-cut"),
        pytest.param(
            f"{HARMONY}<|channel|>final<|message|>4", False, "4", id="gpt-oss"
        ),
        pytest.param(HARMONY, False, None, id="gpt-oss-cut"),
        pytest.param("<seed:think>x</seed:think>4", False, "4", id="seed"),
        pytest.param("I think so", False, "I think so", id="the-word"),
    ],
)
def test_the_final_part_follows_the_last_closed_block(
    text: str, opened: bool, final: str | None
) -> None:
    assert final_part(text, opened=opened) == final


@pytest.mark.parametrize("pair", KNOWN, ids=lambda pair: pair.start)
def test_every_known_pair_opens_and_closes(pair: Marks) -> None:
    assert final_start(f"{pair.start}x") is None
    assert final_part(f"{pair.start}x{pair.end}y") == "y"
    assert ends_inside(f"assistant\n{pair.start}\n")
    assert not ends_inside(f"{pair.start}\n\n{pair.end}\n\n")
    assert without_marks(f"{pair.start}x{pair.end}y") == "x\ny"


def test_marks_of_the_settings_close_what_they_open() -> None:
    own = (Marks("(begin)", "(end)"),)
    assert final_start("(begin)x", marks=own) is None
    assert final_part("(begin)x(end)y", marks=own) == "y"
    assert final_part("<think>x", marks=own) == "<think>x"


# --- the doorway ---


def tokens_with(template: str) -> Tokens:
    tokenizer = tokenizer_with(template)
    return Tokens(tokenizer, frozenset({tokenizer.eos_token_id}))


def asked(text: str, thinking: bool | None = None) -> Prompt:
    return Prompt(messages=(Message("user", text),), thinking=thinking)


@pytest.mark.parametrize(
    ("template", "thinking", "opened"),
    [
        (OPENS, None, True),
        (OPENS, False, True),
        (SWITCHED, None, True),
        (SWITCHED, False, False),
        (HYBRID, None, False),
        (HYBRID, False, False),
        (MAGISTRAL, None, True),
        (UNCLOSED, None, False),
    ],
)
def test_the_doorway_sees_whether_a_prompt_opens_reasoning(
    template: str, thinking: bool | None, opened: bool
) -> None:
    tokens = tokens_with(template)
    assert tokens.opens_reasoning(tokens.encode(asked("Which?", thinking))) == opened


@pytest.mark.parametrize("template", [UNCLOSED, SWITCHED])
def test_a_question_that_names_a_mark_opens_nothing(template: str) -> None:
    tokens = tokens_with(template)
    prompt = tokens.encode(asked("What does <think> mean? <think>", thinking=False))
    assert not tokens.opens_reasoning(prompt)


def test_a_template_names_its_marks() -> None:
    assert tokens_with(OPENS).marks == (Marks("<think>", "</think>"),)
    assert tokens_with(MAGISTRAL).marks == (Marks("[THINK]", "[/THINK]"),)
    assert tokens_with(UNCLOSED).marks == KNOWN


def test_marks_that_are_control_tokens_stay_in_the_text_and_come_back() -> None:
    tokens = tokens_with(MAGISTRAL)
    prompt = asked("Which?")
    ids = tokens.encode_answer(prompt, "so[/THINK]Paris")
    (close,) = tokens.tokenizer("[/THINK]", add_special_tokens=False).input_ids
    assert close in ids
    assert tokens.decode(ids) == "so[/THINK]Paris"
    assert tokens.final_start("so[/THINK]Paris", opened=True) == len("so[/THINK]")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return thinking_model(tmp_path_factory.mktemp("thinker"))


def test_a_cut_trace_has_no_answer_and_a_closed_one_has(thinker: Path) -> None:
    model = load_model(ModelConfig(name=str(thinker), compute="float32"))
    config = load_config(assignments=["prompts.form=chat", "answers.reader=text"])
    prompt = model.encode(student_prompt(FREE, config.prompts))
    sampling = Sampling(1.0, max_new_tokens=24)
    (found,) = model.sample([prompt], [list(range(64))], sampling)
    closed = [c for c in found if "</think>" in c.text]
    assert 8 < len(closed) < 56
    (question,) = ask([FREE], written_freely(config))
    for completion in found:
        after = completion.text.rpartition("</think>")[2].strip()
        expected = after if completion in closed else None
        assert completion.final == expected
        if expected is None:
            assert read(question, completion, config) is None


def test_marks_may_be_named_by_the_settings(thinker: Path) -> None:
    named = ModelConfig(name=str(thinker), reasoning_start="<a>", reasoning_end="</a>")
    tokens = load_model(named).tokens
    assert tokens.marks == (Marks("<think>", "</think>"), Marks("<a>", "</a>"))
    assert tokens.opens_reasoning(tokens.encode(asked("Which?")))
    assert tokens.final_start("<a>so", opened=False) is None


@pytest.mark.parametrize(("start", "end"), [("<a>", ""), ("", "</a>"), ("a", "a")])
def test_one_mark_alone_is_refused(thinker: Path, start: str, end: str) -> None:
    config = ModelConfig(name=str(thinker), reasoning_start=start, reasoning_end=end)
    with pytest.raises(ModelError, match="two different marks"):
        load_model(config)


# --- choices are never scored inside reasoning ---


def settled(folder: Path, *assignments: str, chooses: bool = True) -> Config:
    config = load_config(assignments=[f"model.name={folder}", *assignments])
    return resolve(config, load_model(config.model), chooses=chooses)


@pytest.mark.parametrize("template", [SWITCHED, HYBRID], ids=["opens", "hybrid"])
def test_the_switch_is_turned_off_where_choices_are_sampled(
    tmp_path: Path, template: str
) -> None:
    config = settled(thinking_model(tmp_path, template))
    assert config.rollouts.mode == "constrained"
    assert config.prompts.student_thinking is False
    assert config.prompts.teacher_thinking is False
    assert config.prompts.list_choices == "no"


def test_without_a_switch_answers_are_written_freely(thinker: Path) -> None:
    config = settled(thinker)
    assert config.rollouts.mode == "free"
    assert config.prompts.list_choices == "letters"


def test_choices_that_must_be_sampled_inside_reasoning_are_refused(
    thinker: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="begins every answer with reasoning"):
        settled(thinker, "rollouts.mode=constrained")
    switched = thinking_model(tmp_path, SWITCHED)
    on = ("prompts.student_thinking=true", "prompts.teacher_thinking=true")
    with pytest.raises(ConfigError, match="begins every answer with reasoning"):
        settled(switched, "rollouts.mode=constrained", *on)
    assert settled(switched, *on).rollouts.mode == "free"
    assert settled(switched, "prompts.form=plain").rollouts.mode == "constrained"


@pytest.mark.parametrize("template", [SWITCHED, HYBRID], ids=["opens", "hybrid"])
def test_free_answers_keep_their_reasoning(tmp_path: Path, template: str) -> None:
    folder = thinking_model(tmp_path, template)
    config = settled(folder, "rollouts.mode=free")
    assert config.prompts.student_thinking is None
    config = settled(folder, chooses=False)
    assert config.prompts.student_thinking is None


def test_a_switch_that_does_nothing_stays_as_it_was(thinker: Path) -> None:
    config = settled(thinker, "prompts.form=plain")
    assert config.prompts.student_thinking is None


def test_a_run_says_that_it_turned_reasoning_off(tmp_path: Path) -> None:
    folder = thinking_model(tmp_path, HYBRID)
    facts = load_model(ModelConfig(name=str(folder))).facts
    given, quiet = load_config(), settled(folder)
    assert QUIET_ANSWERS in remarks(facts, quiet, given)
    assert QUIET_ANSWERS not in remarks(facts, quiet, quiet)


def test_a_set_knows_whether_any_of_its_questions_has_choices() -> None:
    gold = GoldAnswers({"sky": "blue"})
    test = TestSet("t", (SKY,), gold, in_domain=True)
    assert Inputs((FREE,), (test,), {}).chooses
    assert Inputs((SKY,), (), {}).chooses
    assert not Inputs((FREE,), (), {}).chooses


def test_student_and_teacher_begin_alike(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="read the student's answer as reasoning"):
        settled(
            thinking_model(tmp_path, SWITCHED),
            "rollouts.mode=free",
            "prompts.teacher_thinking=false",
        )


# --- what the teacher sees ---


def library_with(answer: str) -> DemonstrationPool:
    return DemonstrationPool({"sky": SKY, "sea": FREE}, {"sea": answer}, Known(()), {})


def teacher_text(folder: Path, answer: str, *assignments: str) -> str:
    config = load_config(
        assignments=[
            f"model.name={folder}",
            "prompts.form=chat",
            "rollouts.max_new_tokens=64",
            *assignments,
        ]
    )
    model = load_model(config.model)
    start = final_start(answer, opened=True)
    shown = shown_text(Completion((1,), answer, True, 0.0, 0.0, start), config)  # noqa: FBT003
    context = TeacherContext("sky", (Demonstration("sea", shown, 0.5, ""),))
    prompt, dropped = fitted_prompt(model, SKY, context, library_with(shown), config)
    assert dropped == 0
    return model.prompt_text(prompt)


@pytest.mark.parametrize("template", [OPENS, SWITCHED, MAGISTRAL])
def test_the_whole_trace_reaches_the_teacher_through_the_template(
    tmp_path: Path, template: str
) -> None:
    end = "[/THINK]" if template == MAGISTRAL else "</think>"
    answer = f"fish swim\nthere{end}\n\nfish"
    folder = thinking_model(tmp_path, template)
    full = teacher_text(folder, answer, "contexts.content=full")
    assert "fish swim\nthere\n\n\nfish" in full
    final = teacher_text(folder, answer)
    assert "swim" not in final
    assert "fish<|im_end|>" in final


def test_a_template_that_cuts_what_is_shown_is_refused(tmp_path: Path) -> None:
    folder = thinking_model(tmp_path, UNCLOSED)
    with pytest.raises(DataError, match="does not show the teacher the whole answer"):
        teacher_text(folder, "so</think>many fish swim there")


def test_a_template_that_cuts_a_solution_is_refused(tmp_path: Path) -> None:
    folder = thinking_model(tmp_path, UNCLOSED)
    config = load_config(assignments=[f"model.name={folder}", "prompts.form=chat"])
    model = load_model(config.model)
    example = TrainingExample(FREE, Prompt(), Prompt())
    assert "fish<|im_end|>" in model.prompt_text(
        with_solution(model, example, "fish", config)
    )
    with pytest.raises(DataError, match="does not show the teacher the whole answer"):
        with_solution(model, example, "many fish swim there", config)


def test_a_context_has_a_limit_of_its_own(tiny_llama: Path) -> None:
    config = load_config(assignments=["prompts.form=chat", "contexts.max_tokens=60"])
    model = load_model(ModelConfig(name=str(tiny_llama), compute="float32"))
    shown = tuple(Demonstration("sea", "fish", 0.1 * i, "") for i in range(5))
    context = TeacherContext("sky", shown)
    library = library_with("fish")
    prompt, dropped = fitted_prompt(model, SKY, context, library, config)
    assert 0 < dropped < 5
    assert len(model.encode(prompt)) <= 60
    more, fewer = fitted_prompt(
        model, SKY, context, library, load_config(assignments=["prompts.form=chat"])
    )
    assert fewer == 0
    assert len(model.encode(more)) > 60


# --- sampling ---


def test_every_stage_has_its_own_longest_completion(tiny_llama: Path) -> None:
    config = load_config(
        assignments=[
            "rollouts.max_new_tokens=5",
            "distill.max_new_tokens=7",
            "evaluation.max_new_tokens=9",
        ]
    )
    assert (config.training_tokens, config.test_tokens) == (7, 9)
    assert config.most_new_tokens == 9
    same = load_config(assignments=["rollouts.max_new_tokens=5"])
    assert (same.training_tokens, same.test_tokens) == (5, 5)
    model = load_model(ModelConfig(name=str(tiny_llama), compute="float32"))
    questions = ask([FREE], written_freely(config))
    found = sample_rollouts(
        model, questions, config, "x", [(1.0, 32)], config.test_tokens
    )
    assert max(len(r.completion.token_ids) for r in found) == 9


def test_a_stop_text_ends_a_completion_and_is_no_part_of_it(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "llama")
    model = load_model(ModelConfig(name=str(folder), compute="float32"))
    prompt = model.encode(Prompt(text="Question: yes or no?\nAnswer:"))
    free = Sampling(1.0, max_new_tokens=40)
    (whole,) = model.sample([prompt], [list(range(24))], free)
    stop = max("etaoin", key=lambda c: sum(c in w.text[1:] for w in whole))
    stopped = Sampling(1.0, max_new_tokens=40, stop=(stop, "never seen"))
    (found,) = model.sample([prompt], [list(range(24))], stopped)
    assert any(stop in w.text for w in whole)
    for before, after in zip(whole, found, strict=True):
        assert after.text == before.text.partition(stop)[0].strip()
        assert before.token_ids[: len(after.token_ids)] == after.token_ids
        if stop in before.text:
            assert after.finished
            assert stop in model.decode(after.token_ids)
            assert stop not in model.decode(after.token_ids[:-1])
