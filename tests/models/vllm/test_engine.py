"""When the engine starts, loads, sleeps and ends, by the calls that it gets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from loaded import learning
from neuron_opsd.config import Config, EngineConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ModelError, NotFiniteError, TryAgainError
from neuron_opsd.models.decoding.growing import ending_of
from neuron_opsd.models.load import learner_of, load_answering
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.vllm.engine import SHARED, Engine, Served
from neuron_opsd.models.vllm.sampler import VLLMSampler, completion_of
from neuron_opsd.records import Completion, Prompt, TokenIds
from vllm_stand_in import LLM, Calls

SAMPLING = Sampling(0.7, 0.9, 5, stop_at_newline=True, top_k=20, stop=("###",))
QUESTION = Prompt("Which gas do plants take in?")


def settings(folder: Path, *more: str) -> Config:
    return load_config(
        None,
        [
            f"model.name={folder}",
            "model.device=cpu",
            "model.compute=float32",
            "engine.rollouts=vllm",
            "distill.lora_rank=5",
            *more,
        ],
    )


def on_gpu(folder: Path, settings: EngineConfig) -> Engine:
    """Return an engine that believes there is a GPU; the stand-in needs none."""
    return Engine(Served(str(folder), "float32", "cuda", 1024), settings)


def asked_of(engine: Engine) -> None:
    """Ask an engine something."""
    list(engine.answer([], 8, None))


def test_nothing_starts_before_a_question_is_asked(calls: Calls, folder: Path) -> None:
    model = load_answering(settings(folder))
    assert calls.made == []
    model.sample([model.encode(QUESTION)], [[]], SAMPLING)
    assert calls.made == []
    model.sample([model.encode(QUESTION)], [[1]], SAMPLING)
    assert calls.made == [("start",), ("answer", None)]


def test_every_completion_is_a_request_with_our_seed_and_our_ends(
    calls: Calls, folder: Path
) -> None:
    model = load_answering(settings(folder))
    prompt = model.encode(QUESTION)
    model.sample([prompt, prompt[:4]], [[2**62, 5], [7]], SAMPLING)
    prompts = [one["prompt_token_ids"] for one, _, _ in calls.asked]
    assert prompts == [list(prompt), list(prompt), list(prompt[:4])]
    assert [how.given["seed"] for _, how, _ in calls.asked] == [2**62, 5, 7]
    ends = model.tokens.end_ids | model.tokens.newline_ids
    for _, how, adapter in calls.asked:
        assert adapter is None
        assert {name: how.given[name] for name in given()} == given()
        assert how.given["stop_token_ids"] == sorted(ends)


def given() -> dict[str, Any]:
    """Return what requests have in common."""
    return {
        "n": 1,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.0,
        "max_tokens": 5,
        "logprobs": 0,
        "ignore_eos": True,
        "stop": ["###"],
        "detokenize": True,
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
    }


def test_the_engine_holds_what_is_asked_and_no_more(calls: Calls, folder: Path) -> None:
    model = load_answering(settings(folder, "model.device=cpu"))
    model.sample([model.encode(QUESTION)], [[1]], SAMPLING)
    (options,) = calls.options
    assert options["max_model_len"] == 512  # of 1024 positions
    assert options["max_lora_rank"] == 8  # the next one that it takes
    assert options["logprobs_mode"] == "processed_logprobs"
    assert options["load_format"] == "safetensors"
    assert options["trust_remote_code"] is False
    assert options["enable_prefix_caching"] is True
    assert options["enforce_eager"] is True
    assert options["dtype"] == "float32"
    assert "gpu_memory_utilization" not in options
    assert "enable_sleep_mode" not in options
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["DO_NOT_TRACK"] == "1"


def test_adapters_have_new_names_and_the_new_one_is_loaded_first(
    calls: Calls, folder: Path
) -> None:
    config = settings(folder)
    model = load_answering(config)
    learner = learner_of(model, config.distill, 0)
    prompts: list[TokenIds] = [model.encode(QUESTION)]
    for _ in range(3):
        learner.sample(prompts, [[1]], SAMPLING)
        model.sample(prompts, [[1]], SAMPLING)
    loads = calls.names("load")
    names, numbers = zip(*((name, number) for _, name, number in loads), strict=True)
    assert len(set(names)) == len(set(numbers)) == 3
    assert all(name == f"step-{n}" for name, n in zip(names, numbers, strict=True))
    moves = calls.names("load", "unload")
    assert moves == [
        loads[0],
        loads[1],
        ("unload", numbers[0]),
        loads[2],
        ("unload", numbers[1]),
    ]
    asked = [name for _, name in calls.names("answer")]
    assert asked == [names[0], None, names[1], None, names[2], None]
    # What was computed of a prompt is found again under the same adapter alone.
    salts = [prompt["cache_salt"] for prompt, _, _ in calls.asked]
    assert salts == [name or "base" for name in asked]
    assert calls.names("start") == [("start",)]


def test_an_adapter_that_stays_is_loaded_once(
    calls: Calls, folder: Path, tmp_path: Path
) -> None:
    learning(folder).save_adapter(tmp_path / "adapter")
    trained = load_answering(settings(folder), tmp_path / "adapter")
    for _ in range(3):
        trained.sample([trained.encode(QUESTION)], [[1]], SAMPLING)
    assert len(calls.names("load")) == 1
    assert calls.names("unload") == []


def test_no_file_of_an_adapter_is_left(calls: Calls, folder: Path) -> None:
    config = settings(folder)
    learner = learner_of(load_answering(config), config.distill, 0)
    paths = []
    for _ in range(2):
        learner.sample([learner.encode(QUESTION)], [[1]], SAMPLING)
        paths.append(Path(calls.asked[-1][2].lora_path))  # type: ignore[union-attr]
    assert not paths[0].exists()
    assert json.loads((paths[1] / "adapter_config.json").read_text())["r"] == 5
    SHARED.close()
    assert not paths[1].parent.exists()


def test_no_part_of_a_sum_of_adapters_is_left(
    calls: Calls, folder: Path, tmp_path: Path
) -> None:
    learning(folder).save_adapter(tmp_path / "adapter")
    config = settings(folder)
    trained = load_answering(config, tmp_path / "adapter")
    learner = learner_of(trained, config.distill, 0)
    for _ in range(2):
        learner.sample([learner.encode(QUESTION)], [[1]], SAMPLING)
    path = Path(calls.asked[-1][2].lora_path)  # type: ignore[union-attr]
    assert list(path.parent.iterdir()) == [path]


def test_nothing_of_what_failed_answers_the_next_question(
    calls: Calls, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_answering(settings(folder))
    prompts = [model.encode(QUESTION), model.encode(QUESTION)[:5]]
    wanted = model.sample(prompts[1:], [[3]], SAMPLING)
    assert isinstance(model.sampler, VLLMSampler)
    begun = model.sampler.engine._llm.llm_engine  # noqa: SLF001
    usual = begun.add_request

    def failing(name: str, *given: Any, **named: Any) -> None:
        if name == "1":
            raise ValueError("this prompt cannot be")
        usual(name, *given, **named)

    monkeypatch.setattr(begun, "add_request", failing)
    with pytest.raises(ModelError, match="this prompt cannot be"):
        model.sample(prompts, [[1], [2]], SAMPLING)
    assert model.sample(prompts[1:], [[3]], SAMPLING) == wanted
    assert calls.names("start", "end") == [("start",), ("end",), ("start",)]


@pytest.mark.usefixtures("calls")
def test_an_end_at_the_longest_length_is_an_end(folder: Path) -> None:
    model = load_answering(settings(folder))
    end = min(model.tokens.end_ids)
    ending = ending_of(model.tokens, SAMPLING)

    def finished(*ids: int) -> bool:
        rows = [{token: SimpleNamespace(logprob=-1.0)} for token in ids]
        one = SimpleNamespace(token_ids=ids, logprobs=rows, finish_reason="length")
        output = SimpleNamespace(outputs=[one])
        return completion_of(output, SAMPLING, ending, opened=False).finished

    assert finished(5, 6, end)
    assert not finished(5, 6, 7)


def test_a_gpu_is_shared_and_given_up_while_others_compute(
    calls: Calls, folder: Path
) -> None:
    engine = on_gpu(folder, EngineConfig(memory_share=0.3))
    engine.rest()  # before it has started
    asked_of(engine)
    asked_of(engine)
    engine.rest()
    engine.rest()
    asked_of(engine)
    (options,) = calls.options
    assert options["gpu_memory_utilization"] == 0.3
    assert options["enable_sleep_mode"] is True
    assert options["enforce_eager"] is False
    assert "kv_cache_memory_bytes" not in options
    assert calls.made == [("start",), ("sleep", 1), ("wake",)]


def test_it_never_sleeps_where_it_should_not(calls: Calls, folder: Path) -> None:
    awake = on_gpu(folder, EngineConfig(sleep=False))
    asked_of(awake)
    awake.rest()
    assert calls.options[0]["enable_sleep_mode"] is False
    model = load_answering(settings(folder))
    model.sample([model.encode(QUESTION)], [[1]], SAMPLING)
    assert isinstance(model.sampler, VLLMSampler)
    model.sampler.engine.rest()
    assert calls.names("sleep") == []


def test_a_pass_of_the_network_puts_it_to_sleep_and_a_question_wakes_it(
    calls: Calls, folder: Path
) -> None:
    config = settings(folder)
    model = load_answering(config)
    learner = learner_of(model, config.distill, 0)
    engine = on_gpu(folder, config.engine)
    for sampler in (model.sampler, learner.sampler):
        assert isinstance(sampler, VLLMSampler)
        sampler.engine.rest = engine.rest  # type: ignore[method-assign]
    pair = (model.encode(QUESTION), (5, 6))
    passes: list[Callable[[], object]] = [
        lambda: model.divergences([pair], [pair]),
        lambda: learner.student([pair]),
        lambda: learner.teacher([pair]),
    ]
    for compute in passes:
        asked_of(engine)
        assert not engine._asleep  # noqa: SLF001
        compute()
        assert engine._asleep  # noqa: SLF001
    assert calls.names("sleep") == [("sleep", 1)] * 3


def test_longer_texts_and_larger_adapters_start_it_again(
    calls: Calls, folder: Path
) -> None:
    model = load_answering(settings(folder))
    prompt = model.encode(QUESTION)
    model.sample([prompt], [[1]], SAMPLING)
    model.sample([prompt * 40], [[1]], SAMPLING)
    assert [options["max_model_len"] for options in calls.options] == [512, 1024]
    config = settings(folder, "distill.lora_rank=30")
    learner = learner_of(model, config.distill, 0)
    learner.sample([prompt], [[1]], SAMPLING)
    assert [options["max_lora_rank"] for options in calls.options] == [8, 8, 32]
    assert len(calls.names("end")) == 2
    with pytest.raises(ModelError, match=r"but the model holds 1024"):
        model.sample([prompt * 200], [[1]], SAMPLING)


def test_one_engine_serves_a_process(calls: Calls, folder: Path) -> None:
    first, second = (load_answering(settings(folder)) for _ in range(2))
    for model in (first, second):
        model.sample([model.encode(QUESTION)], [[1]], SAMPLING)
    assert calls.names("start") == [("start",)]
    other = load_answering(settings(folder, "engine.memory_share=0.5"))
    other.sample([other.encode(QUESTION)], [[1]], SAMPLING)
    assert calls.names("start", "end") == [("start",), ("end",), ("start",)]


@pytest.mark.usefixtures("calls")
def test_what_is_not_finite_is_told_with_its_question(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_answering(settings(folder))
    prompt = model.encode(QUESTION)
    usual = LLM.step

    def broken(engine: LLM) -> list[Any]:
        (output,) = usual(engine)
        if output.request_id == "1":
            (found,) = output.outputs
            found.logprobs[0][found.token_ids[0]].logprob = float("nan")
        return [output]

    monkeypatch.setattr(LLM, "step", broken)
    for temperature in (0.0, 1.0):
        with pytest.raises(NotFiniteError, match="token 1 of an answer") as caught:
            model.sample([prompt, prompt], [[1], [2]], Sampling(temperature))
        assert caught.value.places == (1,)


def test_a_question_is_told_as_soon_as_it_is_answered(
    calls: Calls, folder: Path
) -> None:
    model = load_answering(settings(folder))
    prompt = model.encode(QUESTION)
    told: list[tuple[int, list[Completion]]] = []

    def hear(place: int, group: Sequence[Completion]) -> None:
        told.append((place, list(group)))
        if len(told) == 3:
            raise KeyboardInterrupt

    prompts, seeds = [prompt, prompt[:5], prompt[:6]], [[1, 2], [3], [4, 5]]
    groups = model.sample(prompts[:2], seeds[:2], SAMPLING, hear)
    assert sorted(told) == list(enumerate(groups))
    assert [place for place, _ in told] == [1, 0]  # the stand-in's order
    with pytest.raises(KeyboardInterrupt):
        model.sample(prompts, seeds, SAMPLING, hear)
    assert calls.names("abort") == [("abort", "0", "1", "2")]
    told.clear()
    assert model.sample(prompts[:2], seeds[:2], SAMPLING, hear) == groups


@pytest.mark.usefixtures("calls")
def test_what_the_engine_says_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_answering(settings(folder))

    def ask(error: Exception) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(LLM, "__init__", fail)
        model.sample([model.encode(QUESTION)], [[1]], SAMPLING)

    with pytest.raises(TryAgainError, match=r"raise engine\.memory_share"):
        ask(ValueError("No available memory for the cache blocks.\nTry increasing"))
    with pytest.raises(TryAgainError, match=r"raise engine\.memory_share"):
        ask(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    with pytest.raises(ModelError, match=r"no LoRA here; set engine\.rollouts="):
        ask(RuntimeError("no LoRA here"))
