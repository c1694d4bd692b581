"""The `probe` command: which teacher each rule gives a pool, before training.

The pool is answered, or a run's answers are used. Then each context rule's teacher is
asked a sample, and the settings' teacher what each selection rule keeps. Without
`answers` no gold answer is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Unpack

from neuron_opsd.analysis.places import Place
from neuron_opsd.answers.readers import readers_for
from neuron_opsd.answers.verifier import shared_verifier
from neuron_opsd.config import Config
from neuron_opsd.config.tables import Settings, as_config, flatten
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.pipeline import centred
from neuron_opsd.probing.answered import (
    AnsweredPool,
    Borrowing,
    answer_pool,
    kept_by,
    lent_by,
    scored_completions,
)
from neuron_opsd.probing.arms import FOLDER, Arm, Listening, hear_arm
from neuron_opsd.probing.columns import Judge
from neuron_opsd.probing.labels import judge_of
from neuron_opsd.probing.request import (
    RANKED_PER_ASKED,
    TRAINING,
    Choices,
    ProbeRequest,
    Rules,
    check_request,
    first_drawn,
    place_for,
    read_library,
    request_of,
    resolved_for,
    rules_for,
    settings_for,
)
from neuron_opsd.probing.summary import (
    Asked,
    Summary,
    check_files,
    summarise,
    write_probe,
)
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.records import Question
from neuron_opsd.records.beliefs import Belief
from neuron_opsd.results.probe import ProbeData
from neuron_opsd.runs.context import RunContext, keep_room, remarks
from neuron_opsd.runs.elsewhere import machines_for
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import POOL, environment, questions_hash, run_settings
from neuron_opsd.runs.machines import Machines
from neuron_opsd.runs.reporting import public_name
from neuron_opsd.stages.probing import Heard, Subject, belief_of, subject_of
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.folders import check_folder
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.verdicts import settle_equality

WRITTEN: Final = f"{FOLDER}/written"
"""Name for verdicts on what teachers wrote."""
NO_PART: Final = (*TRAINING, "selection.", "contexts.rule", "contexts.source")
"""Prefixes of settings that nothing kept depends on."""

TAUGHT: Final = (
    *("contexts.answer", "contexts.content", "contexts.num_demonstrations"),
    *("selection.balance", "selection.keep_fraction"),
)
"""Settings that all teachers, or selections, share."""


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions that a probe works with."""

    library: tuple[Question, ...]
    """To be answered."""
    num_pool: int
    ranked: tuple[Question, ...]
    """For selection rules to choose among."""
    sample: tuple[Question, ...]
    """Those of `ranked` to try context rules on."""


def probe(
    pool: str | Path,
    out: str | Path,
    settings: Settings,
    progress: Progress = QUIET,
    **choices: Unpack[Choices],
) -> ProbeData:
    """Find out before training which signals make the best teacher on a pool.

    The same call resumes a stopped probe.

    Args:
        pool: Unlabelled questions; answers in the file are not read.
        out: Folder for `probe.json`, `probe.csv` and `probe.html`.
        settings: Those of the run to follow; they name the model, unless `run` does.
        progress: Called with every stage.
        choices: What to try, and on how much.

    Raises:
        NeuronOpsdError: For anything that the user can fix.
    """
    request, config = request_of(pool, out, choices), as_config(settings)
    check_request(request)
    check_folder(request.out, "run")
    check_files(request.out)
    shared_verifier().forget()
    place = place_for(request)
    config = settings_for(request, config, place)
    library, num_pool = read_library(request, config, place, progress.warn)
    ranked, sample = (
        first_drawn(library, count, config.seed, "sample")
        for count in (request.questions * RANKED_PER_ASKED, request.questions)
    )
    if request.answers is not None:
        judge_of(request.answers, ranked, config)  # to show its faults early
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
    """Probe on the machines that the settings name."""
    library = questions.library
    begun = [request.out]
    tokenizer, own, resolved = resolved_for(request, config, library, begun)
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
        summary = look(work, model, request, questions)
        data = replace(summary.data, data_hashes={**directory.manifest.inputs})
        write_probe(replace(summary, data=data), request.out)
        return data


def probe_settings(config: Config, request: ProbeRequest) -> dict[str, Any]:
    """Return the settings that the folder depends on, by dotted name."""
    settings = {
        name: value
        for name, value in run_settings(config).items()
        if not name.startswith(NO_PART) or name.endswith(".max_new_tokens")
    }
    return settings | {
        "probe.questions": request.questions,
        "probe.library": request.library,
        "probe.completions": request.completions,
        "probe.write": request.write,
    }


def inputs_of(
    library: tuple[Question, ...], config: Config, place: Place | None
) -> dict[str, str]:
    """Return the hashes of a probe's inputs."""
    found = {POOL: questions_hash(library), "model": model_fingerprint(config.model)}
    if place is not None:
        found |= {f"{n} of the run": place.hash_of(n) for n in lent_by(place)}
    return found


def look(
    work: Workspace, model: LanguageModel, request: ProbeRequest, questions: Questions
) -> Summary:
    """Ask the teachers, and compile what they say."""
    rules = rules_for(request.context_rules, request.selection_rules, model.facts)
    base = work.config.contexts.rule
    rules = replace(rules, contexts=tuple(dict.fromkeys((base, *rules.contexts))))
    asked = ask_teachers(work, model, request, questions, rules)
    judge: Judge | None = None
    if request.answers is not None:
        judge = judge_of(request.answers, questions.ranked, work.config)
    found = summarise(asked, judge, questions_hash(questions.ranked))
    settings = flatten(work.config)
    data = replace(
        found.data,
        title=f"Teachers for {Path(request.pool).name}",
        model=public_name(model.facts.name),
        run="" if request.run is None else str(request.run),
        num_pool=questions.num_pool,
        num_library=len(questions.library),
        num_demonstrations=work.config.contexts.num_demonstrations,
        taught={name: settings[name] for name in TAUGHT},
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
    """Have the pool answered and all teachers asked, without any label."""
    config, ranked = work.config, questions.ranked
    pool = answer_pool(work, model, questions.library, rules)
    scored = scored_completions(pool, ranked, config, request.completions)
    listening = Listening(
        work,
        model,
        {question.id: question for question in ranked},
        {name: ids for name, (_, ids) in scored.items()},
        request.write,
    )
    student, base = listening.student(), config.contexts.rule
    some = pool.known_of(questions.sample)
    arms = {}
    for rule in rules.contexts:
        # The settings' teacher is asked all that selection rules choose among.
        wanted = pool.known_of(ranked) if rule == base else some
        own = wanted, some
        arms[rule] = hear_arm(listening, rule, own, pool.library, request.draws)
    gather = partial(subjects_of, pool=pool, scored=scored, arms=arms, config=config)
    if request.write:
        made_from = [
            f"{FOLDER}/{rule}-{number}"
            for rule, arm in arms.items()
            for number in range(len(arm.draws))
        ]
        settle_equality(work, WRITTEN, ranked, gather, made_from)
    subjects = gather(ranked)
    beliefs = beliefs_of(subjects, student, arms[base])
    signals = pool.signals_of(ranked, beliefs, config)
    return Asked(
        subjects=subjects,
        sample=frozenset(question.id for question in questions.sample),
        student=student,
        arms=arms,
        kept={
            name: kept_by(name, signals, config, request.draws)
            for name in rules.selections
        },
        base=base,
    )


def beliefs_of(
    subjects: Sequence[Subject], student: Mapping[str, Heard], base: Arm
) -> dict[str, Belief]:
    """Return answers of student and settings' teacher, for selection."""
    teacher = base.draws[0]
    return {
        subject.question.id: belief_of(
            subject, student[subject.question.id], teacher[subject.question.id]
        )
        for subject in subjects
    }


def subjects_of(
    questions: Sequence[Question],
    pool: AnsweredPool,
    scored: Mapping[str, Any],
    arms: Mapping[str, Arm],
    config: Config,
) -> tuple[Subject, ...]:
    """Return questions with all answers given."""
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
