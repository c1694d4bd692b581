"""Methods that read no neurons, on models that have none to read, and on others."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
)

from loaded import learning, loaded, plain_logits, plain_network, random_pairs
from neuron_opsd.analysis.analyse import analyse
from neuron_opsd.cli import main
from neuron_opsd.comparison.compare import compare
from neuron_opsd.comparison.forecast import forecast
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, DataError, ModelError
from neuron_opsd.methods import METHODS, Oracle, needs_neurons
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.planning.estimate import estimate
from neuron_opsd.progress import Silent
from neuron_opsd.runs.completions import extract_neurons
from neuron_opsd.runs.preview import preview
from neuron_opsd.runs.resolution import with_method
from tests.comparison.test_grid import comparison
from tiny import fill, tiny_tokenizer
from tiny_runs import FinishedRun, read_json, tiny_config, tiny_request, tiny_run

NO_NEURONS = "a gpt2 model keeps its layers where neurons cannot be read"

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, Callable[..., PreTrainedConfig]] = {
    "gpt_neox": lambda **own: GPTNeoXConfig(**SMALL, **own),
    "opt": lambda **own: OPTConfig(
        **SMALL, ffn_dim=48, word_embed_proj_dim=16, do_layer_norm_before=False, **own
    ),
    "phi3": lambda **own: Phi3Config(**SMALL, num_key_value_heads=2, **own),
    "mixtral": lambda **own: MixtralConfig(
        **SMALL, num_key_value_heads=2, num_local_experts=2, **own
    ),
}


def without_neurons(family: str, folder: Path) -> Path:
    """Write a tiny model of a family without gated MLPs of a readable form."""
    tokenizer = tiny_tokenizer()
    config = FAMILIES[family](
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config)
    fill(model, 0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def moved(learner: HFLearner) -> HFLearner:
    """Return a learner whose trained weights are others than at the beginning."""
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.weights.values():
            weight.add_(torch.randn(weight.shape, generator=gen) * 0.05)
    return learner


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path) -> FinishedRun:
    """Give a run of a method without neurons on a model without any."""
    folder = tmp_path_factory.mktemp("gpt2-run")
    return tiny_run(tiny_request(folder), tiny_config(tiny_gpt2, "method=lmsi"))


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ((), True),
        (("selection.rule=all",), True),
        (("selection.rule=random", "contexts.rule=words"), False),
        (("selection.rule=most-neurons", "contexts.rule=random"), True),
        (("selection.rule=all", "contexts.num_demonstrations=0"), False),
        (("contexts.num_demonstrations=0",), True),
    ],
)
def test_settings_say_whether_neurons_are_needed(
    settings: tuple[str, ...], needed: bool
) -> None:
    assert needs_neurons(load_config(None, settings)) is needed


def test_methods_that_read_no_neurons_are_these() -> None:
    reading = {
        name
        for name, method in METHODS.items()
        if not issubclass(method, Oracle)
        and needs_neurons(with_method(load_config(None, [f"method={name}"])))
    }
    assert reading == {"neuron-opsd", "ema-only", "context-sft", "form-only"}


def test_gpt2_is_loaded_and_says_why_its_neurons_are_not_read(tiny_gpt2: Path) -> None:
    model = loaded(tiny_gpt2)
    assert model.facts.why_no_neurons.startswith(NO_NEURONS)
    assert (model.facts.num_layers, model.facts.num_neurons) == (2, 0)
    with pytest.raises(ModelError, match=NO_NEURONS):
        model.capture([((1,), (2,))], "gate", lambda *_: None)


def test_the_logits_of_gpt2_are_those_of_transformers(tiny_gpt2: Path) -> None:
    model = loaded(tiny_gpt2)
    ((prompt, completion),) = random_pairs([(5, 4)], model.facts.vocab_size)
    wanted = plain_logits(plain_network(tiny_gpt2), prompt + completion)
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        found = model.network(input_ids=ids).logits[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_an_adapter_of_gpt2_is_the_model_that_was_trained(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    # Its square and its oblong matrices are kept transposed.
    learner = moved(learning(tiny_gpt2))
    learner.save_adapter(tmp_path)
    pairs = random_pairs([(5, 4)], learner.facts.vocab_size)
    tokens = pairs[0][0] + pairs[0][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = PeftModel.from_pretrained(plain_network(tiny_gpt2), str(tmp_path))
    wanted = plain_logits(plain.eval(), tokens)[4:8]
    untrained = plain_logits(plain_network(tiny_gpt2), tokens)[4:8]
    head = learner.head().weight
    with torch.no_grad():
        student = learner.student(pairs).hidden @ head.T
        merged = learner.states(pairs) @ head.T
        saved = loaded(tiny_gpt2, tmp_path).states(pairs) @ head.T
    assert (wanted - untrained).abs().max() > 0.1
    for found in (student, merged, saved):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_whole_gpt2_is_saved_as_transformers_reads_it(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    learner = moved(learning(tiny_gpt2, tuning="full"))
    learner.save_adapter(tmp_path)
    pairs = random_pairs([(5, 4)], learner.facts.vocab_size)
    wanted = plain_logits(plain_network(tmp_path), pairs[0][0] + pairs[0][1])[4:8]
    with torch.no_grad():
        found = learner.student(pairs).hidden @ learner.head().weight.T
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_without_readable_neurons_are_trained(
    family: str, tmp_path: Path
) -> None:
    model = without_neurons(family, tmp_path / "model")
    assert loaded(model).facts.why_no_neurons
    request = tiny_request(tmp_path)
    run = tiny_run(request, tiny_config(model, "method=ttrl", "distill.steps=2"))
    assert run.data.training is not None
    assert run.data.training.num_steps == 2
    pairs = random_pairs([(5, 4)], 200)
    learner = moved(learning(model))
    learner.save_adapter(tmp_path / "moved")
    saved = loaded(model, tmp_path / "moved").states(pairs)
    with torch.no_grad():
        found = learner.student(pairs).hidden
    assert (found - loaded(model).states(pairs)).abs().max() > 0.01
    torch.testing.assert_close(saved, found, atol=1e-4, rtol=1e-4)


def test_a_run_without_neurons_keeps_none_and_says_so(finished: FinishedRun) -> None:
    assert not {"neurons.parquet", "neurons"} & files_in(finished.folder)
    selection = read_json(finished.folder / "selection.json")
    assert {entry["neuron_count"] for entry in selection} == {None}
    page = (finished.folder / "report.html").read_text("utf-8")
    assert "None were read: neither selection nor demonstrations use them." in page
    assert "neurons counted" not in page
    assert "few activated neurons" not in page
    assert "of 0 neurons" not in page


def test_demonstrations_without_neurons_have_no_distance(finished: FinishedRun) -> None:
    request = tiny_request(finished.folder.parent, "random")
    config = tiny_config(Path(finished.config.model.name), "method=random-opsd")
    run = tiny_run(request, config)
    shown = [
        one["distance"]
        for context in read_json(run.folder / "contexts.json")
        for one in context["demonstrations"]
    ]
    assert set(shown) == {None}
    assert run.data.tests[0].controls["prompted"].metrics
    assert "Jaccard" not in (run.folder / "selection.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ttrl", ["contexts.num_demonstrations=0", "distill.steps=1"]),
        ("random-opsd", ["distill.steps=1"]),
    ],
)
def test_no_pass_is_spent_on_neurons_that_nobody_asks_for(
    tiny_llama_plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    settings: list[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("neurons were read")

    monkeypatch.setattr("neuron_opsd.models.hf.HFModel.capture", fail)
    config = tiny_config(tiny_llama_plain, f"method={method}", *settings)
    request = tiny_request(tmp_path)
    tiny_run(request, config)
    names = {stage.name for stage in plan_of(request.pool, config).stages}
    assert "neurons" not in names
    assert preview(request.pool, None, config, Silent()).completion_example


def plan_of(pool: str, config: Config) -> Any:
    """Return the plan of a run without tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return estimate(pool, {}, config, Silent())


def test_who_needs_neurons_is_refused_before_anything_is_computed(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    request, config = tiny_request(tmp_path), tiny_config(tiny_gpt2)
    calls: list[Callable[[], object]] = [
        lambda: tiny_run(request, config),
        lambda: estimate(request.pool, {}, config, Silent()),
        lambda: preview(request.pool, None, config, Silent()),
        lambda: compare(comparison(tmp_path, "neuron-opsd"), config, Silent()),
        lambda: forecast(comparison(tmp_path, "neuron-opsd"), config, Silent()),
    ]
    for call in calls:
        with pytest.raises(ConfigError) as error:
            call()
        text = str(error.value)
        assert text.startswith(
            "neuron-opsd asks for neurons (selection.rule is fewest-neurons, "
            f"contexts.rule is nearest), but {NO_NEURONS}"
        )
        assert "; set selection.rule to low-entropy, high-vote, belief-shift, " in text
        assert ", random or all and contexts.rule to " in text
        assert "to hidden-state, words, same-answer, fixed or random (or no" in text
        assert "\n" not in text
    assert not request.out.exists()
    assert not (tmp_path / "out").exists()


def test_answers_shown_by_their_neurons_are_refused_before_anything_is_computed(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    told = ("method=lmsi", "contexts.answer=neuron-medoid")
    with pytest.raises(ConfigError) as error:
        tiny_run(tiny_request(tmp_path), tiny_config(tiny_gpt2, *told))
    text = str(error.value)
    assert text.startswith("contexts.answer is neuron-medoid, which reads neurons, but")
    assert text.endswith("set it to first, greedy or voted, or take another model")
    assert not (tmp_path / "run").exists()


def test_neurons_of_completions_are_refused_too(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "a", "prompt": "b", "completion": "c"}) + "\n")
    out = tmp_path / "out.parquet"
    with pytest.raises(ModelError, match=NO_NEURONS):
        extract_neurons(rows, out, tiny_config(tiny_gpt2), Silent())


def test_a_control_selects_at_random_where_there_are_no_neurons(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    own = ("method=ema-only", "contexts.num_demonstrations=0", "distill.steps=1")
    run = tiny_run(tiny_request(tmp_path), tiny_config(tiny_gpt2, *own))
    said = 'so ema-only takes selection.rule = "random"; set them yourself'
    assert [said in text for text in run.warnings].count(True) == 1
    assert any(said in text for text in run.data.warnings)
    assert run.data.config.selection.rule == "random"
    told = tiny_config(tiny_gpt2, *own, "selection.rule=fewest-neurons")
    with pytest.raises(ConfigError, match="ema-only asks for neurons"):
        tiny_run(tiny_request(tmp_path, "other"), told)


def test_demonstrations_are_found_as_the_user_says(
    tiny_gpt2: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_gpt2, "method=context-sft")
    with pytest.raises(ConfigError, match="context-sft asks for neurons"):
        tiny_run(tiny_request(tmp_path, "refused"), config)
    told = tiny_config(tiny_gpt2, "method=context-sft", "contexts.rule=words")
    run = tiny_run(tiny_request(tmp_path), told)
    contexts = read_json(run.folder / "contexts.json")
    shown = [d for c in contexts for d in c["demonstrations"]]
    assert shown
    assert all("BM25" in d["reason"] for d in shown)
    assert {d["distance"] for d in shown} == {None}


def test_a_comparison_runs_without_neurons(tiny_gpt2: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_gpt2, "distill.steps=2", "distill.num_samples=4")
    wanted, progress = comparison(tmp_path, "lmsi", "ttrl"), Silent()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        left = forecast(wanted, config, progress).left
        data = compare(wanted, config, progress)
    assert left == {"form-only": 2, "lmsi": 2, "ttrl": 2}
    assert not data.failures
    assert {m.place.method for m in data.measurements} >= {
        "prompted",
        "form-only",
        "ttrl",
    }
    lines = {line.name: line for line in data.methods}
    assert lines["form-only"].settings["selection.rule"] == '"random"'
    said = "\n".join(progress.warnings)
    assert 'form-only takes selection.rule = "random"' in said
    assert (
        'prompted takes selection.rule = "random" and contexts.rule = "words"' in said
    )
    assert not any("neurons" in name for name in files_in(tmp_path / "out"))


def test_evaluate_asks_for_no_neurons(tiny_gpt2: Path, tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    command = ["evaluate", "--model", str(tiny_gpt2), "--quiet"]
    command += ["--test", f"parity={request.tests['parity']}"]
    command += ["--out", str(tmp_path / "measured.json")]
    assert main([*command, "--set", "evaluation.num_samples=2"]) == 0
    assert read_json(tmp_path / "measured.json")["parity"]["avg_at_k"] >= 0.0


def test_a_run_without_neurons_is_not_analysed(
    finished: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="reads no neurons") as error:
        analyse((finished.folder,), tmp_path / "out", Silent())
    assert "name a run of neuron-opsd" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("method=ttrl", "distill.num_samples=1"), "ttrl compares the rollouts"),
        (("method=u-opsd", "distill.num_samples=1"), "u-opsd compares the rollouts"),
        (("method=lmsi", "distill.num_samples=1"), "lmsi holds a vote"),
        (("method=empo", "policy.num_votes=4"), "policy.num_votes is 4, but all 8"),
        (("method=lmsi", "policy.num_votes=2"), "policy.num_votes is 2, but all 8"),
    ],
)
def test_groups_that_cannot_be_are_refused_before_a_model_is_loaded(
    settings: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("neuron_opsd.models.network.load_network", fail)
    request, config = tiny_request(tmp_path), tiny_config(tmp_path, *settings)
    wanted = comparison(tmp_path, "neuron-opsd", config.method)
    calls: list[Callable[[], object]] = [
        lambda: tiny_run(request, config),
        lambda: estimate(request.pool, {}, config, Silent()),
        lambda: preview(request.pool, None, config, Silent()),
        lambda: compare(wanted, config, Silent()),
    ]
    for call in calls:
        with pytest.raises(ConfigError) as error:
            call()
        assert said in str(error.value)


def test_lmsi_may_train_on_one_of_several_that_vote() -> None:
    chosen = ["method=lmsi", "distill.num_samples=1", "policy.num_votes=8"]
    assert with_method(load_config(None, chosen)).policy.num_votes == 8
