"""What an analysis reads: prepared runs, and their pools' gold answers.

Files are opened to be read and nothing is locked, so a run in progress is not
disturbed; each is compared with the SHA-256 that the manifest keeps of it.
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
"""Name under which a manifest keeps the hash of a model."""


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What a run directory holds of its pool."""

    name: str
    manifest: Manifest
    config: Config
    """Its settings in `SECTIONS`; the others are defaults."""
    rollouts: Sequence[records.Rollout]
    neurons: Sequence[records.NeuronSet]
    """In the order of the pool, as is the selection; read anew whenever gone over."""
    selection: Sequence[records.SelectionEntry]
    contexts: Sequence[records.TeacherContext]
    teacher_check: records.TeacherCheck | None
    verdicts: Sequence[Verdict] = ()
    """Which of the rollouts' answers are equal, where math-verify was asked."""
    medoids: Sequence[Medoid] = ()
    """Which of a question's rollouts its demonstration shows, where neurons say so."""
    beliefs: Sequence[Belief] = ()
    """What student and teacher answer to the questions, where a rule reads that."""

    @property
    def model(self) -> str:
        """Folder or id of the model that the run was started with."""
        return str(self.manifest.settings.get("model.name", ""))

    @property
    def pool_hash(self) -> str:
        """Hash of what the pool asks; the run's name where none is kept."""
        return self.manifest.inputs.get(POOL, self.name)


@dataclass(frozen=True, slots=True)
class LabelledPool:
    """The questions of a run's pool with their true answers."""

    questions: tuple[records.Question, ...]
    """In the order of the pool."""
    gold: records.GoldAnswers


def assign_answers(
    specs: Sequence[str], names: Sequence[str], flag: str = "--answers"
) -> Mapping[str, str | None]:
    """Return for every run the file with its pool's answers, `None` without one.

    ``NAME=FILE`` is for one run, ``FILE`` for all that have none of their own. `flag`
    is what the files were named with.
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
    """Read what a run, or a method of a comparison, has made of its pool."""
    place = place_of(folder)
    check_neurons(folder, place)
    # What a process is writing need not be whole yet. What is read here is compared
    # with its hash then; of all else that is large, the size tells enough.
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
    """Refuse a run whose method reads no neurons, of which an analysis speaks."""
    if needs_neurons(place.config) or place.holds("neurons"):
        return
    raise DataError(
        f"{folder} holds a run that reads no neurons (selection.rule is "
        f"{place.config.selection.rule}, contexts.rule is {place.config.contexts.rule}"
        "), but an analysis needs neuron counts; name a run of neuron-opsd"
    )


def read_labels(run: PreparedRun, source: str) -> LabelledPool:
    """Read the questions and gold answers of a run's pool.

    The file may hold other questions besides; those of the pool are found by id, or,
    where there are as many and no id is known, by their places. They must ask what the
    run was asked.
    """
    found = read_questions(source, config=run.config.questions, name=POOL)
    ids = [entry.question_id for entry in run.selection]
    by_id = {question.id: question for question in found.questions}
    gold = found.gold.answer_of
    if len(found.questions) == len(ids) and not by_id.keys() & {*ids}:
        # Names that rows without an id get from their file say nothing.
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
    """Refuse a file in which questions of a run are missing."""
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
    """Refuse a file whose questions are not those that a run was asked."""
    kept = run.manifest.inputs.get(POOL)
    if kept is not None and questions_hash(tuple(questions)) != kept:
        raise DataError(
            f"{source} has the ids of run {run.name}, but its questions or choices are "
            f"not those that the run was asked (their SHA-256 is not {kept[:12]}...); "
            "give the file that the run had as its --pool"
        )


def same_neurons(one: PreparedRun, other: PreparedRun) -> bool:
    """Whether the neuron sets of two runs can be compared."""
    models = [run.manifest.inputs.get(MODEL, run.model) for run in (one, other)]
    return models[0] == models[1] and one.config.neurons == other.config.neurons
