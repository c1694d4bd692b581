"""What an analysis reads: prepared runs, and their pools' gold answers.

In a comparison the methods of a group share rollouts and neurons, and each has a folder
with its selection and contexts; that folder is what stands for a run. Files are opened
to be read and nothing is locked, so a run in progress is not disturbed; each is
compared with the SHA-256 that the manifest keeps of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from neuron_opsd import records
from neuron_opsd.answers.verifier import Verdict
from neuron_opsd.comparison.run_group import cell_folder, changed_capture, neurons_name
from neuron_opsd.config import Config
from neuron_opsd.config.tables import config_from_table
from neuron_opsd.data.questions import QuestionFile, read_questions
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.known import MEDOIDS_NAME
from neuron_opsd.methods import needs_contexts, needs_medoids, needs_neurons
from neuron_opsd.records.states import Medoid
from neuron_opsd.runs.inputs import questions_hash
from neuron_opsd.runs.prepare import inside
from neuron_opsd.storage import codecs
from neuron_opsd.storage.caching import ignore
from neuron_opsd.storage.files import sha256_file
from neuron_opsd.storage.folders import METHOD_FOLDERS
from neuron_opsd.storage.integrity import changed_sources, faults, quick_fault
from neuron_opsd.storage.lock import HOLDER
from neuron_opsd.storage.manifest import MANIFEST, Manifest, kept_name, read_manifest
from neuron_opsd.storage.verdicts import verdicts_codec, verdicts_name

T = TypeVar("T")

POOL, MODEL = "pool", "model"
"""Names under which a manifest keeps the hashes of these inputs."""

SECTIONS = ("answers", "contexts", "neurons", "prompts", "questions", "selection")
"""Settings that decide how a run's rollouts and neurons are read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the outputs of a prepared run are, and under what names."""

    folder: Path
    """Of the manifest, which names every output and its file."""
    manifest: Manifest
    config: Config
    """The run's settings in `SECTIONS`; the others are defaults."""
    neurons: str = "neurons"
    medoids: str = MEDOIDS_NAME
    method: str = ""
    """Folder, within, of what no other method shares; empty for a run of its own."""

    def own(self, name: str) -> str:
        """Return the name of an output that is this run's alone."""
        return inside(self.method, name)


def place_of(folder: Path) -> Place:
    """Find the outputs of a run, or of a method of a comparison."""
    group = group_of(folder)
    if group is not None:
        return place_in_group(group, cell_folder(folder.resolve().name))
    manifest = read_manifest(folder)
    if any(name.startswith(f"{METHOD_FOLDERS}/") for name in manifest.outputs):
        raise DataError(
            f"{folder} is a part of a comparison, which several methods share; name "
            f"the folder of one, for example {folder / cell_folder('neuron-opsd')}"
        )
    return Place(folder, manifest, settings_of(manifest.settings))


def group_of(folder: Path) -> Path | None:
    """Return the group that a method's folder is in, `None` for other folders."""
    parent = folder.resolve().parent
    is_method = parent.name == METHOD_FOLDERS and (parent.parent / MANIFEST).is_file()
    return parent.parent if is_method else None


def place_in_group(group: Path, method: str) -> Place:
    """Find the outputs of one method among those of its group."""
    manifest = read_manifest(group)
    shared = Place(group, manifest, settings_of(manifest.settings))
    known = read_output(
        shared, f"{method}/settings", codecs.json_codec(f"{method}/settings.json")
    )
    config = settings_of(known)
    if not needs_contexts(config):
        raise DataError(
            f"{group / method} is of a method without demonstrations, of which there "
            "is nothing to tell; name one of a method that shows some"
        )
    neurons = neurons_name(shared.config, config)
    medoids = f"{MEDOIDS_NAME}{changed_capture(shared.config, config)}"
    return Place(group, manifest, config, neurons, medoids, method)


def name_of(folder: Path) -> str:
    """Return what a run is called: its folder, in a comparison with those above."""
    if group_of(folder) is None:
        return folder.name if folder.name not in ("", "..") else folder.resolve().name
    *_, source, seed, start, _, method = folder.resolve().parts
    return "-".join((source, seed, start, method))


def named_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the folders of runs by their names."""
    if not folders:
        raise ConfigError("no run is named; give the folder of at least one")
    runs: dict[str, Path] = {}
    for folder in folders:
        name = name_of(folder)
        if name in runs:
            raise ConfigError(
                f"two runs are named {name!r}: {runs[name]} and {folder}; runs are "
                "told apart by the names of their folders, so rename one of them"
            )
        runs[name] = folder
    return runs


def read_output(place: Place, name: str, codec: codecs.Codec[T]) -> T:
    """Read one output of a run."""
    output = place.manifest.outputs.get(name)
    if output is None or not (place.folder / output.file).is_file():
        raise DataError(
            f"{place.folder} has no {codec.file_name}: the run is not prepared yet; "
            "the command that started it resumes it"
        )
    path = place.folder / output.file
    if sha256_file(path) != output.sha256:
        raise DataError(
            f"{path} is not as the run wrote it; the command that started the run "
            "computes it again"
        )
    other = changed_sources(output, place.manifest)
    if other:
        raise DataError(
            f"{path} {other}; the command that started the run computes it again"
        )
    return codec.load(path)


def settings_of(flat: Mapping[str, Any]) -> Config:
    """Return the method and the settings of `SECTIONS` that are kept by name."""
    table: dict[str, Any] = {"method": flat["method"]} if "method" in flat else {}
    for dotted, value in flat.items():
        section, _, field = dotted.partition(".")
        if section in SECTIONS and field:
            table.setdefault(section, {})[field] = value
    return config_from_table(table)


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What a run directory holds of its pool."""

    name: str
    manifest: Manifest
    config: Config
    """Its settings in `SECTIONS`; the others are defaults."""
    rollouts: Sequence[records.Rollout]
    neurons: Sequence[records.NeuronSet]
    """In the order of the pool, as is the selection."""
    selection: Sequence[records.SelectionEntry]
    contexts: Sequence[records.TeacherContext]
    teacher_check: records.TeacherCheck | None
    verdicts: Sequence[Verdict] = ()
    """Which of the rollouts' answers are equal, where math-verify was asked."""
    medoids: Sequence[Medoid] = ()
    """Which of a question's rollouts its demonstration shows, where neurons say so."""

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
    specs: Sequence[str], names: Sequence[str]
) -> Mapping[str, str | None]:
    """Return for every run the file with its pool's answers, `None` without one.

    ``NAME=FILE`` is for one run, ``FILE`` for all that have none of their own.
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
                f"--answers is {spec!r}, but it must be NAME=FILE with the name of a "
                f"run, here {', '.join(names)}; or FILE alone for all runs"
            )
        if name in own:
            raise ConfigError(
                f"--answers names {name!r} twice, for {own[name]} and {file}; give "
                "each run one file"
            )
        own[name] = file
    if len(shared) > 1:
        raise ConfigError(
            f"--answers gives {len(shared)} files without a name, {shared[0]} and "
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
    neurons = read_output(place, place.neurons, codecs.NEURONS)
    if len(neurons) < 2:
        raise DataError(
            f"{folder} holds {len(neurons)} questions, too few to compare any; analyse "
            "a run with a larger pool"
        )
    teacher_check = None
    checked = kept_name(place.own("teacher_check"), place.manifest.outputs)
    if checked in place.manifest.outputs:
        teacher_check = read_output(place, checked, codecs.TEACHER_CHECK)
    equal = verdicts_name("rollouts")
    medoids: Sequence[Medoid] = ()
    if needs_medoids(place.config):
        medoids = read_output(place, place.medoids, codecs.MEDOIDS)
    verdicts: Sequence[Verdict] = ()
    if equal in place.manifest.outputs:
        verdicts = read_output(place, equal, verdicts_codec(equal))
    return PreparedRun(
        name=name,
        manifest=place.manifest,
        config=place.config,
        rollouts=read_output(place, "rollouts", codecs.ROLLOUTS),
        neurons=neurons,
        selection=read_output(place, place.own("selection"), codecs.SELECTION),
        contexts=read_output(place, place.own("contexts"), codecs.CONTEXTS),
        teacher_check=teacher_check,
        verdicts=verdicts,
        medoids=medoids,
    )


def check_neurons(folder: Path, place: Place) -> None:
    """Refuse a run whose method reads no neurons, of which an analysis speaks."""
    if needs_neurons(place.config) or place.neurons in place.manifest.outputs:
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
