"""What an analysis reads: prepared runs, and their pools' gold answers.

Files are read without locks, so a running run is not disturbed; each is checked against
its SHA-256 in the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuron_opsd import records
from neuron_opsd.analysis.places import Place, place_of, read_output
from neuron_opsd.answers.verifier import Verdict
from neuron_opsd.beliefs import BELIEFS, DIVERGENCES
from neuron_opsd.config import Config
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.known import MEDOIDS_NAME
from neuron_opsd.methods import needs_medoids, needs_neurons
from neuron_opsd.records.beliefs import Belief, Medoid
from neuron_opsd.runs.inputs import POOL, questions_hash
from neuron_opsd.storage import codecs
from neuron_opsd.storage.caching import ignore
from neuron_opsd.storage.integrity import faults, quick_fault
from neuron_opsd.storage.lock import HOLDER
from neuron_opsd.storage.manifest import Manifest, kept_name
from neuron_opsd.storage.stored_neurons import STORED_NEURONS
from neuron_opsd.storage.verdicts import verdicts_codec, verdicts_name

MODEL = "model"
"""Name of the model's hash in a manifest."""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What a run directory holds of its pool."""

    name: str
    manifest: Manifest
    config: Config
    """Those in `SECTIONS`, else defaults."""
    rollouts: Sequence[records.Rollout]
    neurons: Sequence[records.NeuronSet]
    """In pool order, as is the selection; reread on each pass."""
    selection: Sequence[records.SelectionEntry]
    contexts: Sequence[records.TeacherContext]
    teacher_check: records.TeacherCheck | None
    verdicts: Sequence[Verdict] = ()
    """math-verify's, on which answers are equal."""
    medoids: Sequence[Medoid] = ()
    """Which rollout a question's demonstration shows, if neurons decide."""
    beliefs: Sequence[Belief] = ()
    """Answers of student and teacher, if a rule reads them."""

    @property
    def model(self) -> str:
        """Folder or id of the model that the run started with."""
        return str(self.manifest.settings.get("model.name", ""))

    @property
    def pool_hash(self) -> str:
        """Hash of the pool's questions, else the run's name."""
        return self.manifest.inputs.get(POOL, self.name)


@dataclass(frozen=True, slots=True)
class LabelledPool:
    """The questions of a run's pool with their gold answers."""

    questions: tuple[records.Question, ...]
    """In pool order."""
    gold: records.GoldAnswers


def assign_answers(
    specs: Sequence[str], names: Sequence[str], flag: str = "--answers"
) -> Mapping[str, str | None]:
    """Return each run's file of answers, or `None`.

    ``NAME=FILE`` is for one run, ``FILE`` for all others. `flag` is the option that
    errors name.
    """
    own: dict[str, str] = {}
    shared: list[str] = []
    for spec in specs:
        name, equals, file = spec.partition("=")
        if not equals or (name not in names and Path(spec).is_file()):
            shared.append(spec)
            continue
        if name not in names or not file:
            raise ConfigError(
                f"{flag} is {spec!r}, but it must be NAME=FILE with the name of a "
                f"run, here {', '.join(names)}; or FILE alone for all runs"
            )
        if name in own:
            raise ConfigError(
                f"{flag} names {name!r} twice, for {own[name]} and {file}; give "
                "each run one file"
            )
        own[name] = file
    if len(shared) > 1:
        raise ConfigError(
            f"{flag} gives {len(shared)} files without a name, {shared[0]} and "
            f"{shared[1]}; write NAME=FILE, NAME being that of a run's folder"
        )
    rest = shared[0] if shared else None
    return {name: own.get(name, rest) for name in names}


def read_run(
    name: str, folder: Path, warn: Callable[[str], None] = ignore
) -> PreparedRun:
    """Read what a run, or a method of a comparison, made of its pool."""
    place = place_of(folder)
    check_neurons(folder, place)
    # Files of a running process may be incomplete. Those read here are checked by
    # hash anyway; for other large ones the size is enough.
    if not (place.folder / HOLDER).exists():
        for line in faults(place.folder, place.manifest, quick_fault).values():
            warn(line)
    neurons = read_output(place, "neurons", STORED_NEURONS)
    if len(neurons) < 2:
        raise DataError(
            f"{folder} holds {len(neurons)} questions, too few to compare any; analyse "
            "a run with a larger pool"
        )
    checked = kept_name(place.own("teacher_check"), place.manifest.outputs)
    equal = verdicts_name("rollouts")
    return PreparedRun(
        name=name,
        manifest=place.manifest,
        config=place.config,
        rollouts=read_output(place, "rollouts", codecs.ROLLOUTS),
        neurons=neurons,
        selection=read_output(place, "selection", codecs.SELECTION),
        contexts=read_output(place, "contexts", codecs.CONTEXTS),
        teacher_check=read_output(place, checked, codecs.TEACHER_CHECK)
        if place.holds(checked)
        else None,
        verdicts=read_output(place, equal, verdicts_codec(equal))
        if place.holds(equal)
        else (),
        medoids=read_output(place, MEDOIDS_NAME, codecs.MEDOIDS)
        if needs_medoids(place.config)
        else (),
        beliefs=[
            belief
            for name in (BELIEFS, DIVERGENCES)
            if place.holds(name)
            for belief in read_output(place, name, codecs.BELIEFS)
        ],
    )


def check_neurons(folder: Path, place: Place) -> None:
    """Refuse a run that reads no neurons."""
    if needs_neurons(place.config) or place.holds("neurons"):
        return
    raise DataError(
        f"{folder} holds a run that reads no neurons (selection.rule is "
        f"{place.config.selection.rule}, contexts.rule is {place.config.contexts.rule}"
        "), but an analysis needs neuron counts; name a run of neuron-opsd"
    )


def read_labels(run: PreparedRun, source: str) -> LabelledPool:
    """Read the questions and gold answers of a run's pool.

    The file may hold others. They are matched by id, or by position if there are as
    many and no id matches, and must ask the same.
    """
    found = read_questions(source, config=run.config.questions, name=POOL)
    ids = [entry.question_id for entry in run.selection]
    by_id = {question.id: question for question in found.questions}
    gold = found.gold.answer_of
    if len(found.questions) == len(ids) and not by_id.keys() & {*ids}:
        # Ids made up for rows without one mean nothing.
        pairs = list(zip(ids, found.questions, strict=True))
        gold = {name: gold[q.id] for name, q in pairs if q.id in gold}
        by_id = {name: replace(q, id=name) for name, q in pairs}
    check_ids(run, source, [i for i in ids if i not in by_id], found)
    questions = tuple(by_id[i] for i in ids)
    check_texts(run, source, questions)
    unanswered = [i for i in ids if i not in gold]
    if unanswered:
        raise DataError(
            f"{source}: {len(unanswered)} of the {len(ids)} questions of run "
            f"{run.name} have no answer, first {unanswered[0]}; fill the column "
            "answer, or leave --answers out"
        )
    return LabelledPool(questions, records.GoldAnswers({i: gold[i] for i in ids}))


def check_ids(
    run: PreparedRun, source: str, missing: Sequence[str], found: QuestionFile
) -> None:
    """Refuse a file that lacks questions of a run."""
    if missing:
        raise DataError(
            f"{source} holds {len(found.questions)} questions, but not {len(missing)} "
            f"of the {len(run.selection)} that run {run.name} answered, first "
            f"{missing[0]}; give the file that the run had as its --pool, or one with "
            "the same ids"
        )


def check_texts(
    run: PreparedRun, source: str, questions: Sequence[records.Question]
) -> None:
    """Refuse a file whose questions differ from the run's."""
    kept = run.manifest.inputs.get(POOL)
    if kept is not None and questions_hash(tuple(questions)) != kept:
        raise DataError(
            f"{source} has the ids of run {run.name}, but its questions or choices are "
            f"not those that the run was asked (their SHA-256 is not {kept[:12]}...); "
            "give the file that the run had as its --pool"
        )


def same_neurons(one: PreparedRun, other: PreparedRun) -> bool:
    """Return whether the neuron sets of two runs are comparable."""
    models = [run.manifest.inputs.get(MODEL, run.model) for run in (one, other)]
    return models[0] == models[1] and one.config.neurons == other.config.neurons
