"""What a teacher sees: whose answers, which demonstrations, in which order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.answers.reasoning import final_start
from neuron_opsd.answers.votes import tally_votes
from neuron_opsd.config import AnswersConfig, Config, ContextsConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import DataError
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.method.selection import PoolSignals, select_questions
from neuron_opsd.pipeline import demonstration_pool
from neuron_opsd.records import (
    Completion,
    Demonstration,
    Message,
    NeuronSet,
    Prompt,
    Question,
    Rollout,
    TeacherContext,
    TrainingExample,
)
from neuron_opsd.stages.remarks import on_search
from neuron_opsd.stages.teaching import (
    DemonstrationPool,
    build_contexts,
    build_examples,
    fits,
    fitted_prompt,
    shown_answers,
)
from resolved import sampled_among_choices, written_freely
from scripted import FACTS, ScriptedModel

PLAIN = load_config(None, ["prompts.form=plain", "contexts.num_demonstrations=2"])


def config_of(*assignments: str) -> Config:
    return load_config(
        None,
        ["prompts.form=plain", "contexts.num_demonstrations=2", *assignments],
    )


def rollout(
    name: str, answer: str | None, index: int = 0, heat: float = 0.6
) -> Rollout:
    text = answer or "..."
    completion = Completion((1,), text, finished=True, logprob=0.0, entropy=0.0)
    return Rollout(name, index, heat, completion, answer)


def with_text(rollout: Rollout, text: str) -> Rollout:
    start = final_start(text)
    completion = replace(rollout.completion, text=text, final_start=start)
    return replace(rollout, completion=completion)


def neurons(name: str, *ids: int, count: int = 0) -> NeuronSet:
    return NeuronSet(
        name,
        count or len(ids),
        np.array(ids, dtype=np.uint32),
        np.ones(len(ids), dtype=np.float32),
        3,
    )


QUESTIONS = {
    name: Question(name, (Message("user", f"What is {name}?"),))
    for name in ("air", "bee", "cow", "dew", "elk")
}

POOL = (
    neurons("air", 1, 2, 3, 4),
    neurons("bee", 1, 2, 3, 9),  # shares 3 of 5 with air
    neurons("cow", 1, 2, 8, 9),  # shares 2 of 6 with air
    neurons("dew", 6, 7, 8, 9),  # shares none with air
    neurons("elk", 1, 2, 3, 4),  # is air
)


def library(
    pool: Sequence[NeuronSet] = POOL, **excluded: frozenset[str]
) -> DemonstrationPool:
    known = Known(pool, texts=[QUESTIONS[entry.question_id].text for entry in pool])
    return DemonstrationPool(
        QUESTIONS, {name: f"a {name}" for name in QUESTIONS}, known, excluded
    )


DRAWN = [
    rollout("air", None, 0),
    rollout("air", "gas", 1),
    rollout("air", "wind", 2),
    rollout("air", "gas", 3),
    rollout("air", "wind", 0, 0.0),
    rollout("bee", "insect", 0),
    rollout("bee", "animal", 1),
    rollout("bee", "animal", 2),
    rollout("bee", "buzz", 0, 0.0),
]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("first", {"bee": "insect"}),
        ("greedy", {"air": "wind", "bee": "buzz"}),
        ("voted", {"air": "gas", "bee": "animal"}),
    ],
)
def test_a_demonstration_shows_the_answer_that_the_settings_name(
    answer: str, shown: dict[str, str]
) -> None:
    config = config_of(f"contexts.answer={answer}")
    assert shown_answers(DRAWN, tally_votes(DRAWN), config) == shown


def test_the_voted_answer_is_the_first_sampled_one_that_gives_it() -> None:
    drawn = [
        rollout("air", "wind", 0),
        with_text(rollout("air", "gas", 1), "It is gas."),
        with_text(rollout("air", "gas", 2), "Gas!"),
        with_text(rollout("air", "gas", 0, 0.0), "greedy gas"),
    ]
    config = config_of("contexts.answer=voted")
    votes = tally_votes(drawn)
    assert [fits(r, votes, config.contexts) for r in drawn] == [
        False,
        True,
        True,
        False,
    ]
    assert shown_answers(drawn, votes, config) == {"air": "It is gas."}


@pytest.mark.parametrize(
    ("content", "shown"),
    [("final", "It is gas."), ("full", "hm\n\n\nIt is gas.")],
)
def test_reasoning_is_left_out_or_shown_as_plain_text(content: str, shown: str) -> None:
    thought = with_text(rollout("air", "gas"), "<think>hm</think>\n\nIt is gas.")
    config = config_of(f"contexts.content={content}")
    assert shown_answers([thought], tally_votes([thought]), config) == {"air": shown}


def test_nothing_after_a_reasoning_trace_shows_nothing() -> None:
    thought = with_text(rollout("air", "gas"), "<think>gas</think>\n")
    votes = tally_votes([thought])
    assert shown_answers([thought], votes, config_of()) == {}


def test_demonstrations_stand_nearest_last_with_their_reasons() -> None:
    (context,) = build_contexts(Known(POOL[:1]), library(), config_of())
    assert [d.question_id for d in context.demonstrations] == ["bee", "elk"]
    bee, elk = context.demonstrations
    assert bee.distance == pytest.approx(1 - 3 / 5)
    assert elk.distance == 0.0
    assert elk.reason == "nearest 1 of 4: Jaccard distance 0.000"
    assert bee.answer == "a bee"


def test_words_find_demonstrations_of_a_question_outside_the_library() -> None:
    config = config_of("contexts.rule=words", "contexts.num_demonstrations=1")
    outside = Known([neurons("new", 5)], texts=["Why is there dew?"])
    (context,) = build_contexts(outside, library(), config)
    assert [d.question_id for d in context.demonstrations] == ["dew"]


def test_questions_of_one_text_never_show_each_other() -> None:
    twins = library(air=frozenset({"elk"}))
    (context,) = build_contexts(Known(POOL[:1]), twins, config_of())
    assert [d.question_id for d in context.demonstrations] == ["cow", "bee"]


def test_random_demonstrations_depend_on_seed_and_question_alone() -> None:
    config = config_of("contexts.rule=random", "contexts.num_demonstrations=3")
    whole = build_contexts(Known(POOL), library(), config)
    (alone,) = build_contexts(Known(POOL[2:3]), library(), config)
    assert whole[2] == alone
    assert "cow" not in {d.question_id for d in alone.demonstrations}
    assert len({d.question_id for d in alone.demonstrations}) == 3
    other = build_contexts(
        Known(POOL), library(), config.model_copy(update={"seed": 1})
    )
    assert other != whole
    nearest = build_contexts(Known(POOL), library(), config, rule="nearest")
    assert nearest != whole


@given(st.integers(0, 4), st.sampled_from(["nearest", "random"]))
def test_every_question_gets_as_many_others_as_asked_for(count: int, rule: str) -> None:
    config = config_of(f"contexts.num_demonstrations={count}", f"contexts.rule={rule}")
    for context in build_contexts(Known(POOL), library(), config):
        shown = [d.question_id for d in context.demonstrations]
        assert len(set(shown)) == len(shown) == count
        assert context.question_id not in shown
        if rule == "nearest":
            far = [d.distance for d in context.demonstrations if d.distance is not None]
            assert len(far) == count
            assert far == sorted(far, reverse=True)


def test_too_few_demonstrations_are_an_error_that_names_the_question() -> None:
    config = config_of("contexts.num_demonstrations=4")
    build_contexts(Known(POOL), library(), config)
    with pytest.raises(
        DataError,
        match=r"elk can choose from only 3 with a readable answer "
        r"\(1 others have its text and are not shown\)",
    ):
        build_contexts(Known(POOL[-1:]), library(elk=frozenset({"air"})), config)
    with pytest.raises(
        DataError, match="is 4, but question air can choose from only 3"
    ):
        build_contexts(Known(POOL), library(POOL[:4]), config)


@pytest.mark.parametrize("rule", ["nearest", "diverse", "random"])
def test_a_search_that_is_not_exact_is_told(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of()
    exact = build_contexts(Known(POOL), library(), config, rule=rule)
    assert on_search(exact, library()) == []
    monkeypatch.setattr("neuron_opsd.method.contexts.overlap.EXACT_PAIRS", 5)
    found = build_contexts(Known(POOL), library(), config, rule=rule)
    told = on_search(found, library())
    if rule == "random":
        assert told == []
        return
    assert told == [
        "the demonstrations of 5 questions were searched among 5 by sketches, since "
        "at most 10,000,000,000 pairs are compared one by one: 100.0% of the nearest "
        "were found in a sample, with some farther ones in place of the others"
    ]


def test_a_question_outside_the_library_may_choose_from_all_of_it() -> None:
    config = config_of("contexts.num_demonstrations=4")
    (context,) = build_contexts(Known(POOL[:1]), library(POOL[1:]), config)
    assert len(context.demonstrations) == 4


@pytest.mark.parametrize(
    ("source", "names"),
    [("pool", ["air", "bee", "cow", "elk"]), ("selected", ["bee", "elk"])],
)
def test_demonstrations_come_from_the_pool_or_from_the_selected(
    source: str, names: list[str]
) -> None:
    config = config_of(
        f"contexts.source={source}",
        "selection.keep_fraction=0.5",
    )
    pool = [
        neurons("air", 1, count=50),
        neurons("bee", 1, count=10),
        neurons("cow", 1, count=40),
        neurons("dew", 1, count=20),
        neurons("elk", 1, count=30),
    ]
    drawn = [rollout(name, None if name == "dew" else "yes") for name in QUESTIONS]
    selection = select_questions(PoolSignals(pool), config.selection, 0)
    assert [e.question_id for e in selection if e.kept] == ["bee", "dew", "elk"]
    answers = shown_answers(drawn, tally_votes(drawn), config)
    found = demonstration_pool(
        list(QUESTIONS.values()), answers, Known(pool), selection, config
    )
    # The question dew has no readable answer to show.
    assert [entry.question_id for entry in found.known.neurons] == names
    assert "dew" not in found.answers


def demonstrations(*names: str) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(name, f"a {name}", 0.5, "so") for name in names)


def model_with_room(num_tokens: int, config: Config) -> ScriptedModel:
    """Return a model whose prompts may be so long."""
    longest = num_tokens + config.rollouts.max_new_tokens
    return ScriptedModel({}, replace(FACTS, max_positions=longest))


def test_a_prompt_holds_demonstrations_then_the_question() -> None:
    context = TeacherContext("air", demonstrations("cow", "bee"))
    prompt, dropped = fitted_prompt(
        ScriptedModel({}), QUESTIONS["air"], context, library(), PLAIN
    )
    assert dropped == 0
    assert prompt.text == (
        "Question: What is cow?\nAnswer: a cow\n\n"
        "Question: What is bee?\nAnswer: a bee\n\n"
        "Question: What is air?\nAnswer:"
    )


def test_in_a_chat_demonstrations_are_turns() -> None:
    config = config_of("prompts.form=chat", "prompts.teacher_thinking=false")
    context = TeacherContext("air", demonstrations("bee"))
    prompt, _ = fitted_prompt(
        ScriptedModel({}), QUESTIONS["air"], context, library(), config
    )
    assert [(m.role, m.content) for m in prompt.messages] == [
        ("user", "What is bee?"),
        ("assistant", "a bee"),
        ("user", "What is air?"),
    ]
    assert prompt.thinking is False


def test_the_farthest_demonstration_goes_first_and_the_question_never() -> None:
    context = TeacherContext("air", demonstrations("cow", "bee"))
    block = len("Question: What is bee?\nAnswer: a bee\n\n")
    alone = len("Question: What is air?\nAnswer:")
    kept = {}
    for room in range(alone, alone + 2 * block + 1):
        model = model_with_room(room, PLAIN)
        prompt, dropped = fitted_prompt(
            model, QUESTIONS["air"], context, library(), PLAIN
        )
        assert prompt.text.endswith("Question: What is air?\nAnswer:")
        assert len(model.encode(prompt)) <= room
        assert ("cow" in prompt.text, "bee" in prompt.text) == (
            dropped < 1,
            dropped < 2,
        )
        kept[room] = 2 - dropped
    assert kept[alone + block - 1] == 0
    assert kept[alone + block] == 1
    assert kept[alone + 2 * block - 1] == 1
    assert kept[alone + 2 * block] == 2


def test_a_question_too_long_by_itself_is_an_error_that_names_it() -> None:
    context = TeacherContext("air", demonstrations("bee"))
    model = model_with_room(20, PLAIN)
    with pytest.raises(DataError) as caught:
        fitted_prompt(model, QUESTIONS["air"], context, library(), PLAIN)
    assert str(caught.value) == (
        "question air takes 30 tokens, but the model holds 532 and "
        "max_new_tokens keeps 512 of them; lower that or drop the question"
    )


def test_examples_hold_what_student_and_teacher_see() -> None:
    choosing = Question("air", QUESTIONS["air"].messages, ("gas", "wind"))
    books = replace(library(), questions={**QUESTIONS, "air": choosing})
    contexts = [
        TeacherContext("air", demonstrations("cow", "bee")),
        TeacherContext("bee", demonstrations("cow")),
    ]
    done: list[int] = []
    room = len("Question: What is cow?\nAnswer: a cow\n\n" * 2)
    air, bee = build_examples(
        model_with_room(room, PLAIN),
        contexts,
        books,
        sampled_among_choices(PLAIN),
        on_done=done.append,
    )
    assert done == [1, 1]
    assert air.student_prompt.text == "Question: What is air?\nAnswer:"
    assert air.teacher_prompt.text.endswith(f"\n\n{air.student_prompt.text}")
    assert (air.choices, bee.choices) == (("gas", "wind"), ())
    assert (air.num_dropped, bee.num_dropped) == (1, 0)
    free, _ = build_examples(
        ScriptedModel({}),
        contexts,
        books,
        written_freely(PLAIN),
        on_done=done.append,
    )
    assert free.choices == ()


def test_a_question_has_as_many_contexts_as_asked_for() -> None:
    single = config_of("contexts.num_demonstrations=4")
    double = config_of("contexts.num_demonstrations=2", "contexts.num_contexts=2")
    done: list[int] = []

    def air(config: Config) -> TrainingExample:
        contexts = build_contexts(Known(POOL[:1]), library(), config)
        shown = [d.question_id for d in contexts[0].demonstrations]
        assert shown == ["dew", "cow", "bee", "elk"]
        model = ScriptedModel({})
        return build_examples(
            model, contexts, library(), written_freely(config), on_done=done.append
        )[0]

    def shown(prompt: Prompt) -> list[str]:
        return re.findall("Answer: a (\\w+)", prompt.text)

    assert [shown(p) for p in air(single).teacher_prompts] == [
        ["dew", "cow", "bee", "elk"]
    ]
    # The nearest stays last; each context is as near as the other, but for one place.
    assert [shown(p) for p in air(double).teacher_prompts] == [
        ["cow", "elk"],
        ["dew", "bee"],
    ]
    none = config_of("contexts.num_demonstrations=0", "contexts.num_contexts=2")
    bare = build_contexts(Known(POOL[:1]), library(), none)
    (example,) = build_examples(
        ScriptedModel({}), bare, library(), written_freely(none), on_done=done.append
    )
    assert example.teacher_prompts == (example.student_prompt,)


def test_what_does_not_fit_is_counted_over_all_contexts() -> None:
    double = config_of("contexts.num_demonstrations=2", "contexts.num_contexts=2")
    contexts = build_contexts(Known(POOL[:1]), library(), double)
    alone = len("Question: What is air?\nAnswer:")
    room = alone + len("Question: What is cow?\nAnswer: a cow\n\n")
    (air,) = build_examples(
        model_with_room(room, double),
        contexts,
        library(),
        written_freely(double),
        on_done=lambda _: None,
    )
    assert air.num_dropped == 2
    assert ["elk" in air.teacher_prompt.text, "bee" in air.other_prompts[0].text] == [
        True,
        True,
    ]


def test_too_few_for_several_contexts_is_an_error() -> None:
    config = config_of("contexts.num_demonstrations=2", "contexts.num_contexts=3")
    with pytest.raises(
        DataError,
        match=r"contexts.num_demonstrations is 2 in each of 3 contexts "
        r"\(contexts.num_contexts\), but question air can choose from only 4 ",
    ):
        build_contexts(Known(POOL), library(), config)


def test_the_voted_answer_may_be_spelled_in_another_way() -> None:
    drawn = [rollout("air", "1/2", 0), rollout("air", "0.5", 1), rollout("air", "3", 2)]
    question = Question("air", (Message("user", "How much?"),))
    readers = readers_for([question], AnswersConfig(reader="latex"))
    votes = tally_votes(drawn, readers)
    config = ContextsConfig(answer="voted")
    assert [fits(r, votes, config) for r in drawn] == [True, True, False]
