"""What a run is made from, and by what it knows it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuron_opsd.config import Config, ModelConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.models.weights import precision
from neuron_opsd.records import GoldAnswers
from neuron_opsd.runs import inputs
from neuron_opsd.runs.context import TestSet
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import (
    LIMITS,
    environment,
    in_domain_name,
    questions_hash,
    read_inputs,
    read_tests,
    run_settings,
    test_hash,
)
from tiny import tiny_model
from tiny_runs import (
    parity_rows,
    pool_rows,
    tiny_request,
    with_wrong_answers,
    without_answers,
    write_rows,
)

test_hash.__test__ = False  # type: ignore[attr-defined]

CONFIG = load_config(None, ["contexts.num_demonstrations=2"])


def test_pool_and_tests_are_read_in_the_order_given(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    inputs = read_inputs(request.pool, request.tests, CONFIG)
    assert [question.id for question in inputs.pool] == [f"p{n}" for n in range(20)]
    parity, sums = inputs.tests
    assert (parity.name, parity.in_domain) == ("parity", True)
    assert (sums.name, sums.in_domain) == ("sums", False)
    assert parity.gold.answer_of["a101"] == "odd"
    assert set(inputs.hashes) == {"pool", "parity", "sums"}


@pytest.mark.parametrize("change", [without_answers, with_wrong_answers])
def test_answers_of_the_pool_leave_no_trace(tmp_path: Path, change: object) -> None:
    assert callable(change)
    request = tiny_request(tmp_path)
    inputs = read_inputs(request.pool, request.tests, CONFIG)
    write_rows(Path(request.pool), change(pool_rows("choices")))
    assert read_inputs(request.pool, request.tests, CONFIG) == inputs


def test_a_hash_tells_every_change_of_what_is_asked(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    pool = read_inputs(request.pool, request.tests, CONFIG).pool
    first = pool[0]
    changes = [
        pool[:-1],
        pool[::-1],
        (replace(first, id="other"), *pool[1:]),
        (replace(first, choices=("even", "odd")), *pool[1:]),
        (replace(first, question_label="Q"), *pool[1:]),
        (replace(first, answer_label="Q"), *pool[1:]),
        (replace(first, messages=(*first.messages, *first.messages)), *pool[1:]),
    ]
    hashes = {questions_hash(one) for one in (pool, *changes)}
    assert len(hashes) == 1 + len(changes)


def test_a_test_sets_hash_tells_its_gold_answers() -> None:
    one = TestSet("t", (), GoldAnswers({"a": "x", "b": "y"}), in_domain=True)
    turned = replace(one, gold=GoldAnswers({"b": "y", "a": "x"}))
    other = replace(one, gold=GoldAnswers({"a": "x", "b": "z"}))
    assert test_hash(one) == test_hash(turned) != test_hash(other)


def test_a_pool_must_hold_one_question_more_than_demonstrations(
    tmp_path: Path,
) -> None:
    request = tiny_request(tmp_path)
    write_rows(Path(request.pool), parity_rows(range(3)))
    assert len(read_inputs(request.pool, request.tests, CONFIG).pool) == 3
    more = load_config(None, ["contexts.num_demonstrations=3"])
    with pytest.raises(DataError, match=r"is 3, but .* holds only 3 questions"):
        read_inputs(request.pool, request.tests, more)


def test_questions_without_an_answer_are_counted(tmp_path: Path) -> None:
    rows = parity_rows(range(4))
    path = write_rows(tmp_path / "t.jsonl", [rows[0], *without_answers(rows[1:])])
    with pytest.raises(
        DataError, match=r"3 of 4 questions have no answer, first p1 \(line 2\);"
    ):
        read_tests({"t": str(path)}, "t", CONFIG)


def test_the_first_set_is_in_domain_unless_another_is_named() -> None:
    tests = {"a": "x", "b": "y"}
    assert in_domain_name(tests, Config()) == "a"
    assert in_domain_name(tests, load_config(None, ["evaluation.in_domain=b"])) == "b"
    with pytest.raises(ConfigError, match="is 'c', but the test sets are a, b"):
        in_domain_name(tests, load_config(None, ["evaluation.in_domain=c"]))


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "ä", "x" * 65])
def test_a_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a test set; use up to 64"):
        in_domain_name({name: "x"}, Config())


def test_without_test_sets_no_domain_has_a_name() -> None:
    assert in_domain_name({}, Config()) == ""
    with pytest.raises(ConfigError, match="is 'c', but the test sets are none"):
        in_domain_name({}, load_config(None, ["evaluation.in_domain=c"]))


def test_a_model_is_known_by_its_weights(tmp_path: Path) -> None:
    def fingerprint(name: str) -> str:
        return model_fingerprint(ModelConfig(name=name))

    one = tiny_model(tmp_path / "one")
    same = tiny_model(tmp_path / "same")
    other = tiny_model(tmp_path / "other", seed=1)
    assert fingerprint(str(one)) == fingerprint(str(same)) != fingerprint(str(other))
    assert fingerprint("hub/id") == "hub/id@main"


def test_every_setting_is_one_that_the_run_depends_on() -> None:
    settings = run_settings(CONFIG)
    assert settings["seed"] == 0
    assert settings["contexts.num_demonstrations"] == 2


def test_the_machine_is_described_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = environment(ModelConfig())
    assert set(found) == {
        *("threads", "device", "cpu", "processor", "vectors", "limits", "precision"),
    }
    assert all(found.values())


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_the_precision_that_a_machine_chose_is_told(
    monkeypatch: pytest.MonkeyPatch, compute: str
) -> None:
    halves = compute == "bfloat16"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"amx_bf16": halves}, raising=False
    )
    monkeypatch.setattr(precision, "halves_serve", lambda _device: True)
    assert environment(ModelConfig())["precision"] == compute
    assert environment(ModelConfig(compute="float32"))["precision"] == "float32"


def test_a_gpu_is_told_with_what_drives_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = tmp_path / "version"
    driver.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release "
        "Build  (builder@host)  Thu Jan 23 22:50:36 UTC 2025\nGCC version: gcc 12.3.0\n"
    )
    monkeypatch.setattr(inputs, "NVIDIA_DRIVER", driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    found = environment(ModelConfig())
    told = [found[name] for name in ("device", "cuda", "driver")]
    assert told == ["NVIDIA H200", "12.8", "570.86.15"]
    driver.unlink()
    assert environment(ModelConfig())["driver"] == "unknown"


def test_what_limits_the_arithmetic_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert environment(ModelConfig())["limits"] == "none"
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert (
        environment(ModelConfig())["limits"]
        == "ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2"
    )
