"""Which neurons get a section, and what the run's files say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.analysis.atlas.counting import Counts, Shape, blocks
from neuron_opsd.analysis.cases import Findings
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.enrichment import Enrichment
from neuron_opsd.method.statistics import BoolArray
from neuron_opsd.records import NeuronSet, Question
from neuron_opsd.results.atlas import (
    DEMONSTRATIONS,
    NUM_SHOWN,
    POOL,
    SELECTED,
    NeuronCard,
    PushedQuestion,
)

MOST_ASKED: Final = 40
NUM_QUESTIONS: Final = 5


def asked_ids(names: Sequence[str], shape: Shape) -> list[int]:
    """Return the ids of neurons named ``LAYER:NEURON``, both from 0.

    Raises:
        ConfigError: If one does not exist, or there are too many.
    """
    if len(names) > MOST_ASKED:
        raise ConfigError(
            f"--neurons names {len(names)} neurons, but a page shows {MOST_ASKED} of "
            "them at most; name fewer"
        )
    found = []
    for name in names:
        layer, _, neuron = name.partition(":")
        known = (layer + neuron).isascii() and layer.isdigit() and neuron.isdigit()
        if not known or (
            int(layer) >= shape.num_layers or int(neuron) >= shape.num_neurons
        ):
            raise ConfigError(
                f"--neurons names {name!r}, but a neuron is LAYER:NEURON with a layer "
                f"from 0 to {shape.num_layers - 1} and a neuron from 0 to "
                f"{shape.num_neurons - 1}, for example 3:141"
            )
        found.append(shape.id_of(int(layer), int(neuron)))
    return found


def choose(counts: Counts, asked: Sequence[int] = ()) -> dict[int, tuple[str, ...]]:
    """Return ids of neurons to show, ascending, with reasons from `WHY`."""
    reasons: dict[int, list[str]] = {neuron_id: ["asked"] for neuron_id in asked}
    for group, more, fewer in (
        (SELECTED, "more", "fewer"),
        (DEMONSTRATIONS, "shown", ""),
    ):
        if group in counts.groups:
            found = counts.enrichments[group]
            above = counts.groups[group] > found.expected
            for why, side in ((more, above), (fewer, ~above)):
                for one in surest(counts, group, side, NUM_SHOWN.get(why, 0)):
                    reasons.setdefault(one, []).append(why)
    order = np.lexsort((np.arange(counts.shape.size), -counts.pool))
    for one in order[: NUM_SHOWN["common"]].tolist():
        if counts.pool[one]:
            reasons.setdefault(one, []).append("common")
    return {one: tuple(reasons[one]) for one in sorted(reasons)}


def surest(counts: Counts, group: str, side: BoolArray, count: int) -> list[int]:
    """Return the neurons on one side of chance with the lowest p-values."""
    found = counts.enrichments[group]
    places = np.flatnonzero(found.found & side)
    away = np.abs(counts.groups[group] - found.expected)[places]
    order = np.lexsort((places, -away, found.p[places]))
    return [int(one) for one in places[order[:count]]]


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """The questions that each of some neurons pushed most."""

    scores: NDArray[np.float32]
    """``(neurons, NUM_QUESTIONS)``, descending; minus infinity for none."""
    places: NDArray[np.int64]
    """Their places in the pool."""


def best_questions(neurons: Sequence[NeuronSet], ids: Sequence[int]) -> Best:
    """Find the questions that each neuron pushed most; ties go to earlier ones."""
    wanted = np.array(ids, dtype=np.int64)
    scores = np.full((len(ids), NUM_QUESTIONS), -np.inf, dtype=np.float32)
    places = np.zeros((len(ids), NUM_QUESTIONS), dtype=np.int64)
    for span, block in blocks(neurons):
        found = np.full((len(ids), len(block)), -np.inf, dtype=np.float32)
        for column, one in enumerate(block):
            at = np.searchsorted(one.neuron_ids, wanted)
            at[at == len(one.neuron_ids)] = 0
            if len(one.neuron_ids):
                held = one.neuron_ids[at] == wanted
                found[held, column] = one.scores[at[held]]
        here = np.broadcast_to(np.arange(span.start, span.stop), found.shape)
        scores = np.concatenate([scores, found], axis=1)
        places = np.concatenate([places, here], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :NUM_QUESTIONS]
        scores = np.take_along_axis(scores, order, axis=1)
        places = np.take_along_axis(places, order, axis=1)
    return Best(scores, places)


def make_cards(
    found: Findings,
    counts: Counts,
    texts: Mapping[str, Question],
    chosen: Mapping[int, tuple[str, ...]],
) -> tuple[NeuronCard, ...]:
    """Return what the run's files say of the shown neurons."""
    best = best_questions(found.run.neurons, list(chosen))
    return tuple(
        card_of(
            counts,
            neuron_id,
            why,
            tuple(
                pushed(found, counts, texts, int(place), float(score))
                for score, place in zip(best.scores[row], best.places[row], strict=True)
                if score > -np.inf
            ),
        )
        for row, (neuron_id, why) in enumerate(chosen.items())
    )


def pushed(
    found: Findings,
    counts: Counts,
    texts: Mapping[str, Question],
    place: int,
    score: float,
) -> PushedQuestion:
    """Return one question that a neuron pushed."""
    name = found.columns.ids[place]
    return PushedQuestion(
        question_id=name,
        question=texts[name].text if name in texts else "",
        answer=found.columns.captured[name].answer,
        score=score,
        groups=tuple(
            group for group, inside in counts.members.groups.items() if inside[place]
        ),
    )


def card_of(
    counts: Counts,
    neuron_id: int,
    why: tuple[str, ...],
    questions: tuple[PushedQuestion, ...],
) -> NeuronCard:
    """Return a neuron's counts, and what chance would give."""
    layer, neuron = counts.shape.place(neuron_id)
    own = {name: int(counts.of(name)[neuron_id]) for name in counts.members.names}
    return NeuronCard(
        layer=layer,
        neuron=neuron,
        why=why,
        counts=own,
        lifts={name: lift(counts, name, neuron_id) for name in counts.groups},
        expected=numbers(counts.enrichments, "expected", neuron_id),
        q=numbers(counts.enrichments, "q", neuron_id),
        mean_score=float(counts.scores[neuron_id] / max(1, own[POOL])),
        questions=questions,
    )


def lift(counts: Counts, group: str, neuron_id: int) -> float:
    """Return a group's share of holders over the pool's."""
    held = int(counts.pool[neuron_id]) / counts.size_of(POOL)
    own = int(counts.groups[group][neuron_id]) / counts.size_of(group)
    return own / held if held else float("nan")


def numbers(
    found: Mapping[str, Enrichment], name: str, neuron_id: int
) -> dict[str, float]:
    """Return one column of every group's comparison for one neuron."""
    return {group: float(getattr(one, name)[neuron_id]) for group, one in found.items()}
