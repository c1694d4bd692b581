"""Comparisons of a tiny model: what is trained, kept, gone on with and refused."""

from __future__ import annotations

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest

from neuron_opsd.analysis.analyse import analyse
from neuron_opsd.comparison import run_group as filling
from neuron_opsd.comparison.compare import compare
from neuron_opsd.comparison.comparison import Comparison
from neuron_opsd.comparison.forecast import forecast
from neuron_opsd.comparison.grid import draws_greedy
from neuron_opsd.comparison.run_group import check_settings
from neuron_opsd.comparison.variants import Variant, parse_variant
from neuron_opsd.config import Config
from neuron_opsd.errors import (
    ConfigError,
    DataError,
    InUseError,
    TeacherError,
    TrainingError,
)
from neuron_opsd.methods import METHODS
from neuron_opsd.models.hf import HFModel
from neuron_opsd.progress import Silent
from neuron_opsd.records import StepMetrics, TrainingExample
from neuron_opsd.results.analysis import AnalysisData
from neuron_opsd.results.comparison import (
    BASE,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    ComparisonData,
    Place,
)
from neuron_opsd.runs import training as running
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.inputs import run_settings
from neuron_opsd.runs.training import train_adapter
from neuron_opsd.stages.rollouts import PromptedQuestion
from neuron_opsd.stages.training import Objective
from neuron_opsd.storage.codecs import json_codec
from neuron_opsd.storage.folders import COMPARISON_PAGE
from neuron_opsd.storage.lock import locked
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.status import comparison_status
from tiny_runs import (
    POOL_SIZE,
    Row,
    parity_rows,
    pool_rows,
    read_json,
    sum_rows,
    tiny_config,
    with_wrong_answers,
    write_rows,
)
from vllm_stand_in import stand_in

SHORT = ("distill.steps=2", "distill.num_samples=4", "evaluation.num_resamples=40")


def choosing(rows: list[Row]) -> list[Row]:
    """Give questions about sums a wrong choice beside the right one."""
    return [row | {"choices": ["0", row["answer"]]} for row in rows]


def pools() -> dict[str, list[Row]]:
    return {
        "parity": pool_rows("choices"),
        "sums": choosing(sum_rows(range(POOL_SIZE))),
    }


def comparison(folder: Path, *methods: str, **changes: Any) -> Comparison:
    """Return a comparison on two sources with choices and one more test set."""
    for source, rows in pools().items():
        path = folder / f"{source}-pool.jsonl"
        if not path.exists():
            write_rows(path, rows)
    tests = {
        "parity": parity_rows(range(100, 106), "a"),
        "sums": choosing(sum_rows(range(200, 204), "b")),
        "more": parity_rows(range(300, 304), "c"),
    }
    files = {
        name: str(write_rows(folder / f"{name}-test.jsonl", rows))
        for name, rows in tests.items()
    }
    wanted = Comparison(
        sources={
            name: str(folder / f"{name}-pool.jsonl") for name in ("parity", "sums")
        },
        tests=files,
        variants=tuple(parse_variant(text) for text in methods or ("neuron-opsd",)),
        num_seeds=1,
        starts=(BASE,),
        out=folder / "out",
        command="a command",
    )
    return replace(wanted, **changes)


def compared(
    wanted: Comparison, config: Config, progress: Silent | None = None
) -> ComparisonData:
    with warnings.catch_warnings():
        # PEFT asks transformers for what it calls by a new name now.
        warnings.simplefilter("ignore", FutureWarning)
        return compare(wanted, config, progress or Silent())


@pytest.fixture
def config(tiny_llama_plain: Path) -> Config:
    return tiny_config(tiny_llama_plain, *SHORT)


@dataclass(frozen=True)
class Done:
    """A comparison that has ended, for tests that only read."""

    comparison: Comparison
    config: Config
    data: ComparisonData


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_llama_plain: Path) -> Done:
    config = tiny_config(tiny_llama_plain, *SHORT)
    wanted = comparison(
        tmp_path_factory.mktemp("comparison"),
        *("neuron-opsd", "neuron-opsd-first=neuron-opsd:contexts.answer=first"),
        *("lmsi", "ttrl"),
        num_seeds=2,
        starts=(BASE, FORM),
        shown_steps=(1,),
    )
    return Done(wanted, config, compared(wanted, config))


def adapters(folder: Path) -> dict[str, bytes]:
    """Return every adapter's weights of a comparison by their place."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("adapter_model.safetensors"))
    }


def group_of(done: Done, source: str = "parity", start: str = BASE) -> Path:
    return done.comparison.out / "blocks" / source / "seed-0" / start


# --- what there is at the end ---


def test_every_method_has_a_result_on_every_source_from_every_start(
    done: Done,
) -> None:
    data = done.data
    assert (data.failures, data.missing) == ((), 0)
    found = {
        (row.place.start, row.place.source, row.place.method)
        for row in data.measurements
        if row.place.target == IN_DOMAIN and row.place.source in data.sources
    }
    trained = {"neuron-opsd", "neuron-opsd-first", "lmsi", "ttrl"}
    for source in data.sources:
        from_base = {BASE, "prompted", FORM, *trained}
        assert {m for s, one, m in found if (s, one) == (BASE, source)} == from_base
        from_form = {"prompted", *trained}
        assert {m for s, one, m in found if (s, one) == (FORM, source)} == from_form
    assert all(len(row.by_seed) == 2 for row in data.measurements)


def test_models_are_tested_on_every_set_and_after_the_steps_asked_for(
    done: Done,
) -> None:
    assert done.data.steps == (1, 2)
    assert done.data.targets == ("parity", "sums", "more")
    places = {row.place for row in done.data.measurements}
    for step in (1, 2):
        for target in done.data.targets:
            place = Place(BASE, "sums", "ttrl", step, target, "avg_at_k")
            assert place in places


def test_all_methods_ask_and_draw_the_same(done: Done) -> None:
    lines = [line for line in done.data.budgets if line.method != FORM]
    assert {line.prompts for line in lines} == {2 * 4}
    # Choices are all two tokens long; only what is trained on may differ.
    parity = [line for line in lines if line.source == "parity" and line.start == BASE]
    assert len({line.generated_tokens for line in parity}) <= len(parity)
    assert all(line.seconds > 0 for line in lines)


def test_training_from_form_only_begins_with_what_form_only_answers(
    done: Done,
) -> None:
    form = read_json(group_of(done) / "methods/form-only/result.json")
    start = read_json(group_of(done, start=FORM) / "methods/base/result.json")
    assert start["tests"]["0"] == {"parity": form["tests"]["2"]["parity"]}


def test_source_specificity_is_told_where_there_are_two_sources(done: Done) -> None:
    found = [c for c in done.data.contrasts if c.place.target == SPECIFICITY]
    assert {c.place.source for c in found} >= {"parity", "sums"}


def test_files_and_page_say_the_same_as_the_data(done: Done) -> None:
    out = done.comparison.out
    tables = read_json(out / "results.json")
    assert len(tables["measurements"]) == len(done.data.measurements)
    lines = (out / "contrasts.csv").read_text().splitlines()
    assert len(lines) == 1 + len(done.data.contrasts)
    page = (out / "comparison.html").read_text()
    assert "neuron-opsd-first" in page
    assert "<script" not in page


def test_the_scores_of_every_question_give_the_measurements_again(done: Done) -> None:
    shares: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for row in pq.read_table(done.comparison.out / "scores.parquet").to_pylist():
        key = (row["start"], row["source"], row["method"], row["steps"], row["test"])
        shares[key].append(row["num_correct"] / row["num_rollouts"])
    expected = {
        (place.start, place.source, place.method, place.step, place.target): one.value
        for one in done.data.measurements
        if (place := one.place).metric == "avg_at_k"
        and place.source in done.data.sources
        and place.target in done.data.targets
    }
    found = {key: fmean(values) for key, values in shares.items()}
    assert found == pytest.approx(expected)


def test_checkpoints_of_finished_trainings_are_dropped(done: Done) -> None:
    assert not list(done.comparison.out.rglob("checkpoints"))


def test_the_pool_is_answered_once_for_all_methods(done: Done) -> None:
    folder = group_of(done)
    assert len(list(folder.rglob("rollouts.parquet"))) == 1
    names = {path.name for path in folder.glob("neurons-*.parquet")}
    assert names == {"neurons-first.parquet", "neurons-greedy.parquet"}


# --- going on ---


def test_the_same_call_again_computes_nothing(done: Done) -> None:
    stages: list[str] = []

    class Watching(Silent):
        @contextmanager
        def stage(
            self, name: str, total: int, unit: str
        ) -> Iterator[Callable[[int], None]]:
            stages.append(name)
            with super().stage(name, total, unit) as tell:
                yield tell

    before = adapters(done.comparison.out)
    data = compared(done.comparison, done.config, Watching())
    assert stages == []
    assert adapters(done.comparison.out) == before
    # By their words: what does not exist is not equal to itself.
    assert repr(data.measurements) == repr(done.data.measurements)
    assert repr(data.contrasts) == repr(done.data.contrasts)


class StoppedError(Exception):
    """What stops a comparison in a test."""


class Stopping(Silent):
    """Progress that stops the work when so many units are done."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    @contextmanager
    def stage(
        self, name: str, total: int, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Give a function that stops the work in time."""
        del name, total, unit

        def tell(units: int) -> None:
            self.left -= units
            if self.left < 0:
                raise StoppedError

        yield tell


def test_a_comparison_stopped_anywhere_ends_with_the_same_bytes(
    tmp_path: Path, config: Config
) -> None:
    methods = ("neuron-opsd", "ttrl")
    whole = comparison(tmp_path / "whole", *methods, shown_steps=(1,))
    compared(whole, config)
    wanted = comparison(tmp_path / "stopped", *methods, shown_steps=(1,))
    stops = 0
    while True:
        try:
            compared(wanted, config, Stopping(after=40 * (stops + 1)))
        except StoppedError:
            stops += 1
            assert stops < 50
            continue
        break
    assert stops > 3
    assert adapters(wanted.out) == adapters(whole.out)
    ours, theirs = (read_json(one.out / "results.json") for one in (wanted, whole))
    for name in ("measurements", "contrasts"):
        assert ours[name] == theirs[name]


# --- what status and analyse read of it ---


def test_status_finds_the_run_groups_and_models_of_a_comparison(done: Done) -> None:
    found = comparison_status(done.comparison.out)
    assert found.finished
    assert {group.name for group in found.blocks} == {
        f"{source} seed-{seed} {start}"
        for source in ("parity", "sums")
        for seed in (0, 1)
        for start in (BASE, FORM)
    }
    for group in found.blocks:
        assert {"base", "prompted", "neuron-opsd", "lmsi"} <= {*group.models_done}
        assert (group.begun, group.holder) == ("", None)


def analysed(out: Path, *folders: Path) -> AnalysisData:
    return analyse(folders, out, Silent())


def test_a_method_of_a_comparison_can_be_analysed_like_a_run(
    done: Done, tmp_path: Path
) -> None:
    methods = group_of(done) / "methods"
    names = ("neuron-opsd", "neuron-opsd-first")
    data = analysed(tmp_path / "out", *(methods / name for name in names))
    assert [run.name for run in data.runs] == [f"parity-seed-0-base-{n}" for n in names]
    assert [run.captured_greedy for run in data.runs] == [True, False]
    for run, name in zip(data.runs, names, strict=True):
        selection = read_json(methods / name / "selection.json")
        assert run.num_questions == len(selection) == POOL_SIZE
        assert run.num_selected == sum(entry["kept"] for entry in selection)
    warm = group_of(done, start=FORM) / "methods" / "neuron-opsd"
    (run,) = analysed(tmp_path / "warm", warm).runs
    assert run.name == "parity-seed-0-form-only-neuron-opsd"


def test_methods_without_demonstrations_are_not_analysed(
    done: Done, tmp_path: Path
) -> None:
    methods = group_of(done) / "methods"
    with pytest.raises(DataError, match="to a method without demonstrations"):
        analysed(tmp_path / "out", methods / "lmsi")
    with pytest.raises(DataError, match="not prepared yet"):
        analysed(tmp_path / "out", methods / "rent")
    with pytest.raises(ConfigError, match="which is in the run directory"):
        analysed(methods / "analysis", methods / "neuron-opsd")


# --- several processes at once ---


class Freeing(Silent):
    """Progress that ends another process's hold when a stage of a source begins."""

    def __init__(self, hold: ExitStack, source: str) -> None:
        super().__init__()
        self.hold = hold
        self.source = source

    @contextmanager
    def stage(
        self, name: str, total: int, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Let go in time."""
        if name.startswith(self.source):
            self.hold.close()
        with super().stage(name, total, unit) as tell:
            yield tell


def held(wanted: Comparison) -> AbstractContextManager[None]:
    """Hold the first run group, as a process does that fills it."""
    folder = wanted.out / "blocks/parity/seed-0/base"
    folder.mkdir(parents=True)
    return locked(folder)


def test_run_groups_that_others_hold_are_left_to_them(
    tmp_path: Path, config: Config
) -> None:
    wanted = comparison(tmp_path, "lmsi", starts=(BASE, FORM))
    left = "parity seed 0, parity seed 0 from form-only; run the same command again"
    with held(wanted), pytest.raises(InUseError, match=left):
        compared(wanted, config)
    before = adapters(wanted.out)
    assert {name.split("/")[1] for name in before} == {"sums"}
    assert len(before) == 3
    assert not (wanted.out / "comparison.html").exists()
    data = compared(wanted, config)
    assert (data.failures, data.missing) == ((), 0)
    assert adapters(wanted.out).items() > before.items()


def test_a_run_group_that_becomes_free_is_filled_by_the_same_call(
    tmp_path: Path, config: Config
) -> None:
    whole = comparison(tmp_path / "whole", "lmsi")
    wanted = comparison(tmp_path / "shared", "lmsi")
    with ExitStack() as hold:
        hold.enter_context(held(wanted))
        data = compared(wanted, config, Freeing(hold, "sums"))
    alone = compared(whole, config)
    assert adapters(wanted.out) == adapters(whole.out)
    assert repr(data.measurements) == repr(alone.measurements)
    assert repr(data.contrasts) == repr(alone.contrasts)


def test_more_methods_and_seeds_can_be_asked_for_later(
    tmp_path: Path, config: Config
) -> None:
    first = comparison(tmp_path, "lmsi")
    compared(first, config)
    before = adapters(first.out)
    more = comparison(tmp_path, "lmsi", "ttrl", num_seeds=2)
    data = compared(more, config)
    after = adapters(more.out)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * 2 * 3
    assert data.seeds == (0, 1)


def test_a_method_may_have_fewer_seeds_than_the_others(
    tmp_path: Path, config: Config
) -> None:
    once = Variant("once", "ttrl", seeds=1)
    wanted = comparison(tmp_path, variants=(parse_variant("lmsi"), once), num_seeds=2)
    data = compared(wanted, config)
    assert data.missing == 0
    trained = {
        (row.place.method, len(row.by_seed))
        for row in data.measurements
        if row.place.source == "sums" and row.place.target == IN_DOMAIN
    }
    assert {("lmsi", 2), ("once", 1), ("form-only", 2)} <= trained
    made = [path for path in adapters(wanted.out) if "/once/" in path]
    assert len(made) == len(data.sources)
    assert all("seed-0" in path for path in made)


def fail(
    monkeypatch: pytest.MonkeyPatch, where: Callable[[RunContext, Training], bool]
) -> None:
    """Let the trainings that are meant fail."""

    def failing(
        run: RunContext,
        model: HFModel,
        training: Training,
        examples: Sequence[TrainingExample],
        objective: Objective,
        guarded: Sequence[PromptedQuestion],
    ) -> tuple[StepMetrics, ...]:
        if where(run, training):
            raise TrainingError("step 3: the gradient's norm is nan")
        return train_adapter(run, model, training, examples, objective, guarded)

    monkeypatch.setattr(running, "train_adapter", failing)


def test_a_method_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, lambda _, training: training.name == "lmsi")
    wanted = comparison(tmp_path, "lmsi", "ttrl")
    data = compared(wanted, config)
    assert {(f.source, f.method) for f in data.failures} == {
        ("parity", "lmsi"),
        ("sums", "lmsi"),
    }
    assert "gradient's norm is nan" in data.failures[0].reason
    monkeypatch.undo()
    assert compared(wanted, config).failures == ()


def test_other_settings_in_the_same_folder_are_refused(
    tmp_path: Path, config: Config, tiny_llama_plain: Path
) -> None:
    compared(comparison(tmp_path, "lmsi"), config)
    other = tiny_config(tiny_llama_plain, *SHORT, "distill.learning_rate=0.02")
    with pytest.raises(ConfigError, match=r"distill\.learning_rate"):
        compared(comparison(tmp_path, "lmsi"), other)
    renamed = comparison(tmp_path, "lmsi=lmsi:distill.learning_rate=0.5")
    with pytest.raises(ConfigError, match=r"has started lmsi with other settings"):
        compared(renamed, config)


def test_a_method_begun_by_an_older_version_says_what_to_write(
    tmp_path: Path, config: Config
) -> None:
    """There a method's own settings won over what was set for all."""
    assert config.contexts.num_demonstrations == 2
    older = comparison(tmp_path, "lmsi=lmsi:contexts.num_demonstrations=0")
    data = compared(older, config)
    with pytest.raises(ConfigError, match="has started lmsi with other") as caught:
        compared(comparison(tmp_path, "lmsi"), config)
    written = str(caught.value).partition("; write ")[2].partition(" to resume it")[0]
    assert written == "lmsi=lmsi:contexts.num_demonstrations=0"
    again = compared(comparison(tmp_path, written), config)
    assert repr(again.measurements) == repr(data.measurements)


def test_a_method_resumes_by_any_way_to_write_its_model(
    tmp_path: Path,
    config: Config,
    tiny_llama_plain: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tiny_llama_plain.parent)
    codec = json_codec("methods/lmsi/settings.json")
    for number, name in enumerate((tiny_llama_plain.name, "./elsewhere")):
        kept = run_settings(config) | {"model.name": name}
        with RunDirectory.open(tmp_path / str(number), {}, {}) as run:
            run.write("methods/lmsi/settings", codec, kept)
            context = RunContext(run, config, Silent())
            if number:
                with pytest.raises(ConfigError, match=r"\(model\.name\)"):
                    check_settings(context, "methods/lmsi", parse_variant("lmsi"))
            else:
                check_settings(context, "methods/lmsi", parse_variant("lmsi"))


def test_a_method_that_was_stopped_may_be_told_to_train(
    tmp_path: Path, config: Config
) -> None:
    variant = parse_variant("lmsi")
    with RunDirectory.open(tmp_path, {}, {}) as run:
        for given in ("stop", "warn"):
            teacher_check = config.teacher_check.model_copy(
                update={"one_answer": given}
            )
            own = config.model_copy(update={"teacher_check": teacher_check})
            check_settings(
                RunContext(run, own, Silent()),
                "methods/lmsi",
                variant,
            )
        other = config.model_copy(update={"seed": config.seed + 1})
        with pytest.raises(ConfigError, match="has started lmsi with other settings"):
            check_settings(
                RunContext(run, other, Silent()),
                "methods/lmsi",
                variant,
            )


def test_variants_with_neurons_of_their_own_read_them_anew(
    tmp_path: Path, config: Config
) -> None:
    wanted = comparison(
        tmp_path, "neuron-opsd", "other=neuron-opsd:neurons.value=gated"
    )
    compared(replace(wanted, sources={"parity": wanted.sources["parity"]}), config)
    folder = wanted.out / "blocks/parity/seed-0/base"
    names = {path.name for path in folder.glob("neurons-*.parquet")}
    assert names == {"neurons-greedy.parquet", "neurons-greedy-value-gated.parquet"}


def test_warnings_stay_with_the_models_they_are_about(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "neuron_opsd.runs.prepare.pool_findings", lambda *_: ("the pool is odd",)
    )
    methods = ("neuron-opsd", "ttrl")
    first = compared(comparison(tmp_path, *methods), config)
    cells = ", ".join(("prompted", FORM, *methods))
    odd = [text for text in first.warnings if "the pool is odd" in text]
    assert odd == [f"{s} seed 0, {cells}: the pool is odd" for s in first.sources]
    assert compared(comparison(tmp_path, *methods), config).warnings == first.warnings


def test_nothing_is_warned_of_twice(tmp_path: Path, config: Config) -> None:
    write_rows(tmp_path / "sums-pool.jsonl", sum_rows(range(POOL_SIZE)))
    heard: list[str] = []

    class Listening(Silent):
        def warn(self, text: str) -> None:
            heard.append(text)

    data = compared(comparison(tmp_path, "lmsi", "ttrl"), config, Listening())
    cut = [text for text in heard if "rollouts were cut at" in text]
    assert [text.split(":")[0] for text in cut] == ["sums seed 0"]
    assert len(set(heard)) == len(heard)
    assert len([text for text in data.warnings if "rollouts were cut at" in text]) == 1


def test_questions_that_are_asked_once_have_no_calibration(
    tmp_path: Path, config: Config
) -> None:
    wanted = comparison(tmp_path, "lmsi")
    wanted = replace(wanted, sources={"parity": wanted.sources["parity"]})
    data = compared(wanted, config.changed(evaluation={"num_samples": 1}))
    values = {
        metric: {row.value for row in data.measurements if row.place.metric == metric}
        for metric in ("avg_at_k", "ece", "unanimity")
    }
    assert all(map(math.isfinite, values["avg_at_k"]))
    assert not any(map(math.isfinite, values["ece"] | values["unanimity"]))
    assert "one answer to a question has no vote" in " ".join(data.warnings)
    told = json.loads((wanted.out / "results.json").read_text())["measurements"]
    assert {row["value"] for row in told if row["metric"] == "ece"} == {None}
    page = (wanted.out / COMPARISON_PAGE).read_text()
    assert "It was not measured here: one answer to a question has no vote" in page
    assert ">nan" not in page.lower()


def temperatures(folder: Path) -> set[float]:
    """Return the temperatures of all answers in a folder."""
    return {
        value
        for path in folder.rglob("*.parquet")
        if "temperature" in (table := pq.read_table(path)).column_names
        for value in table["temperature"].to_pylist()
    }


def test_greedy_answers_are_drawn_where_a_model_shows_them(
    done: Done, tmp_path: Path, config: Config
) -> None:
    assert 0.0 in temperatures(group_of(done))
    config = config.changed(contexts={"answer": "first"})
    compared(comparison(tmp_path, "lmsi"), config)
    assert 0.0 not in temperatures(tmp_path / "out")
    more = ("lmsi", "greedy=neuron-opsd:contexts.answer=greedy")
    with pytest.raises(ConfigError, match=r"greedy shows greedy answers.*without any"):
        compared(comparison(tmp_path, *more), config)


def test_groups_of_an_earlier_version_have_greedy_answers(config: Config) -> None:
    made = SimpleNamespace(outputs={"rollouts": ()}, facts={})
    old = SimpleNamespace(folder="old", manifest=made)
    shown = config.changed(contexts={"answer": "greedy"})
    assert draws_greedy(old, {"own": shown})  # type: ignore[arg-type]
    made.facts["greedy"] = False
    assert not draws_greedy(old, {"own": config})  # type: ignore[arg-type]


def test_a_failed_form_only_training_leaves_out_what_would_begin_from_it(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(
        monkeypatch,
        lambda run, training: (
            training.name == FORM and "parity" in str(run.directory.folder)
        ),
    )
    data = compared(comparison(tmp_path, "lmsi", starts=(FORM,)), config)
    assert [(f.start, f.source, f.method) for f in data.failures] == [
        (BASE, "parity", FORM),
        (FORM, "parity", "lmsi"),
    ]
    assert data.missing == 0
    assert "no form-only model to start from" in data.failures[1].reason


def test_a_failed_control_in_the_prompt_is_named_and_the_others_go_on(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise TeacherError("the teacher is not fit")

    monkeypatch.setattr(filling, "answer_with_demonstrations", failing)
    data = compared(comparison(tmp_path, "lmsi"), config)
    assert [f.method for f in data.failures] == ["prompted", "prompted"]
    assert data.missing == 0
    assert {r.place.method for r in data.measurements} == {BASE, FORM, "lmsi"}


def test_a_step_named_too_late_is_told(tmp_path: Path, config: Config) -> None:
    compared(comparison(tmp_path, "lmsi"), config)

    class Listening(Silent):
        heard: ClassVar[list[str]] = []

        def warn(self, text: str) -> None:
            self.heard.append(text)

    later = comparison(tmp_path, "lmsi", "ttrl", shown_steps=(1,))
    compared(later, config, Listening())
    told = [text for text in Listening.heard if "had 1, so it is not tested" in text]
    assert len(told) == 4
    assert all("lmsi was" in text or "form-only was" in text for text in told)


# --- gold answers ---


def test_no_answer_of_a_pool_is_read_unless_an_oracle_is_asked_for(
    tmp_path: Path, config: Config
) -> None:
    right, wrong = comparison(tmp_path / "a", "ttrl"), tmp_path / "b"
    compared(right, config)
    for source, rows in pools().items():
        write_rows(wrong / f"{source}-pool.jsonl", with_wrong_answers(rows))
    other = comparison(wrong, "ttrl")
    compared(other, config)
    assert adapters(other.out) == adapters(right.out)


def test_an_oracle_must_be_asked_for_and_is_marked(
    tmp_path: Path, config: Config
) -> None:
    wanted = comparison(tmp_path, "oracle-grpo", "oracle-opsd")
    with pytest.raises(ConfigError, match="oracle-grpo learns from the pool's gold"):
        compared(wanted, config)
    data = compared(replace(wanted, oracle=True), config)
    assert [line.name for line in data.methods if line.oracle] == [
        "oracle-grpo",
        "oracle-opsd",
    ]


def test_an_oracle_needs_an_answer_to_every_question(
    tmp_path: Path, config: Config
) -> None:
    rows = pool_rows("choices")
    del rows[3]["answer"]
    write_rows(tmp_path / "parity-pool.jsonl", rows)
    wanted = comparison(tmp_path, "oracle-grpo", oracle=True)
    with pytest.raises(DataError, match="no answer for question p3"):
        compared(wanted, config)


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sources": {}}, "no source is given; add --source NAME=FILE"),
        ({"sources": {"law": "x"}}, "the source law has no test set; add --test law="),
        ({"num_seeds": 0}, "--seeds is 0, but it must be 1 to 1000"),
        (
            {"tests": {"parity": "x", "sums": "x", "in-domain": "x"}},
            "a test set cannot be named 'in-domain'",
        ),
        ({"shown_steps": (3,)}, "--at has 3, but lmsi is trained for 2 steps"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_before_any_work(
    tmp_path: Path, config: Config, changes: dict[str, object], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compared(comparison(tmp_path, "lmsi", **changes), config)
    assert text in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grpo", "'grpo' names no method to compare; write one of neuron-opsd"),
        ("a b=lmsi", "names no method to compare"),
        ("x=grpo:a.b=1", "there is no method 'grpo'"),
    ],
)
def test_a_name_that_is_no_method_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_variant(text)
    assert said in str(caught.value)


def test_a_variant_has_a_name_and_settings_of_its_own() -> None:
    variant = parse_variant("w=neuron-opsd:contexts.rule=words,distill.beta=0.3")
    assert (variant.name, variant.method) == ("w", "neuron-opsd")
    assert variant.settings == {
        "contexts": {"rule": "words"},
        "distill": {"beta": 0.3},
    }


def test_names_that_stand_twice_or_are_taken_are_refused(
    tmp_path: Path, config: Config
) -> None:
    with pytest.raises(ConfigError, match="the name lmsi appears twice"):
        compared(comparison(tmp_path, "lmsi", "lmsi"), config)
    with pytest.raises(ConfigError, match="base is the name of an untrained model"):
        compared(comparison(tmp_path, "base=lmsi"), config)
    with pytest.raises(ConfigError, match="form-only is the name of the control"):
        compared(comparison(tmp_path, "form-only=lmsi"), config)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "evaluation.temperature=1.0",
            "x sets evaluation, but that must be the same for",
        ),
        (
            "rollouts.num_samples=2",
            "x sets rollouts, but that must be the same for all",
        ),
        ("seed=3", "x sets seed, but that must be the same for all methods"),
        ("distill.steps=3", "x sets distill.steps, but methods are compared after"),
    ],
)
def test_what_must_be_one_for_all_is_no_variant_s(
    tmp_path: Path, config: Config, setting: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        compared(comparison(tmp_path, f"x=lmsi:{setting}"), config)


# --- what is left ---


def test_a_forecast_counts_what_is_left_and_times_every_method(
    tmp_path: Path, config: Config
) -> None:
    wanted = comparison(tmp_path, "lmsi", "ttrl")
    before = forecast(wanted, config, Silent())
    assert before.num_cells == 6
    assert before.left == {FORM: 2, "lmsi": 2, "ttrl": 2}
    assert set(before.step_seconds) == {FORM, "lmsi", "ttrl"}
    assert min(before.step_seconds.values()) > 0
    assert before.seconds
    assert not wanted.out.exists()
    compared(comparison(tmp_path, "lmsi"), config)
    assert forecast(wanted, config, Silent()).left == {"ttrl": 2}


def test_a_forecast_gives_no_time_where_vllm_writes(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in(monkeypatch)
    by_vllm = config.changed(engine={"rollouts": "vllm"})
    chosen = forecast(comparison(tmp_path, "lmsi"), by_vllm, Silent())
    assert chosen.seconds
    assert not chosen.why_untimed

    write_rows(tmp_path / "sums-pool.jsonl", sum_rows(range(POOL_SIZE)))
    found = forecast(comparison(tmp_path, "lmsi"), by_vllm, Silent())
    assert found.left == {FORM: 2, "lmsi": 2}
    assert (found.seconds, found.test_seconds, found.step_seconds) == (None, None, {})
    assert "vLLM" in found.why_untimed
    assert not calls.made


def test_a_forecast_times_form_only_on_questions_without_choices(
    tmp_path: Path, config: Config
) -> None:
    write_rows(tmp_path / "sums-pool.jsonl", sum_rows(range(POOL_SIZE)))
    wanted = comparison(tmp_path, "lmsi")
    wanted = replace(wanted, sources={"sums": wanted.sources["sums"]})
    found = forecast(wanted, config, Silent())
    assert set(found.step_seconds) == {FORM, "lmsi"}


def test_every_method_can_be_compared(tmp_path: Path, config: Config) -> None:
    names = [name for name in METHODS if name != FORM]
    # Demonstrations for all would make another method of it.
    names[names.index("ema-only")] += "=ema-only:contexts.num_demonstrations=0"
    wanted = comparison(tmp_path, *names, oracle=True)
    wanted = replace(wanted, sources={"parity": wanted.sources["parity"]})
    data = compared(wanted, config)
    assert data.failures == ()
    assert {line.name for line in data.methods if line.trained} == set(METHODS)
    json.loads((wanted.out / "comparison.json").read_text())
