"""From a pool to examples, on a model whose answers are written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.answers.votes import tally_votes
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError, TeacherError
from neuron_opsd.method.selection import PoolSignals
from neuron_opsd.models.roles import ignore
from neuron_opsd.pipeline import Prepared
from neuron_opsd.progress import Silent
from neuron_opsd.records import (
    Completion,
    Message,
    Prompt,
    Question,
    Rollout,
    SelectionEntry,
    TokenIds,
)
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.inputs import run_settings
from neuron_opsd.runs.prepare import RUN_OUTPUTS, count_pool_tokens, prepare_run
from neuron_opsd.stages.teacher_check import one_answer_findings
from neuron_opsd.stages.teaching import representatives
from neuron_opsd.storage.run_directory import RunDirectory
from resolved import sampled_among_choices, written_freely
from scripted import FACTS, ScriptedModel

NAMES = [f"thing {n}" for n in range(12)]

POOL = tuple(
    Question(f"q{n}", (Message("user", f"Is {name} odd?"),), ("yes", "no"))
    for n, name in enumerate(NAMES)
)
FREE = tuple(replace(question, choices=()) for question in POOL)

BLAND = {f"Is {name} odd?": ["yes", "yes", "no"] for name in NAMES}
"""Answers that neither context nor question changes."""


def config_of(*assignments: str) -> Config:
    return load_config(
        None,
        [
            "prompts.form=plain",
            "rollouts.num_samples=3",
            "rollouts.block_size=5",
            "contexts.num_demonstrations=2",
            "neurons.per_layer=4",
            "neurons.keep=6",
            "teacher_check.min_divergence=0",
            *assignments,
        ],
    )


@contextmanager
def opened(folder: Path, config: Config, *, free: bool = False) -> Iterator[RunContext]:
    progress = Silent()
    with RunDirectory.open(folder, {}, {}, warn=progress.warn) as run:
        mode = written_freely if free else sampled_among_choices
        yield RunContext(run, mode(config), progress)


def prepared(
    folder: Path, model: ScriptedModel, config: Config, *, free: bool = False
) -> tuple[Prepared, list[str]]:
    """Prepare a pool; return also what was warned of."""
    with opened(folder, config, free=free) as run:
        return prepare_run(run, model, FREE if free else POOL), run.directory.warnings


def test_every_selected_question_becomes_an_example(tmp_path: Path) -> None:
    config = config_of("selection.keep_fraction=0.5", "contexts.answer=greedy")
    found, warnings = prepared(tmp_path, ScriptedModel(BLAND), config)
    assert all("a seeded draw decided" in text for text in warnings)
    kept = [entry.question_id for entry in found.selection if entry.kept]
    assert len(kept) == 6
    assert [e.question_id for e in found.examples] == kept
    assert [c.question_id for c in found.contexts] == kept
    assert len(found.rollouts) == 12 * (3 + 1)
    assert [n.question_id for n in found.known.neurons] == [q.id for q in POOL]
    counts = {e.question_id: e.neuron_count or 0 for e in found.selection}
    assert all(counts.values())
    worst = max(counts[name] for name in kept)
    assert all(counts[q.id] >= worst for q in POOL if q.id not in kept)
    for example in found.examples:
        assert example.choices == ("yes", "no")
        assert example.teacher_prompt.text.endswith(example.student_prompt.text)
        assert example.teacher_prompt.text.count("Answer: yes") == 2
    assert found.teacher_check is not None
    assert found.teacher_check.findings == ()


def test_what_was_prepared_is_not_asked_again(tmp_path: Path) -> None:
    config = config_of()
    first, _ = prepared(tmp_path, ScriptedModel(BLAND), config, free=True)
    silent = ScriptedModel({})  # would raise a KeyError if it were asked anything
    again, _ = prepared(tmp_path, silent, config, free=True)
    assert silent.asked == []
    assert again.rollouts == first.rollouts
    assert again.examples == first.examples
    assert again.teacher_check == first.teacher_check


def test_the_pool_is_asked_once_in_blocks(tmp_path: Path) -> None:
    model = ScriptedModel(BLAND)
    config = config_of("teacher_check.action=off")
    found, _ = prepared(tmp_path, model, config, free=True)
    assert [prompt for prompt, _, _ in model.asked] == [
        f"Question: Is {name} odd?\nAnswer:" for name in NAMES
    ]
    assert found.teacher_check is None
    assert not (tmp_path / "parts" / "rollouts").exists()


def test_tokens_are_counted_by_stage(tmp_path: Path) -> None:
    config = config_of("teacher_check.action=off")
    with opened(tmp_path, config, free=True) as run:
        prepare_run(run, ScriptedModel(BLAND), FREE)
        tokens = run.directory.manifest.facts["tokens"]
    prompts = sum(len(f"Question: Is {name} odd?\nAnswer:") for name in NAMES)
    # Each question: " yes\n" twice and " no\n" once; neurons read the first alone.
    assert tokens == {"rollouts": prompts + 12 * 14, "neurons": prompts + 12 * 5}


def test_prompts_are_written_out_together_to_count_their_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template takes a millisecond a prompt by itself: half an hour of a million."""
    config, model = config_of("teacher_check.action=off"), ScriptedModel(BLAND)
    first, _ = prepared(tmp_path, model, config, free=True)
    calls: list[int] = []

    def noted(prompts: Sequence[Prompt]) -> list[TokenIds]:
        calls.append(len(prompts))
        return [model.encode(prompt) for prompt in prompts]

    monkeypatch.setattr(model, "encode_all", noted)
    with opened(tmp_path, config, free=True) as run:
        chosen = representatives(first.rollouts, first.votes, config)
        whole = replace(first, representatives=chosen)
        count_pool_tokens(run, model, whole, RUN_OUTPUTS)
    assert calls == [12]


def test_cut_rollouts_are_warned_of(tmp_path: Path) -> None:
    config = config_of(
        "rollouts.max_new_tokens=4",
        "teacher_check.action=off",
        "selection.include_unread=true",
        "selection.keep_fraction=1.0",
    )
    _, warnings = prepared(tmp_path, ScriptedModel(BLAND), config, free=True)
    assert warnings == [
        "24 of 36 rollouts were cut at 4 tokens; raise rollouts.max_new_tokens"
    ]


HALF = {
    f"Is {name} odd?": ["yes", "yes"] if n % 2 else ["yes indeed", "yes"]
    for n, name in enumerate(NAMES)
}
"""The first of each other question's answers is cut at five tokens."""


def test_questions_whose_own_completion_was_cut_are_not_selected(
    tmp_path: Path,
) -> None:
    config = config_of(
        "rollouts.max_new_tokens=5",
        "selection.keep_fraction=0.75",
        "teacher_check.action=off",
    )
    found, warnings = prepared(tmp_path, ScriptedModel(HALF), config, free=True)
    cut = {q.id for n, q in enumerate(POOL) if n % 2 == 0}
    kept = {entry.question_id for entry in found.selection if entry.kept}
    assert kept == {q.id for q in POOL} - cut
    assert {example.question_id for example in found.examples} == kept
    reasons = {e.question_id: e.reason for e in found.selection}
    assert {reasons[i] for i in cut} == {"left out: its own completion was cut"}
    assert warnings[1:] == [
        "6 of 12 questions could not be selected, since their own completion was cut "
        "or holds no answer that can be read; the selection has 6, fewer than the 9 "
        "that selection.keep_fraction=0.75 asks for; raise rollouts.max_new_tokens"
    ]
    # A run that resumes says so again.
    assert prepared(tmp_path, ScriptedModel({}), config, free=True)[1] == warnings


def test_cut_completions_are_selected_where_asked_for(tmp_path: Path) -> None:
    config = config_of(
        "rollouts.max_new_tokens=5",
        "selection.keep_fraction=0.75",
        "selection.include_unread=true",
        "teacher_check.action=off",
    )
    found, _ = prepared(tmp_path, ScriptedModel(HALF), config, free=True)
    assert sum(entry.kept for entry in found.selection) == 9


def test_a_pool_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    config = config_of("rollouts.max_new_tokens=4", "teacher_check.action=off")
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, ScriptedModel(BLAND), config, free=True)
    assert str(caught.value) == (
        "none of the 12 questions can be selected, since every own completion was cut "
        "or holds no answer that can be read, or selection.rule knows nothing of it; "
        "raise rollouts.max_new_tokens, look at answers.reader, or set "
        "selection.include_unread to true or selection.rule to random"
    )


@pytest.mark.parametrize(
    ("finished", "answer", "why"),
    [
        (True, "yes", {}),
        (False, "yes", {"a": "its own completion was cut"}),
        (False, None, {"a": "its own completion was cut"}),
        (True, None, {"a": "its own completion holds no answer that can be read"}),
    ],
)
def test_which_completions_give_no_answer(
    finished: bool, answer: str | None, why: dict[str, str]
) -> None:
    one = rollout("a", answer, 0)
    one = replace(one, completion=replace(one.completion, finished=finished))
    assert PoolSignals((), {"a": one}).unread == why


def test_completions_without_the_span_are_warned_of(tmp_path: Path) -> None:
    config = config_of(
        "neurons.span=reasoning",
        "teacher_check.action=off",
        "selection.keep_fraction=1.0",
    )
    _, warnings = prepared(tmp_path, ScriptedModel(BLAND), config)
    assert warnings == [
        "12 of 12 completions hold no reasoning; the neurons of all their tokens count "
        "instead"
    ]


class Thinker(ScriptedModel):
    """Thinks before it answers, and says where the answer begins."""

    def sample(self, *asked: Any) -> list[list[Completion]]:
        """Mark where the answer begins."""
        *given, finished = asked if len(asked) > 3 else (*asked, ignore)
        rows = [
            [replace(one, final_start=one.text.index("|") + 1) for one in row]
            for row in super().sample(*given)
        ]
        for number, row in enumerate(rows):
            finished(number, row)
        return rows


class Mute(Thinker):
    """Must not be asked for the text of a token."""

    def decode(self, token_ids: TokenIds) -> str:
        """Fail."""
        raise AssertionError(token_ids)


@pytest.mark.parametrize(
    ("span", "read"), [("completion", 9), ("reasoning", 5), ("answer", 9)]
)
def test_the_span_that_is_asked_for_is_what_counts(
    tmp_path: Path, span: str, read: int
) -> None:
    model = Thinker({asked: ["hmm|yes"] for asked in BLAND})
    config = config_of(
        f"neurons.span={span}",
        "teacher_check.action=off",
        "selection.keep_fraction=1.0",
    )
    with opened(tmp_path, config, free=True) as run:
        found = prepare_run(run, model, FREE)
        tokens = run.directory.manifest.facts["tokens"]
        assert run.directory.warnings == []
    length = {"completion": 9, "reasoning": 5, "answer": 4}[span]
    assert {entry.num_tokens for entry in found.known.neurons} == {length}
    prompts = sum(len(f"Question: Is {name} odd?\nAnswer:") for name in NAMES)
    assert tokens["neurons"] == prompts + 12 * read
    # What is kept is not looked for again among thousands of tokens.
    with opened(tmp_path, config, free=True) as run:
        prepare_run(run, Mute({asked: ["hmm|yes"] for asked in BLAND}), FREE)


def test_demonstrations_that_do_not_fit_are_warned_of(tmp_path: Path) -> None:
    block = len("Question: Is thing 10 odd?\nAnswer: yes\n\n")
    room = len("Question: Is thing 10 odd?\nAnswer:") + block + 512
    small = ScriptedModel(BLAND, replace(FACTS, max_positions=room))
    config = config_of("selection.rule=all", "teacher_check.action=off")
    found, warnings = prepared(tmp_path, small, config)
    assert {example.num_dropped for example in found.examples} == {1}
    assert warnings == [
        "12 demonstrations of 12 questions were left out because the teacher's prompt "
        "would have been too long; the farthest went first"
    ]


class Spoilt(ScriptedModel):
    """Agrees with its vote only as long as there is no context."""

    def answers_to(self, prompt: tuple[int, ...]) -> tuple[str, ...]:
        """Say no after demonstrations, else yes."""
        return ("no",) if bytes(prompt).count(b"Question:") > 1 else ("yes",)


def test_an_unfit_teacher_is_warned_of(tmp_path: Path) -> None:
    found, warnings = prepared(tmp_path, Spoilt({}), config_of())
    assert found.teacher_check is not None
    assert len(warnings) == 3
    assert tuple(warnings[1:]) == found.teacher_check.findings
    assert warnings[0].startswith("the answer 'yes' takes 100.00% of the model's own")
    assert warnings[1].startswith("the teacher agrees with the vote 0.0")
    assert warnings[2].startswith("the teacher answers 'no' to 100% of questions")
    # Going on says so again, although the check is not done again.
    assert prepared(tmp_path, ScriptedModel({}), config_of())[1] == warnings


def test_an_unfit_teacher_stops_a_run_that_was_told_so(tmp_path: Path) -> None:
    config = config_of("teacher_check.action=stop")
    for model in (Spoilt({}), ScriptedModel({})):
        with pytest.raises(TeacherError) as caught:
            prepared(tmp_path, model, config)
        assert str(caught.value).startswith("the answer 'yes' takes 100.00% of the mod")
        assert str(caught.value).endswith("(teacher_check.action is stop)")
    patient = config_of(
        "teacher_check.action=stop",
        "teacher_check.max_agreement_loss=1.0",
        "teacher_check.max_top_answer_gain=1.0",
    )
    with pytest.raises(TeacherError, match="the answer 'yes' takes 100"):
        prepared(tmp_path / "patient", Spoilt({}), patient)
    torn = {f"Is {name} odd?": ["yes", "no", "yes"] for name in NAMES}
    prepared(tmp_path / "torn", ScriptedModel(torn), patient)


STUBBORN = {f"Is {name} odd?": ["yes"] for name in NAMES}
"""One answer to every question, whatever stands before it."""


@pytest.mark.parametrize("free", [False, True])
def test_a_run_with_nothing_to_learn_stops_with_advice(
    tmp_path: Path, *, free: bool
) -> None:
    with pytest.raises(TeacherError) as caught:
        prepared(tmp_path, ScriptedModel(STUBBORN), config_of(), free=free)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(
        "nothing to learn here: the answer 'yes' takes 100.00% of the model's own "
        "answers to the pool, and the teacher says the same (100% of questions, 0 nats"
    )
    assert "rollouts.centre_choices=true" in said
    assert said.endswith("teacher_check.one_answer=warn trains anyway")
    assert caught.value.exit_status == 2


def test_a_run_with_nothing_to_learn_goes_on_where_it_is_told_to(
    tmp_path: Path,
) -> None:
    model = ScriptedModel(STUBBORN)
    with pytest.raises(TeacherError):
        prepared(tmp_path, model, config_of())
    told = config_of("teacher_check.one_answer=warn")
    found, warnings = prepared(tmp_path, model, told)
    assert found.teacher_check is not None
    assert (found.teacher_check.pool_answer, found.teacher_check.pool_answer_share) == (
        "yes",
        1.0,
    )
    assert warnings[0].startswith("the answer 'yes' takes 100.00% of the model's own")
    off = config_of("teacher_check.action=off")
    assert prepared(tmp_path / "off", model, off)[1] == []


def test_form_only_training_has_more_to_learn_from(tmp_path: Path) -> None:
    config = config_of("method=form-only")
    found, warnings = prepared(tmp_path, ScriptedModel(STUBBORN), config)
    assert found.examples
    assert warnings[0].startswith("the answer 'yes' takes 100.00%")


def test_one_answer_alone_or_a_near_teacher_alone_stops_nothing(
    tmp_path: Path,
) -> None:
    near = config_of("teacher_check.min_divergence=0.01")
    _, warnings = prepared(tmp_path / "near", ScriptedModel(BLAND), near)
    assert warnings[-1].startswith("the teacher says what the student says: 0 nats")
    _, warnings = prepared(tmp_path / "alone", Spoilt({}), config_of())
    assert warnings[0].startswith("the answer 'yes' takes 100.00%")


def test_what_lets_a_stopped_run_pass_is_no_other_run() -> None:
    told, other = config_of("teacher_check.one_answer=warn"), config_of("seed=1")
    assert run_settings(told) == run_settings(config_of())
    assert run_settings(other) != run_settings(config_of())


def test_nothing_readable_is_one_answer_with_advice_of_its_own() -> None:
    votes = tally_votes([rollout(name, None, k) for name in NAMES for k in range(3)])
    (finding,) = one_answer_findings(votes, config_of().teacher_check)
    assert finding.startswith("no readable answer takes 100.00% of the model's own")
    assert "answers.reader" in finding
    assert (
        one_answer_findings(dict(list(votes.items())[:9]), config_of().teacher_check)
        == ()
    )


def test_a_pool_with_one_free_answer_stops_too_even_without_demonstrations(
    tmp_path: Path,
) -> None:
    model = ScriptedModel(BLAND)
    config = config_of("contexts.num_demonstrations=0", "teacher_check.action=stop")
    with pytest.raises(TeacherError, match="the answer 'yes' is given to 100% of the"):
        prepared(tmp_path, model, config, free=True)
    found, warnings = prepared(
        tmp_path / "warned",
        model,
        config_of("contexts.num_demonstrations=0"),
        free=True,
    )
    assert found.teacher_check is None
    assert len(warnings) == 1


def test_a_selection_of_one_answer_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {f"Is {name} odd?": ["yes", "no"][n % 2] for n, name in enumerate(NAMES)}
    model = ScriptedModel({asked: [one] * 3 for asked, one in answers.items()})

    def evens(*_: object) -> tuple[SelectionEntry, ...]:
        return tuple(
            SelectionEntry(q.id, 5, n, n % 2 == 0, "") for n, q in enumerate(POOL)
        )

    monkeypatch.setattr("neuron_opsd.method.selection.entries_of", evens)
    monkeypatch.setattr("neuron_opsd.stages.teacher_check.FEWEST", 6)
    config = config_of("contexts.num_demonstrations=0", "selection.keep_fraction=1.0")
    _, warnings = prepared(tmp_path, model, config)
    assert [text.partition(":")[0] for text in warnings] == [
        "the answer 'yes' is the model's own answer to 100% of the selected questions "
        "and to 50% of the pool"
    ]


def test_without_demonstrations_the_teacher_sees_what_the_student_sees(
    tmp_path: Path,
) -> None:
    config = config_of("contexts.num_demonstrations=0")
    found, _ = prepared(tmp_path, ScriptedModel(BLAND), config)
    for example in found.examples:
        assert example.teacher_prompt == example.student_prompt


def rollout(name: str, answer: str | None, index: int, heat: float = 0.6) -> Rollout:
    text = f"{answer} {index}"
    completion = Completion((index,), text, finished=True, logprob=0.0, entropy=0.0)
    return Rollout(name, index, heat, completion, answer)


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("first", {"a": (0, 0.6)}),
        ("greedy", {"a": (0, 0.0)}),
        ("voted", {"a": (1, 0.6)}),
    ],
)
def test_the_rollout_that_is_shown_stands_for_its_question(
    answer: str, places: dict[str, tuple[int, float]]
) -> None:
    drawn = [
        rollout("a", "no", 0),
        rollout("a", "yes", 1),
        rollout("a", "yes", 2),
        rollout("a", "no", 0, 0.0),
        rollout("b", None, 0),
        rollout("b", None, 1),
        rollout("b", None, 0, 0.0),
    ]
    config = config_of(f"contexts.answer={answer}")
    found = representatives(drawn, tally_votes(drawn), config)
    # Of b nothing can be shown, and its first rollout stands for it.
    expected = places | {"b": (0, 0.6)}
    assert {n: (r.index, r.temperature) for n, r in found.items()} == expected


@pytest.mark.parametrize("answer", ["first", "greedy", "voted"])
def test_questions_that_are_no_demonstrations_are_counted(
    tmp_path: Path, answer: str
) -> None:
    replies = {**BLAND, "Is thing 3 odd?": ["  "], "Is thing 5 odd?": ["", " ", ""]}
    config = config_of("selection.rule=all", f"contexts.answer={answer}")
    found, warnings = prepared(tmp_path, ScriptedModel(replies), config, free=True)
    assert not {"q3", "q5"} & found.library.answers.keys()
    said = [text for text in warnings if "cannot be demonstrations" in text]
    assert len(said) == 1
    assert said[0].startswith("2 of 12 questions of the pool cannot be demonstrations")
    whose = {
        "first": "first sample",
        "greedy": "greedy",
        "voted": "any of their samples",
    }
    assert whose[answer] in said[0]


def test_nothing_is_said_of_demonstrations_where_none_are_shown(tmp_path: Path) -> None:
    replies = {**BLAND, "Is thing 3 odd?": ["  "]}
    config = config_of("selection.rule=all", "contexts.num_demonstrations=0")
    _, warnings = prepared(tmp_path, ScriptedModel(replies), config, free=True)
    assert not any("no demonstration" in text for text in warnings)
