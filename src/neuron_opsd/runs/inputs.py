"""The inputs of a run: questions, settings and the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from neuron_opsd.config import (
    ClusterConfig,
    Config,
    ContextsConfig,
    ModelConfig,
    QuestionsConfig,
)
from neuron_opsd.config.tables import as_begun, flatten
from neuron_opsd.data.formats.public_sets import check_targets
from neuron_opsd.data.overlap import check_overlap
from neuron_opsd.data.questions import QuestionFile, is_dataset, read_questions
from neuron_opsd.errors import ConfigError, DataError, listing
from neuron_opsd.methods import needs_contexts
from neuron_opsd.models.weights.precision import compute_of, device_of
from neuron_opsd.processes.processor import processor_features
from neuron_opsd.records import Question
from neuron_opsd.results.run import POOL as POOL
from neuron_opsd.runs.context import TestSet, have_choices
from neuron_opsd.runs.gold_checks import check_gold
from neuron_opsd.storage.caching import ignore
from neuron_opsd.storage.manifest import NVIDIA_DRIVER, place_text
from neuron_opsd.storage.output_paths import check_names as refuse_names
from neuron_opsd.storage.run_directory import RunDirectory

TAKEN = (POOL, "model")
"""Names reserved for a run's other inputs."""

PASSING = (
    *("teacher_check.one_answer", "distill.on_nonfinite", "answers.max_minutes"),
    "guard.on_collapse",
    *("engine.decoding_memory", "engine.memory_share"),
    *("engine.sleep", "engine.max_logprob_gap"),
    *(f"cluster.{n}" for n in ClusterConfig.model_fields),
    "distill.gradient_checkpointing",
    *(f"questions.{n}" for n in QuestionsConfig.model_fields if n.startswith("max_")),
)
"""Settings that only permit what was stopped or refused, or choose resources."""

VECTORS: Final = re.compile(r"amx|avx|fma|asimd|sve|bf16|i8mm|neon|vnni")
"""Processor features that decide how products are computed."""

DRIVER_NUMBER: Final = re.compile(r"\b\d{3,}\.\d+(\.\d+)?\b")

LIMITS: Final = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Variables that limit libraries or change their arithmetic."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The questions of a run."""

    pool: tuple[Question, ...]
    tests: tuple[TestSet, ...]
    hashes: Mapping[str, str]
    """SHA-256 of the questions of each set, by name."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """File or dataset of each set, by name."""

    @property
    def datasets(self) -> dict[str, str]:
        """The sources that are hub datasets."""
        return {name: one for name, one in self.sources.items() if is_dataset(one)}

    @property
    def pool_chooses(self) -> bool:
        """Whether any question of the pool has choices."""
        return have_choices(self.pool)

    @property
    def chooses(self) -> bool:
        """Whether any question has choices."""
        sets = [self.pool, *(test.questions for test in self.tests)]
        return any(map(have_choices, sets))


def read_inputs(
    pool: str,
    tests: Mapping[str, str],
    config: Config,
    warn: Callable[[str], None] = ignore,
    showing: Sequence[Config] = (),
) -> Inputs:
    """Read the pool and the test sets.

    Gold answers in the pool's file are ignored. `showing` are the settings of all
    methods, if several.

    Raises:
        ConfigError: If a name cannot be a test set's.
        DataError: If a file has bad rows, the pool is too small, or a test question has
            no readable answer or is in the pool.
    """
    in_domain = in_domain_name(tests, config)
    check_targets(config.questions.format, (POOL, *tests))
    asked = read_pool(pool, config, warn=warn)
    check_given(pool, asked.questions, showing or [config], warn)
    check_size(pool, len(asked.questions), config.contexts)
    sets = read_tests(tests, in_domain, config, warn)
    remarks = check_overlap(
        asked.questions,
        {test.name: test.questions for test in sets},
        config.evaluation.max_overlap,
    )
    for text in remarks:
        warn(text)
    hashes = {"pool": questions_hash(asked.questions)}
    hashes |= {test.name: test_hash(test) for test in sets}
    return Inputs(asked.questions, sets, hashes, {POOL: pool, **tests})


def check_given(
    pool: str,
    questions: Sequence[Question],
    showing: Sequence[Config],
    warn: Callable[[str], None],
) -> None:
    """Refuse questions without `given` text to show; warn of text never shown."""
    shown = [own for own in showing if own.shows_given and needs_contexts(own)]
    lacking = [question.id for question in questions if not question.given]
    if shown and lacking:
        raise DataError(
            f"{pool}: contexts.rule is given, but {len(lacking):,} of "
            f"{len(questions):,} questions have no privileged_context, {lacking[0]} "
            "first; fill the column, leave them out, or choose another rule"
        )
    if not shown and len(lacking) < len(questions):
        rules = listing(sorted({own.contexts.rule for own in showing}))
        warn(
            f"{pool}: its column privileged_context is not shown to any teacher, as "
            f"contexts.rule is {rules} and the method is "
            f"{listing(sorted({own.method for own in showing}))}; set "
            "contexts.rule=given to show it instead of demonstrations"
        )


def read_pool(
    source: str,
    config: Config,
    name: str = POOL,
    warn: Callable[[str], None] = ignore,
) -> QuestionFile:
    """Read the questions of a file, ignoring answers."""
    found = read_questions(
        source,
        allow_download=config.model.allow_download,
        config=config.questions,
        name=name,
        labelled=False,
    )
    for note in found.notes:
        warn(note)
    return found


def check_size(pool: str, size: int, config: ContextsConfig) -> None:
    """Refuse a pool too small for the demonstrations."""
    if size <= config.num_found:
        raise DataError(
            f"{config.asks_for}, but {pool} holds only {size} questions, one of "
            "which is asked; lower it or give a larger pool"
        )


def read_tests(
    tests: Mapping[str, str],
    in_domain: str,
    config: Config,
    warn: Callable[[str], None] = ignore,
) -> tuple[TestSet, ...]:
    """Read the test sets; all answers must be readable."""
    sets = []
    for name, source in tests.items():
        found = read_questions(
            source,
            allow_download=config.model.allow_download,
            config=config.questions,
            name=name,
        )
        for note in found.notes:
            warn(note)
        if any(question.given for question in found.questions):
            warn(f"{source}: its column privileged_context is not shown in tests")
        check_gold(name, source, found, config.answers, warn)
        sets.append(TestSet(name, found.questions, found.gold, name == in_domain))
    return tuple(sets)


def name_in_domain(tests: Mapping[str, str], config: Config) -> Config:
    """Name an in-domain set in the settings, by default the first."""
    return config.changed(evaluation={"in_domain": in_domain_name(tests, config)})


def in_domain_name(tests: Mapping[str, str], config: Config) -> str:
    """Return the name of the in-domain test set, or an empty text."""
    check_names(tests)
    chosen = config.evaluation.in_domain or next(iter(tests), "")
    if chosen and chosen not in tests:
        raise ConfigError(
            f"evaluation.in_domain is {chosen!r}, but the test sets are "
            f"{', '.join(tests) or 'none'}"
        )
    return chosen


def check_names(tests: Mapping[str, str]) -> None:
    """Refuse names that a test set cannot have."""
    refuse_names(tests, "a test set")
    for name in tests:
        if name.casefold() in TAKEN:
            raise ConfigError(
                f"a test set cannot be named {name!r}, because the run keeps its "
                f"{name.casefold()} under that name; give it another one"
            )


def questions_hash(questions: tuple[Question, ...]) -> str:
    """Hash the questions in order, without answers."""
    digest = hashlib.sha256()
    for question in questions:
        asked: tuple[object, ...] = question.id, question.messages, question.choices
        labels = question.question_label, question.answer_label
        if any(labels):
            asked = (*asked, labels)
        if question.given:
            asked = (*asked, question.given)
        digest.update(repr(asked).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def test_hash(test: TestSet) -> str:
    """Hash a test set's questions and gold answers."""
    gold = sorted(test.gold.answer_of.items())
    text = questions_hash(test.questions) + repr(gold)
    if test.gold.aliases_of:
        text += repr(sorted(test.gold.aliases_of.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def run_settings(config: Config) -> dict[str, Any]:
    """Return the settings that a run's results depend on, by dotted name.

    A local model has its absolute path. Settings that only permit what was stopped or
    refused are left out, so that a run can resume with others.
    """
    settings = flatten(config)
    settings["model.name"] = place_text(config.model.name)
    return {name: value for name, value in settings.items() if name not in PASSING}


def settings_in(directory: RunDirectory, config: Config) -> dict[str, Any]:
    """Return the same as kept by a run directory of any version."""
    return as_begun(run_settings(config), directory.manifest.settings)


def environment(model: ModelConfig) -> dict[str, str]:
    """Return what, besides versions, may change results."""
    able = processor_features()
    vectors = [n for n in sorted(able) if able[n] is True and VECTORS.match(n)]
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    return {
        "threads": str(torch.get_num_threads()),
        "device": "cpu",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": str(able.get("cpu_name", platform.machine())),
        "vectors": " ".join(vectors) or "none",
        "limits": " ".join(limits) or "none",
        "precision": compute_of(model, device_of(model)),
    } | gpu_environment()


def gpu_environment() -> dict[str, str]:
    """Return the same for any GPU, whose driver compiles code."""
    if not torch.cuda.is_available():
        return {}
    driver = ""
    with suppress(OSError):
        found = DRIVER_NUMBER.search(NVIDIA_DRIVER.read_text("utf-8", "replace"))
        driver = found[0] if found else ""
    return {
        "device": torch.cuda.get_device_name(),
        "cuda": str(torch.version.cuda or torch.version.hip),
        "cudnn": str(torch.backends.cudnn.version()),
        "driver": driver or "unknown",
    }
