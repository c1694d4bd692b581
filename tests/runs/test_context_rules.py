"""Runs with every rule for demonstrations: what is read, kept, resumed and shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.method.contexts.drawn import FILLED
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.pipeline import Prepared
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message, Question
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.prepare import prepare_run
from neuron_opsd.storage.run_directory import RunDirectory
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel
from tiny_runs import KINDS, outcome_of, read_json, tiny_config, tiny_request, tiny_run

RULES = sorted(CONTEXT_RULES)
NAMES = [f"thing {n}" for n in range(12)]
POOL = tuple(
    Question(f"q{n}", (Message("user", f"Is {name} odd?"),), ("yes", "no"))
    for n, name in enumerate(NAMES)
)
FREE = tuple(replace(question, choices=()) for question in POOL)
REPLIES = {
    f"Is {name} odd?": (["yes", "no"] if n % 3 else ["no", "no", "yes"])
    for n, name in enumerate(NAMES)
}
"""To four questions the model answers no first, to eight yes."""

MADE = {
    Signal.ANSWER_NEURONS: "neurons.parquet",
    Signal.QUESTION_NEURONS: "question-neurons.parquet",
    Signal.HIDDEN_STATES: "hidden-states.parquet",
}
"""What takes passes of its own, and its file."""


def config_of(*assignments: str) -> Config:
    return load_config(
        None,
        [
            "prompts.form=plain",
            "rollouts.num_samples=3",
            "rollouts.block_size=5",
            "contexts.num_demonstrations=2",
            "selection.rule=all",
            "teacher_check.action=off",
            "neurons.per_layer=4",
            "neurons.keep=6",
            *assignments,
        ],
    )


class Counted(ScriptedModel):
    """Counts what is read off, and stops after so many passes where told."""

    def __init__(self, replies: Any, most: int = 10**9) -> None:
        super().__init__(replies)
        self.most = most
        self.pairs = 0
        self.passes = 0

    def count(self, pairs: Sequence[Any]) -> None:
        """Count a pass over some pairs."""
        self.pairs += len(pairs)
        self.passes += 1
        if self.passes > self.most:
            raise KeyboardInterrupt

    def capture(self, pairs: Any, *rest: Any, **more: Any) -> None:
        """Count a pass that reads off neurons."""
        self.count(pairs)
        super().capture(pairs, *rest, **more)

    def mean_states(self, pairs: Any, layer: int) -> Any:
        """Count a pass that takes means of states."""
        self.count(pairs)
        return super().mean_states(pairs, layer)


@contextmanager
def opened(folder: Path, config: Config, *, free: bool) -> Iterator[RunContext]:
    progress = Silent()
    mode = written_freely if free else sampled_among_choices
    with RunDirectory.open(folder, {}, {}, warn=progress.warn) as run:
        yield RunContext(run, mode(config), progress)


def prepared(
    folder: Path, model: ScriptedModel, config: Config, *, free: bool = True
) -> Prepared:
    with opened(folder, config, free=free) as run:
        return prepare_run(run, model, FREE if free else POOL)


def test_the_surest_answer_is_sure_by_votes_for_it(tmp_path: Path) -> None:
    """Votes for another answer than the one shown are no support."""
    texts = [question.text for question in FREE]
    replies = {text: ["yes", "yes", "yes", "no"] for text in texts}
    replies[texts[4]] = ["no", "yes", "yes", "yes"]
    replies[texts[7]] = ["no", "no", "yes", "yes"]
    config = config_of("contexts.rule=fixed", "rollouts.num_samples=4")
    found = prepared(tmp_path, ScriptedModel(replies), config)
    no, yes = found.contexts[-1].demonstrations
    assert (no.question_id, no.answer, yes.answer) == ("q7", "no", "yes")
    assert "50% of its votes agree" in no.reason
    assert "75% of its votes agree" in yes.reason


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_read_what_it_reads_and_nothing_else(
    rule: str, tmp_path: Path
) -> None:
    model = Counted(REPLIES)
    prepared(tmp_path / "run", model, config_of(f"contexts.rule={rule}"))
    reads = CONTEXT_RULES[rule].reads
    files = {name for name in MADE.values() if (tmp_path / "run" / name).exists()}
    assert files == {name for signal, name in MADE.items() if signal in reads}
    assert model.pairs == 12 * len(files)
    # A rule that nobody asks reads nothing.
    none = Counted(REPLIES)
    told = (f"contexts.rule={rule}", "contexts.num_demonstrations=0")
    prepared(tmp_path / "none", none, config_of(*told))
    assert none.pairs == 0


@pytest.mark.parametrize("source", ["pool", "selected"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_shows_others_of_the_source(
    rule: str, source: str, tmp_path: Path
) -> None:
    told = ("selection.rule=random", "selection.keep_fraction=0.5")
    config = config_of(f"contexts.rule={rule}", f"contexts.source={source}", *told)
    found = prepared(tmp_path, ScriptedModel(REPLIES), config)
    kept = {entry.question_id for entry in found.selection if entry.kept}
    allowed = kept if source == "selected" else {question.id for question in FREE}
    assert len(found.contexts) == len(kept) == 6
    for context in found.contexts:
        shown = [one.question_id for one in context.demonstrations]
        assert len(set(shown)) == 2
        assert set(shown) <= allowed - {context.question_id}
        ranked = [one.distance for one in context.demonstrations]
        if rule in ("nearest", "question-neurons", "hidden-state"):
            assert ranked[0] >= ranked[1]  # type: ignore[operator] # nearest last
        if rule == "farthest":
            assert ranked[0] <= ranked[1]  # type: ignore[operator] # farthest last


@pytest.mark.parametrize("rule", RULES)
def test_what_a_rule_read_is_not_read_again(rule: str, tmp_path: Path) -> None:
    config = config_of(f"contexts.rule={rule}", "contexts.answer=neuron-medoid")
    first = prepared(tmp_path, Counted(REPLIES), config)
    silent = Counted({})  # would raise a KeyError if it were asked anything
    again = prepared(tmp_path, silent, config)
    assert silent.passes == 0
    assert again.contexts == first.contexts
    assert again.examples == first.examples


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize(
    "told",
    [
        ("contexts.rule=question-neurons",),
        ("contexts.rule=hidden-state",),
        ("contexts.rule=words", "contexts.answer=neuron-medoid"),
    ],
)
def test_a_stopped_reading_goes_on_with_the_next_block(
    told: tuple[str, ...], *, free: bool, tmp_path: Path
) -> None:
    config = config_of(*told)
    whole = Counted(REPLIES)
    expected = prepared(tmp_path / "whole", whole, config, free=free)
    stopped = Counted(REPLIES, most=whole.passes - 1)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "run", stopped, config, free=free)
    rest = Counted(REPLIES)
    found = prepared(tmp_path / "run", rest, config, free=free)
    assert 0 < rest.pairs < whole.pairs
    assert found.contexts == expected.contexts
    assert (tmp_path / "run" / "contexts.json").read_bytes() == (
        tmp_path / "whole" / "contexts.json"
    ).read_bytes()


def test_passes_are_counted_in_tokens(tmp_path: Path) -> None:
    prompts = sum(len(f"Question: Is {name} odd?\nAnswer:") for name in NAMES)
    for rule, name in (
        ("question-neurons", "question-neurons"),
        ("hidden-state", "hidden-states"),
    ):
        config = config_of(f"contexts.rule={rule}", "contexts.answer=neuron-medoid")
        with opened(tmp_path / rule, config, free=True) as run:
            prepare_run(run, ScriptedModel(REPLIES), FREE)
            tokens = run.directory.manifest.facts["tokens"]
        assert set(tokens) == {"rollouts", "medoids", name}
        assert tokens[name] == prompts
        # Each question with " yes\n" and " no\n", which it drew both.
        assert tokens["medoids"] == 2 * prompts + 12 * (5 + 4)


def test_too_few_with_the_same_answer_are_told(tmp_path: Path) -> None:
    config = config_of("contexts.rule=same-answer", "contexts.num_demonstrations=5")
    with opened(tmp_path, config, free=True) as run:
        found = prepare_run(run, ScriptedModel(REPLIES), FREE)
        warnings = run.directory.warnings
    own = {name: one.answer for name, one in found.representatives.items()}
    assert own == {}  # a run lets go of them
    filled = {
        one.question_id: sum(d.reason.endswith(FILLED) for d in one.demonstrations)
        for one in found.contexts
    }
    # Four answer no, and have three others; eight answer yes, and have seven.
    assert filled == {f"q{n}": 0 if n % 3 else 2 for n in range(12)}
    for context in found.contexts:
        answers = [one.answer for one in context.demonstrations]
        alike = answers[filled[context.question_id] :]
        # Those with its answer stand last, so that they are left out last.
        assert set(alike) == {"yes" if int(context.question_id[1:]) % 3 else "no"}
    assert warnings[-1] == (
        "4 of 12 questions share their own answer with too few others of the pool: 8 "
        "of their demonstrations were drawn at random from those with other answers "
        "(contexts.rule is same-answer)"
    )


def test_the_same_answer_is_the_one_that_is_written(tmp_path: Path) -> None:
    """Of choices with letters that is the letter, whatever text stands behind it."""
    pool = [
        replace(question, choices=(f"left {n}", f"right {n}"))
        for n, question in enumerate(POOL)
    ]
    replies = {
        f"Is {name} odd?": ["A" if n % 2 else "B"] for n, name in enumerate(NAMES)
    }
    config = config_of("contexts.rule=same-answer", "prompts.list_choices=letters")
    with opened(tmp_path, config, free=False) as run:
        found = prepare_run(run, ScriptedModel(replies), pool)
        warnings = run.directory.warnings
    assert not any("share their own answer" in text for text in warnings)
    for context in found.contexts:
        mine = "A" if int(context.question_id[1:]) % 2 else "B"
        assert {one.answer for one in context.demonstrations} == {mine}


def test_the_fixed_set_is_one_for_all_and_leaves_out_the_question(
    tmp_path: Path,
) -> None:
    config = config_of("contexts.rule=fixed", "contexts.num_demonstrations=3")
    found = prepared(tmp_path, ScriptedModel(REPLIES), config)
    sets = [tuple(d.question_id for d in c.demonstrations) for c in found.contexts]
    usual = max(set(sets), key=sets.count)
    assert sets.count(usual) == 12 - 3
    for context, own in zip(found.contexts, sets, strict=True):
        assert context.question_id not in own
        assert (own == usual) == (context.question_id not in usual)
    assert {one.answer for one in found.contexts[3].demonstrations} == {"yes", "no"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_a_whole_run_with_every_rule(
    rule: str, kind: str, tmp_path: Path, tiny_llama: Path, tiny_llama_plain: Path
) -> None:
    """Choices in plain form, free answers in a chat."""
    model = tiny_llama_plain if kind == "choices" else tiny_llama
    config = tiny_config(model, f"contexts.rule={rule}", "distill.steps=2")
    run = tiny_run(tiny_request(tmp_path, kind=kind), config)
    contexts = read_json(run.folder / "contexts.json")
    assert len(contexts) >= 10
    for context in contexts:
        shown = [one["question_id"] for one in context["demonstrations"]]
        assert len({*shown, context["question_id"]}) == 3
        assert all(one["reason"] for one in context["demonstrations"])
    for test in run.data.tests:
        assert "prompted" in test.controls or not test.in_domain
    manifest = read_json(run.folder / "manifest.json")
    reads = CONTEXT_RULES[rule].reads
    made = {name for name in manifest["outputs"] if name.startswith("tests/")}
    for signal, name in (
        (Signal.QUESTION_NEURONS, "question-neurons"),
        (Signal.HIDDEN_STATES, "hidden-states"),
        (Signal.ANSWER_NEURONS, "neurons"),
    ):
        assert any(one.endswith(f"/{name}") for one in made) == (signal in reads)
    page = unescape((run.folder / "report.html").read_text("utf-8"))
    assert CONTEXT_RULES[rule].help in page


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("free", ("contexts.rule=question-neurons", "contexts.answer=neuron-medoid")),
        ("choices", ("contexts.rule=hidden-state", "contexts.answer=neuron-medoid")),
        ("choices", ("contexts.rule=same-answer",)),
    ],
)
def test_a_run_with_them_repeats_to_the_byte(
    kind: str, told: tuple[str, ...], tmp_path: Path, tiny_llama: Path
) -> None:
    config = tiny_config(tiny_llama, "distill.steps=2", *told)
    runs = [
        tiny_run(tiny_request(tmp_path, name, kind=kind), config)
        for name in ("one", "two")
    ]
    one, two = (run.folder for run in runs)
    assert outcome_of(one) == outcome_of(two)
    names = ["contexts.json"]
    names += ["medoids.json"] * ("contexts.answer=neuron-medoid" in told)
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
