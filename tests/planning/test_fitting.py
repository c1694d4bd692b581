"""What fits on a GPU, and what a user is told to set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.config_file import read_outline
from neuron_opsd.planning.fitting import Fit, Lengths, longest_step, most_that, usable
from neuron_opsd.planning.foresight import Foresight, foresee
from neuron_opsd.planning.memory import Peak, Way
from neuron_opsd.progress import Silent
from published import NUM_PARAMETERS, written
from tiny import tiny_model
from tiny_runs import tiny_request

LONG = "rollouts.max_new_tokens=8192"


def seen(
    folder: Path, *assignments: str, gpus: tuple[float, ...] = (24, 80), **sizes: Any
) -> Foresight:
    path = written(folder, **sizes)
    config = load_config(assignments=[f"model.name={path}", *assignments])
    return foresee(config, gpus, None, {}, Silent())


def settings_of(found: Fit) -> dict[str, str]:
    return dict(setting.split("=") for setting in found.settings)


def test_the_papers_setting_fits_on_24_gb_with_checkpointing(tmp_path: Path) -> None:
    small, large = seen(tmp_path, LONG).fits
    assert settings_of(small)["distill.gradient_checkpointing"] == "on"
    assert small.options[1].per_pass >= 1
    assert small.options[1].saved <= 0.45e6
    assert small.options[1].peak.static.base == 2 * NUM_PARAMETERS
    assert small.options[0].per_pass == 0
    assert large.options[1].per_pass > small.options[1].per_pass


def test_static_bytes_of_an_adapter_are_below_the_bar(tmp_path: Path) -> None:
    (found,) = seen(tmp_path, gpus=(80,)).fits
    held = found.options[0].peak.static
    adapter = held.total - held.base
    assert held.base / NUM_PARAMETERS <= 2.3
    assert adapter <= 26 * 33_030_144


def test_all_weights_are_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    (found,) = seen(tmp_path, "distill.tuning=full", gpus=(24,)).fits
    assert found.chosen is None
    assert "set distill.tuning=lora, which fits" in found.advice
    (roomy,) = seen(tmp_path, "distill.tuning=full", gpus=(141,)).fits
    assert roomy.chosen is not None
    assert roomy.options[roomy.chosen].way.tuning == "full"


def test_where_nothing_fits_a_shorter_length_or_a_larger_gpu_is_named(
    tmp_path: Path,
) -> None:
    (short,) = seen(tmp_path, "rollouts.max_new_tokens=30000", gpus=(12,)).fits
    assert "set distill.max_new_tokens to at most" in short.advice
    (small,) = seen(tmp_path, gpus=(2,)).fits
    assert small.advice.endswith("take a smaller model or a larger GPU")
    assert small.settings == ()


def test_what_is_told_fits_and_one_more_would_not(tmp_path: Path) -> None:
    for found in seen(tmp_path, LONG).fits:
        for option in found.options:
            if 0 < option.per_pass < 16:
                assert option.peak.total <= usable(found.memory)
    (found,) = seen(tmp_path, LONG, gpus=(24,)).fits
    longest = found.options[1].longest
    exact = seen(tmp_path, f"rollouts.max_new_tokens={longest}", gpus=(24,)).fits[0]
    beyond = seen(tmp_path, f"rollouts.max_new_tokens={longest + 1}", gpus=(24,))
    assert exact.options[1].per_pass == 1
    assert beyond.fits[0].options[1].per_pass == 0


def test_vllm_is_taken_where_the_samples_of_a_question_have_room(
    tmp_path: Path,
) -> None:
    small, large = seen(tmp_path, LONG).fits
    assert "engine.rollouts" not in settings_of(small)
    assert settings_of(large)["engine.rollouts"] == "vllm"
    share = float(settings_of(large)["engine.memory_share"])
    assert share * large.memory + large.options[0].peak.static.total <= usable(
        large.memory
    )


def test_more_rows_decode_where_fewer_keys_are_kept(tmp_path: Path) -> None:
    many = seen(tmp_path, LONG, gpus=(80,), num_key_value_heads=2).fits[0]
    few = seen(tmp_path, LONG, gpus=(80,)).fits[0]
    assert many.rows[0].pool > 2 * few.rows[0].pool
    assert few.rows[0].half > few.rows[0].pool


def test_settings_that_are_told_can_be_set(tmp_path: Path) -> None:
    for found in seen(tmp_path, LONG, gpus=(12, 24, 80)).fits:
        assert isinstance(load_config(assignments=list(found.settings)), Config)


def test_a_pool_gives_its_own_lengths(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    for weights in model.glob("*.safetensors"):
        weights.unlink()
    request = tiny_request(tmp_path)
    config = load_config(
        assignments=[f"model.name={model}", "rollouts.max_new_tokens=16"]
    )
    found = foresee(config, [1], request.pool, request.tests, Silent())
    taken = foresee(config, [1], None, {}, Silent())
    assert found.lengths.counted
    assert not taken.lengths.counted
    assert found.lengths.prompt < found.lengths.shown
    assert found.lengths.completion < taken.lengths.completion == 16
    free = load_config(assignments=[f"model.name={model}", "rollouts.mode=free"])
    longest = foresee(free, [1], request.pool, {}, Silent()).lengths
    assert longest.completion == free.rollouts.max_new_tokens


def step_of(folder: Path, *assignments: str) -> Peak:
    path = written(folder)
    config = load_config(assignments=[f"model.name={path}", *assignments])
    lengths = Lengths(prompt=256, shown=512, completion=config.training_tokens)
    return longest_step(read_outline(config.model), lengths, config, "bfloat16")


def test_the_longest_step_is_bounded_by_tokens_and_runs_long_rows_again(
    tmp_path: Path,
) -> None:
    short = step_of(tmp_path, "rollouts.max_new_tokens=256")
    plain = "distill.gradient_checkpointing=off"
    assert short == step_of(tmp_path, "rollouts.max_new_tokens=256", plain)
    long, free = (step_of(tmp_path, LONG, *more) for more in ((), (plain,)))
    assert long.graph < free.graph / 4
    one = step_of(tmp_path, LONG, "distill.micro_batch_size=1")
    assert long == one  # a single row is longer than a micro-batch may be
    wide = step_of(tmp_path, LONG, "distill.micro_batch_tokens=20000")
    assert wide.graph == 2 * long.graph


def test_what_the_settings_ask_for_is_followed(tmp_path: Path) -> None:
    def way(*assignments: str) -> Way:
        (found,) = seen(tmp_path, *assignments, gpus=(80,)).fits
        assert found.chosen is not None
        return found.options[found.chosen].way

    assert not way().checkpointing
    assert way("distill.gradient_checkpointing=on").checkpointing
    assert way("model.quantization=nf4").tuning == "qlora"


@pytest.mark.parametrize("amount", [0.0, -1.0, float("nan"), float("inf")])
def test_a_memory_that_is_none_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError, match="must be the memory of one GPU in GB"):
        foresee(Config(), [amount], None, {}, Silent())


@given(st.integers(0, 500), st.integers(1, 300))
def test_the_most_that_fits_is_found(limit: int, most: int) -> None:
    assert most_that(lambda n: n <= limit, most) == min(limit, most)
