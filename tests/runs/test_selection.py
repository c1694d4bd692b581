"""Selection in a run directory: what each rule asks for, finds, keeps and shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from neuron_opsd.beliefs import BELIEFS, DIVERGENCES, POOL_CONTEXTS
from neuron_opsd.comparison.compare import compare
from neuron_opsd.comparison.comparison import Comparison
from neuron_opsd.comparison.run_group import outputs_for
from neuron_opsd.comparison.variants import parse_variant
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.selection import SELECTION_RULES, kept_ids
from neuron_opsd.pipeline import Prepared
from neuron_opsd.progress import Silent
from neuron_opsd.records import Message, Pair, Question, TokenIds
from neuron_opsd.results.comparison import BASE
from neuron_opsd.runs.context import RunContext, resolve
from neuron_opsd.runs.prepare import prepare_run
from neuron_opsd.runs.preview import preview
from neuron_opsd.runs.resolution import with_method
from neuron_opsd.storage.codecs import BELIEFS as BELIEF_CODEC
from neuron_opsd.storage.manifest import read_manifest
from neuron_opsd.storage.run_directory import RunDirectory
from resolved import sampled_among_choices, written_freely
from scripted import ScriptedModel
from tiny_runs import (
    FinishedRun,
    parity_rows,
    pool_rows,
    tiny_config,
    tiny_request,
    tiny_run,
    write_rows,
)

NAMES = [f"thing {n}" for n in range(12)]
POOL = tuple(
    Question(f"q{n}", (Message("user", f"Is {name} odd?"),), ("yes", "no"))
    for n, name in enumerate(NAMES)
)
FREE = tuple(replace(question, choices=()) for question in POOL)
NEW = [
    *("length-free", "k-medoids", "low-entropy", "high-vote", "belief-shift"),
    *("divergence", "reliable-and-teachable"),
]
TAUGHT = [name for name, rule in SELECTION_RULES.items() if rule.reads_teacher]

MOVED = ("thing 3", "thing 7")
"""Things that the teacher answers otherwise than the student does."""


def script() -> dict[str, list[str]]:
    """Return a student who says yes three times in four, and is moved twice."""
    usual = ["yes", "yes", "yes", "no"]
    replies: dict[str, list[str]] = {}
    for name in NAMES:
        moved = ["no", "no", "no", "yes"] if name in MOVED else usual
        # The first of two parts that end alike counts.
        replies[f"\n\nQuestion: Is {name} odd?"] = moved
        replies[f"Is {name} odd?"] = usual
    return replies


def config_of(*assignments: str) -> Config:
    return load_config(
        None,
        [
            "prompts.form=plain",
            "rollouts.num_samples=4",
            "rollouts.block_size=5",
            "contexts.num_demonstrations=2",
            "contexts.rule=random",
            "neurons.per_layer=4",
            "neurons.keep=6",
            "evaluation.prompted=false",
            "teacher_check.action=off",
            "selection.keep_fraction=0.16",
            *assignments,
        ],
    )


@contextmanager
def opened(folder: Path, config: Config, *, free: bool) -> Iterator[RunContext]:
    progress = Silent()
    with RunDirectory.open(folder, {}, {}, warn=progress.warn) as run:
        mode = written_freely if free else sampled_among_choices
        yield RunContext(run, mode(config), progress)


def prepared(
    folder: Path, model: ScriptedModel, config: Config, *, free: bool = False
) -> Prepared:
    with opened(folder, config, free=free) as run:
        return prepare_run(run, model, FREE if free else POOL)


def outputs(folder: Path) -> set[str]:
    return set(read_manifest(folder).outputs)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_nothing_is_computed_that_no_rule_asks_for(
    tmp_path: Path, rule: str, free: bool
) -> None:
    config, entry = config_of(f"selection.rule={rule}"), SELECTION_RULES[rule]
    found = prepared(tmp_path, ScriptedModel(script()), config, free=free)
    made = outputs(tmp_path)
    assert ("neurons" in made) == entry.reads_neurons
    assert (POOL_CONTEXTS in made) == entry.reads_teacher
    both = rule == "divergence" and free
    assert (DIVERGENCES in made) == both
    assert (BELIEFS in made) == (entry.reads_teacher and not both)
    kept = kept_ids(found.selection)
    assert len(kept) == (12 if entry.keeps_all else 2)
    silent = ScriptedModel({})  # raises a KeyError if it is asked anything
    again = prepared(tmp_path, silent, config, free=free)
    assert again.selection == found.selection
    assert again.examples == found.examples


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("rule", TAUGHT)
def test_what_the_teacher_changes_is_selected(
    tmp_path: Path, rule: str, free: bool
) -> None:
    config = config_of(f"selection.rule={rule}")
    found = prepared(tmp_path, ScriptedModel(script()), config, free=free)
    assert kept_ids(found.selection) == {"q3", "q7"}
    reasons = {e.question_id: e.reason for e in found.selection}
    if rule == "belief-shift":
        assert reasons["q3"].startswith("0.131 nats between its answers with and")
        assert reasons["q0"].startswith("0 nats between")


class Stopping(ScriptedModel):
    """Is stopped after it scored some questions with demonstrations before them."""

    def __init__(self, left: int) -> None:
        super().__init__(script())
        self.left = left
        self.taught: list[str] = []

    def logits_at(
        self, pairs: Sequence[Pair], columns: Sequence[Sequence[TokenIds]]
    ) -> list[list[NDArray[np.float32]]]:
        """Score, unless it is stopped."""
        for prompt, _ in pairs:
            text = bytes(prompt).decode()
            if "\n\nQuestion" in text:
                if not self.left:
                    raise KeyboardInterrupt
                self.left -= 1
                self.taught.append(text.rpartition("Is ")[2].partition(" odd")[0])
        return super().logits_at(pairs, columns)


def test_beliefs_that_were_stopped_go_on(tmp_path: Path) -> None:
    config = config_of("selection.rule=belief-shift")
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, Stopping(7), config)
    later = Stopping(99)
    found = prepared(tmp_path, later, config)
    assert later.taught[0] == "thing 5"  # the first block of five was kept
    assert len(later.taught) == 7
    assert kept_ids(found.selection) == {"q3", "q7"}
    (tmp_path / "whole").mkdir()
    whole = prepared(tmp_path / "whole", ScriptedModel(script()), config)
    assert whole.selection == found.selection
    kept = [
        BELIEF_CODEC.load(folder / "beliefs.json")
        for folder in (tmp_path, tmp_path / "whole")
    ]
    assert kept[0] == kept[1]
    assert [belief.question_id for belief in kept[0]] == [q.id for q in POOL]


def test_other_demonstrations_are_another_belief(tmp_path: Path) -> None:
    one = config_of("selection.rule=belief-shift")
    prepared(tmp_path, ScriptedModel(script()), one)
    before = (tmp_path / "pool-contexts.json").read_bytes()
    # No demonstration's answer is repeated in the file for the whole pool.
    assert b'"answer":""' in before.replace(b" ", b"")
    assert b'"answer":"yes"' not in before.replace(b" ", b"")


def test_a_question_without_a_readable_sample_is_left_out_and_said(
    tmp_path: Path,
) -> None:
    replies = script() | {"Is thing 5 odd?": ["...", "..."]}
    config = config_of("selection.rule=belief-shift", "selection.include_unread=true")
    found = prepared(tmp_path, ScriptedModel(replies), config, free=True)
    (lost,) = [e for e in found.selection if e.question_id == "q5"]
    assert lost.reason == (
        "left out: none of its samples holds an answer that can be read"
    )
    assert lost.rank == 11


def test_one_question_is_previewed_without_asking_all_of_them_twice(
    tmp_path: Path, tiny_llama_plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr("neuron_opsd.beliefs.believe", refuse)
    request = tiny_request(tmp_path)
    config = tiny_config(tiny_llama_plain, "selection.rule=belief-shift")
    assert preview(request.pool, None, config, Silent()).demonstrations == 2


REFUSED = {
    "the teacher sees nothing": (
        ["selection.rule=belief-shift", "contexts.num_demonstrations=0"],
        "selection.rule=belief-shift compares what the model answers with "
        "demonstrations and without, but contexts.num_demonstrations is 0 for "
        "neuron-opsd; set it to at least 1, or choose another rule",
    ),
    "a method without demonstrations": (
        ["method=ema-only", "selection.rule=divergence"],
        "but contexts.num_demonstrations is 0 for ema-only",
    ),
    "demonstrations come from the selection": (
        ["selection.rule=divergence", "contexts.source=selected"],
        "selection.rule=divergence shows the whole pool to the teacher before any "
        "question is selected, but contexts.source is selected; set it to pool, or "
        "choose another rule",
    ),
    "one sample has no vote": (
        ["selection.rule=high-vote", "rollouts.num_samples=1"],
        "selection.rule=high-vote compares the answers of a question's samples, but "
        "rollouts.num_samples is 1; set it to at least 2, or choose another rule",
    ),
    "one free sample has no belief": (
        ["selection.rule=belief-shift", "rollouts.num_samples=1", "rollouts.mode=free"],
        "rollouts.num_samples is 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_rule_cannot_be_read_for_is_refused_early(case: str) -> None:
    assignments, text = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        with_method(load_config(None, assignments))
    assert text in str(caught.value)


def test_one_sample_is_enough_among_choices_and_not_where_the_model_is_large() -> None:
    given = with_method(
        load_config(
            None,
            [
                "selection.rule=belief-shift",
                "rollouts.num_samples=1",
                "prompts.form=plain",
            ],
        )
    )
    small = ScriptedModel({})
    assert resolve(given, small).rollouts.mode == "constrained"
    large = ScriptedModel({}, replace(small.facts, num_parameters=4_000_000_000))
    with pytest.raises(ConfigError, match=r"rollouts\.num_samples is 1"):
        resolve(given, large)


# --- whole runs ---

RUNS = [(rule, "choices") for rule in NEW] + [(rule, "free") for rule in TAUGHT]


@pytest.mark.parametrize(("rule", "kind"), RUNS)
def test_a_run_selects_trains_and_reports_by_each_rule(
    tmp_path: Path, tiny_llama_plain: Path, rule: str, kind: str
) -> None:
    short = ["distill.steps=1", "evaluation.num_samples=2", f"selection.rule={rule}"]
    config = tiny_config(tiny_llama_plain, *short, "teacher_check.action=off")
    done = tiny_run(tiny_request(tmp_path, kind=kind), config)
    assert (done.folder / "adapter" / "adapter_model.safetensors").is_file()
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert SELECTION_RULES[rule].help in page
    check_tokens(done, rule, kind)


def check_tokens(done: FinishedRun, rule: str, kind: str) -> None:
    """Look at what was counted as read for the rule."""
    tokens = read_manifest(done.folder).facts["tokens"]
    if not SELECTION_RULES[rule].reads_teacher:
        assert not {BELIEFS, DIVERGENCES} & tokens.keys()
    else:
        name = DIVERGENCES if (rule, kind) == ("divergence", "free") else BELIEFS
        assert tokens[name] > 0


def test_methods_whose_contexts_agree_share_what_the_teacher_says(
    tmp_path: Path, tiny_llama_plain: Path
) -> None:
    path = str(write_rows(tmp_path / "pool.jsonl", pool_rows("choices")))
    exam = str(write_rows(tmp_path / "exam.jsonl", parity_rows(range(100, 104), "a")))
    methods = (
        "shift=neuron-opsd:selection.rule=belief-shift",
        "far=neuron-opsd:selection.rule=divergence",
        "apart=neuron-opsd:selection.rule=belief-shift,contexts.rule=random",
    )
    wanted = Comparison(
        sources={"parity": path},
        tests={"parity": exam},
        variants=tuple(map(parse_variant, methods)),
        num_seeds=1,
        starts=(BASE,),
        out=tmp_path / "out",
        command="a command",
    )
    few = ["distill.steps=1", "evaluation.num_resamples=40"]
    config = tiny_config(tiny_llama_plain, *few, "contexts.answer=first")
    data = compare(wanted, config, Silent())
    assert data.failures == ()
    group = tmp_path / "out" / "blocks" / "parity" / "seed-0" / "base"
    names = {path.name for path in group.glob("beliefs*.json")}
    assert names == {"beliefs.json", "beliefs-rule-random.json"}
    assert {path.name for path in group.glob("pool-contexts*.json")} == {
        "pool-contexts.json",
        "pool-contexts-rule-random.json",
    }


def test_what_changes_the_teacher_changes_the_name() -> None:
    shared = load_config(None, ["contexts.rule=nearest"])

    def suffix(*assignments: str) -> str:
        own = load_config(None, ["contexts.rule=nearest", *assignments])
        return outputs_for(shared, own).taught

    assert suffix("selection.rule=divergence", "distill.learning_rate=0.1") == ""
    assert suffix("contexts.num_demonstrations=3") == "-num_demonstrations-3"
    assert suffix("neurons.value=gated") == "-value-gated"
    assert suffix("neurons.value=gated", "contexts.rule=random") == "-rule-random"
    assert suffix("distill.max_new_tokens=4096") == "-max_new_tokens-4096"
