"""The model card: what it holds, and that no text can break out of it."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_opsd.config.tables import config_from_table
from neuron_opsd.report.card import Publication, code, prose, render_card
from neuron_opsd.report.measures import METRIC_KINDS
from neuron_opsd.report.run_page import method_notes
from report_examples import example_report

HOSTILE = (
    'x"\n---\nlicense: mit\n<script>alert(1)</script> [a](http://evil.example) '
    "![b](//evil) | `c` \x1b[31m\u202e\u2028\u0085 # h"
)

FIELDS = {
    *("base_model", "base_model_relation", "library_name", "model-index"),
    *("pipeline_tag", "tags"),
}
"""What the front matter has where neither licence nor datasets are known."""


def split(card: str) -> tuple[dict[str, object], str]:
    """Return the front matter as YAML reads it, and the rest."""
    _, front, body = card.split("---\n", 2)
    loaded = yaml.safe_load(front)
    assert isinstance(loaded, dict)
    return loaded, body


def test_the_card_says_what_was_measured_and_how_to_load_it() -> None:
    front, body = split(render_card(example_report(), "org/base-135M"))
    assert front["base_model"] == "org/base-135M"
    assert front["library_name"] == "peft"
    assert "license" not in front
    assert "| sst2 (in-domain) | 69.1 % | 70.3 % | 75.1 % | 73.8 % | 78.3 % |" in body
    assert 'AutoModelForCausalLM.from_pretrained("org/base-135M")' in body
    assert "SHA-256 of pool: `9f86d081" in body
    assert "The teacher gives one answer to 61 % of the questions." in body


def test_full_tuning_is_loaded_without_peft() -> None:
    config = config_from_table({"distill": {"tuning": "full"}})
    front, body = split(render_card(replace(example_report(), config=config), "a/b"))
    assert front["library_name"] == "transformers"
    assert "PeftModel" not in body


@pytest.mark.parametrize(
    ("contexts", "said"),
    [
        ({"num_demonstrations": 0}, "without any demonstrations"),
        ({"rule": "random"}, "other questions, drawn at random, and its own"),
        ({"rule": "words"}, "other questions, nearest by their words (BM25), and"),
        ({"rule": "nearest"}, "nearest by the overlap of their neurons, and"),
    ],
)
def test_the_card_says_what_the_teacher_saw(
    contexts: dict[str, object], said: str
) -> None:
    config = config_from_table({"contexts": contexts})
    assert said in render_card(replace(example_report(), config=config), "a/b")


def test_another_method_is_called_by_its_name() -> None:
    data = example_report()
    config = data.config.model_copy(update={"method": "lmsi"})
    card = render_card(
        replace(data, config=config, method_summary="imitates the vote"), "a/b"
    )
    assert "by `lmsi` (imitates the vote) on" in card
    assert "self-distillation" not in card
    assert dict(method_notes(replace(data, config=config)))["Training"].startswith(
        "By lmsi: "
    )


def test_without_test_sets_the_card_says_so() -> None:
    card = render_card(replace(example_report(), tests=()), "a/b")
    assert "No test set was given." in card


def test_hostile_names_change_neither_front_matter_nor_table() -> None:
    data = example_report()
    tests = tuple(replace(test, name=HOSTILE) for test in data.tests)
    bad = replace(
        data,
        title=HOSTILE,
        tests=tests,
        command=HOSTILE,
        versions={HOSTILE: HOSTILE},
        warnings=(HOSTILE,),
    )
    card = render_card(bad, HOSTILE)
    front, body = split(card)
    assert set(front) == FIELDS
    assert "<script" not in prose(HOSTILE)
    assert "\n---" not in body
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", body, flags=re.DOTALL)
    assert "](http" not in outside_code.replace("\\](", "")
    assert "://" not in outside_code
    assert "\x1b" not in card
    assert "\u202e" not in card
    table = [line for line in body.splitlines() if line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_name_survives_the_front_matter_on_one_line(name: str) -> None:
    report = replace(example_report(), tests=())
    loaded, _ = split(render_card(report, name))
    assert set(loaded) == FIELDS - {"model-index"}
    assert isinstance(loaded["base_model"], str)


@given(st.text())
def test_prose_and_code_stay_on_one_line(text: str) -> None:
    assert "\n" not in prose(text)
    assert "<" not in prose(text)
    assert code(text).count("`") in (0, 2)


def card_data(card: str) -> ModelCardData:
    """Return the front matter as the hub's own class reads it."""
    found = ModelCard(card).data
    assert isinstance(found, ModelCardData)
    return found


def test_the_hubs_class_reads_every_measure_with_its_interval() -> None:
    report = example_report()
    found = card_data(render_card(report, "org/base"))
    assert found.base_model == "org/base"
    assert isinstance(found.eval_results, list)
    expected = {
        (test.name, kind.name)
        for test in report.tests
        for kind in METRIC_KINDS
        if kind.name == "top_answer_share"
        or math.isfinite(test.after.metrics.get(kind.name, math.nan))
    }
    assert len(found.eval_results) == len(expected) > len(report.tests)
    by_name = {(one.dataset_name, one.metric_name): one for one in found.eval_results}
    for test in report.tests:
        one: EvalResult = by_name[test.name, "Avg@8, mean accuracy"]
        delta = test.delta["avg_at_k"]
        assert one.metric_type == "accuracy"
        assert one.metric_value == pytest.approx(
            test.after.metrics["avg_at_k"], abs=1e-6
        )
        assert one.metric_args is not None
        assert one.metric_args["before"] == pytest.approx(
            test.before.metrics["avg_at_k"], abs=1e-6
        )
        assert one.metric_args["difference"] == {
            "value": round(delta.value, 6),
            "ci_95": [round(delta.low, 6), round(delta.high, 6)],
        }
        assert one.dataset_args == {"num_questions": test.num_questions}


def test_reading_and_writing_the_front_matter_changes_nothing() -> None:
    card = render_card(example_report(), "org/base")
    assert card_data(str(ModelCard(card))).to_yaml() == card_data(card).to_yaml()


def test_a_publication_adds_what_only_its_author_knows() -> None:
    report = example_report()
    name = report.tests[0].name
    public = Publication(
        "alice/better",
        "apache-2.0",
        {"pool": "org/pool:train", name: "org/exam:hard:test"},
    )
    card = render_card(report, "org/base", public=public)
    found = card_data(card)
    assert found.datasets == ["org/pool"]
    assert found.license == "apache-2.0"
    assert found.eval_results is not None
    places = {
        one.dataset_name: (one.dataset_type, one.dataset_config, one.dataset_split)
        for one in found.eval_results
    }
    assert places[name] == ("org/exam", "hard", "test")
    assert 'PeftModel.from_pretrained(base, "alice/better")' in card
    assert "in the folder of this card" not in card


def test_a_dataset_of_the_run_is_named() -> None:
    report = replace(example_report(), datasets={"pool": "org/pool"})
    assert card_data(render_card(report, "org/base")).datasets == ["org/pool"]
