"""Which teacher a pool gets by each rule, before any training: the command `probe`.

The pool is answered, or the answers of a run are taken. Then the teacher of every
context rule is asked a sample of its questions, and the teacher of the settings those
that every selection rule keeps. Without `answers` no gold answer is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from neuron_opsd.analysis.inputs import Place
from neuron_opsd.answers.readers import readers_for
from neuron_opsd.answers.verifier import shared_verifier
from neuron_opsd.config import Config
from neuron_opsd.config.tables import flatten
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.pipeline import centred
from neuron_opsd.probing.answered import (
    AnsweredPool,
    answer_pool,
    kept_by,
    scored_completions,
)
from neuron_opsd.probing.arms import FOLDER, Arm, Listening, hear_arm
from neuron_opsd.probing.borrowing import Borrowing, lent_by
from neuron_opsd.probing.columns import Judge
from neuron_opsd.probing.files import check_files, write_probe
from neuron_opsd.probing.labels import judge_of
from neuron_opsd.probing.request import (
    RANKED_PER_ASKED,
    TRAINING,
    WITHOUT_NEURONS,
    ProbeRequest,
    check_request,
    first_drawn,
    place_for,
    read_library,
    settings_for,
)
from neuron_opsd.probing.rules import Rules, rules_for
from neuron_opsd.probing.summary import Asked, Summary, summarise
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.records.beliefs import Belief
from neuron_opsd.results.probe import ProbeData
from neuron_opsd.runs.context import RunContext, keep_room, remarks, resolve
from neuron_opsd.runs.elsewhere import machines_for
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import POOL, environment, questions_hash, run_settings
from neuron_opsd.runs.machines import Machines
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.resolution import for_model
from neuron_opsd.stages.probing import Heard, Subject, belief_of, subject_of
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.folders import check_folder
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.verdicts import settle_equality

WRITTEN: Final = f"{FOLDER}/written"
"""Names what teachers wrote, where verdicts on it are kept."""
NO_PART: Final = (*TRAINING, "selection.", "contexts.rule", "contexts.source")
"""Beginnings of settings that nothing which is kept depends on."""

TAUGHT: Final = (
    *("contexts.answer", "contexts.content", "contexts.num_demonstrations"),
    *("selection.balance", "selection.keep_fraction"),
)
"""Settings that teachers, or selections, share whatever their rules."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Those of a pool that a probe works with."""

    library: tuple[Question, ...]
    """Those that are answered."""
    num_pool: int
    ranked: tuple[Question, ...]
    """Those that selection rules choose among."""
    sample: tuple[Question, ...]
    """Those that context rules are tried on, some of the ranked."""


def probe(request: ProbeRequest, config: Config, progress: Progress) -> ProbeData:
    """Probe a pool, and write what was found; the same call resumes.

    Raises:
        NeuronOpsdError: For anything that the user can mend.
    """
    check_request(request)
    check_folder(request.out, "run")
    check_files(request.out)
    shared_verifier().forget()
    place = place_for(request)
    config = settings_for(request, config, place)
    library, num_pool = read_library(request, config, place, progress.warn)
    ranked, sample = (
        first_drawn(library, count, config.seed, "sample")
        for count in (request.num_questions * RANKED_PER_ASKED, request.num_questions)
    )
    if request.answers is not None:
        judge_of(request.answers, ranked, config)  # so that its faults show early
    questions = Questions(library, num_pool, ranked, sample)
    with machines_for(config, progress) as machines:
        return probe_on(machines, request, config, place, questions, progress)


def probe_on(
    machines: Machines,
    request: ProbeRequest,
    config: Config,
    place: Place | None,
    questions: Questions,
    progress: Progress,
) -> ProbeData:
    """Probe where the settings say that the model answers."""
    tokenizer = load_tokenizer(config.model)
    own = for_model(config, tokenizer.facts, WITHOUT_NEURONS)
    library = questions.library
    chooses = any(question.choices for question in library)
    resolved = resolve(own, tokenizer, [request.out], chooses=chooses)
    check_sets(tokenizer, {POOL: library}, resolved, {POOL: request.pool})
    model = machines.load(resolved, tokenizer=tokenizer)
    with RunDirectory.open(
        request.out,
        probe_settings(resolved, request),
        inputs_of(library, config, place),
        environment={**environment(resolved.model), **machines.environment},
        warn=progress.warn,
    ) as directory:
        machines.on_others = directory.computed_on_others
        run = RunContext(directory, resolved, progress, machines)
        keep_room(run, model)
        for remark in remarks(model.facts, resolved, own):
            directory.warn(remark)
        cache = Borrowing(directory, place, lent_by(place))
        work = centred(Workspace(resolved, cache, run, machines), model, library)
        found = look(work, model, request, questions)
        data = replace(found.data, data_hashes={**directory.manifest.inputs})
        write_probe(replace(found, data=data), request.out)
        return data


def probe_settings(config: Config, request: ProbeRequest) -> dict[str, Any]:
    """Return all that what is kept in the folder depends on, by dotted name."""
    settings = {
        name: value
        for name, value in run_settings(config).items()
        if not name.startswith(NO_PART) or name.endswith(".max_new_tokens")
    }
    return settings | {
        "probe.questions": request.num_questions,
        "probe.library": request.library,
        "probe.completions": request.num_completions,
        "probe.write": request.num_written,
    }


def inputs_of(
    library: tuple[Question, ...], config: Config, place: Place | None
) -> dict[str, str]:
    """Return the hashes of what a probe reads."""
    found = {POOL: questions_hash(library), "model": model_fingerprint(config.model)}
    for name, own in lent_by(place).items():
        if place is not None:
            found[f"{name} of the run"] = place.manifest.outputs[own].sha256
    return found


def look(
    work: Workspace, model: LanguageModel, request: ProbeRequest, questions: Questions
) -> Summary:
    """Ask teachers, and put together what they say."""
    rules = rules_for(request.context_rules, request.selection_rules, model.facts)
    base = work.config.contexts.rule
    rules = replace(rules, contexts=tuple(dict.fromkeys((base, *rules.contexts))))
    asked = ask_teachers(work, model, request, questions, rules)
    judge: Judge | None = None
    if request.answers is not None:
        judge = judge_of(request.answers, questions.ranked, work.config)
    found = summarise(asked, judge, questions_hash(questions.ranked))
    data = replace(
        found.data,
        title=f"Teachers for {Path(request.pool).name}",
        model=model.facts.name,
        run="" if request.run is None else str(request.run),
        num_pool=questions.num_pool,
        num_library=len(questions.library),
        num_demonstrations=work.config.contexts.num_demonstrations,
        taught=taught(work.config),
        skipped=rules.skipped,
        command=request.command,
    )
    return replace(found, data=data)


def ask_teachers(
    work: Workspace,
    model: LanguageModel,
    request: ProbeRequest,
    questions: Questions,
    rules: Rules,
) -> Asked:
    """Have the pool answered, and ask the teachers of all rules. No label is read."""
    config, ranked = work.config, questions.ranked
    pool = answer_pool(work, model, questions.library, rules)
    scored = scored_completions(pool, ranked, config, request.num_completions)
    listening = Listening(
        work,
        model,
        {question.id: question for question in ranked},
        {name: ids for name, (_, ids) in scored.items()},
        request.num_written,
    )
    student = listening.student()
    arms = hear_arms(listening, rules.contexts, pool, questions, request.num_draws)
    gather = partial(subjects_of, pool=pool, scored=scored, arms=arms, config=config)
    if request.num_written:
        made_from = [f"{FOLDER}/{name}" for name in spoken_names(arms)]
        settle_equality(work, WRITTEN, ranked, gather, made_from)
    subjects, base = gather(ranked), config.contexts.rule
    beliefs = beliefs_of(subjects, student, arms[base])
    signals = pool.signals_of(ranked, beliefs, config)
    return Asked(
        subjects=subjects,
        sample=frozenset(question.id for question in questions.sample),
        student=student,
        arms=arms,
        kept={
            name: kept_by(name, signals, config, request.num_draws)
            for name in rules.selections
        },
        base=base,
    )


def taught(config: Config) -> dict[str, Any]:
    """Return the settings that what is found holds for, besides rules and model."""
    settings = flatten(config)
    return {name: settings[name] for name in TAUGHT}


def hear_arms(
    listening: Listening,
    rules: Sequence[str],
    pool: AnsweredPool,
    questions: Questions,
    num_draws: int,
) -> dict[str, Arm]:
    """Ask the teachers of all rules; that of the settings comes first.

    It is asked all that selection rules choose among.
    """
    base = listening.work.config.contexts.rule
    ranked, sample = pool.known_of(questions.ranked), pool.known_of(questions.sample)
    arms = {base: hear_arm(listening, base, (ranked, sample), pool.library, num_draws)}
    for rule in rules:
        if rule != base:
            wanted = (sample, sample)
            arms[rule] = hear_arm(listening, rule, wanted, pool.library, num_draws)
    return arms


def beliefs_of(
    subjects: Sequence[Subject], student: Mapping[str, Heard], base: Arm
) -> dict[str, Belief]:
    """Return what student and the settings' teacher answer, for rules that select."""
    teacher = base.draws[0]
    return {
        subject.question.id: belief_of(
            subject, student[subject.question.id], teacher[subject.question.id]
        )
        for subject in subjects
    }


def spoken_names(arms: Mapping[str, Arm]) -> list[str]:
    """Return what the outputs are called that hold what teachers said first."""
    return [f"{rule}-{n}" for rule, arm in arms.items() for n in range(len(arm.draws))]


def subjects_of(
    questions: Sequence[Question],
    pool: AnsweredPool,
    scored: Mapping[str, Any],
    arms: Mapping[str, Arm],
    config: Config,
) -> tuple[Subject, ...]:
    """Return questions with all answers that were given to them."""
    readers = readers_for(questions, config.answers, config.prompts.list_choices)
    spoken = [heard for arm in arms.values() for heard in (*arm.draws, *arm.others)]
    return tuple(
        subject_of(
            question,
            pool.signals.votes[question.id],
            scored[question.id][0] if question.id in scored else None,
            [
                answer
                for heard in spoken
                if question.id in heard
                for answer in heard[question.id].answers
            ],
            readers[question.id].same,
        )
        for question in questions
    )
