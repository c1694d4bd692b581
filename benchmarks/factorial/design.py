"""What was written down before the run: arms, families of effects, and the recipe.

Nothing here knows a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from benchmarks.factorial.effects import (
    Hypothesis,
    Scores,
    difference,
    factors,
    interaction,
    mean,
)
from neuron_opsd.results.comparison import BASE, FORM
from neuron_opsd.results.run import PROMPTED

CONTEXTS: Final = ("nearest", "question", "same-answer", "words", "random", "fixed")
SELECTIONS: Final = ("all", "random", "fewest", "balanced", "shift")
BOTH: Final = ("nearest", "random")
"""Contexts that every selection is trained with."""
RIVALS: Final = {"lmsi": "lmsi-1e-4", "ttrl": "ttrl-1e-4", "intuitor": "intuitor-1e-5"}
"""Every rival at its own rate, chosen without labels by `rates`."""
OURS: Final = (
    *(f"all-{context}" for context in CONTEXTS),
    *(f"{one}-{other}" for one in SELECTIONS[1:] for other in BOTH),
)
"""Arms of the method itself."""
IDEAS: Final = (
    "two-contexts",
    "four-contexts",
    "eight-shown",
    "nearest-1e-4",
    "voted-shown",
)
"""Arms beside the experiment, each compared with the whole pool x nearest."""
FOLLOW_UP: Final = "two-contexts"
"""The idea that was trained again with the other seeds."""
MORE_SELECTIONS: Final = (
    "divergence-nearest",
    "entropy-nearest",
    "vote-nearest",
    "medoids-nearest",
    "teachable-nearest",
)
"""Balanced fifths by the other signals, each compared with a random fifth."""
BEST_SELECTION: Final = "teachable-nearest"
"""The one of them that was trained again with two other seeds."""
BESIDE: Final = (*IDEAS, *MORE_SELECTIONS)
"""Arms that are no part of the experiment."""
LEAST: Final = 0.01
LEAST_RECIPE: Final = 0.03


def hypotheses() -> list[Hypothesis]:
    """Return every effect that was written down, in its family."""
    families = (
        of_contexts,
        of_selections,
        of_both,
        of_ideas,
        of_follow_up,
        of_more_selections,
        of_best_selection,
    )
    return [effect for family in families for effect in family()]


def of_contexts() -> Iterator[Hypothesis]:
    """Yield what the teacher is shown: the main effect, and every rule by itself."""
    shown, plain = (factors(SELECTIONS, [context]) for context in BOTH)
    name = "nearest above random, mean over selections"
    yield Hypothesis("contexts", name, mean(shown, plain))
    for other in ("words", "same-answer"):
        effect = difference("all-nearest", f"all-{other}")
        yield Hypothesis("contexts", f"nearest above {other}, whole pool", effect)
    for context in CONTEXTS:
        if context != "random":
            effect = difference(f"all-{context}", "all-random")
            yield Hypothesis("contexts, each", f"{context} above random", effect)
    effect = difference("all-question", "all-same-answer")
    yield Hypothesis("contexts, each", "question above same-answer", effect)
    yield Hypothesis(
        "contexts, each",
        "question above words",
        difference("all-question", "all-words"),
    )


def of_selections() -> Iterator[Hypothesis]:
    """Yield which questions are trained on: main effects over both contexts."""
    plain = factors(["random"], BOTH)
    for selection in ("fewest", "balanced", "shift"):
        name = f"{selection} fifth above a random fifth"
        effect = mean(factors([selection], BOTH), plain)
        yield Hypothesis("selections", name, effect)
    effect = mean(factors(["all"], BOTH), plain)
    yield Hypothesis("pool", "whole pool above a random fifth", effect)


def of_both() -> Iterator[Hypothesis]:
    """Yield how much more contexts do under a selection than under a random one."""
    for selection in ("all", "fewest", "balanced", "shift"):
        effect = interaction(
            f"{selection}-nearest",
            f"{selection}-random",
            "random-nearest",
            "random-random",
        )
        yield Hypothesis("interaction", f"nearest under {selection}", effect)


def of_ideas() -> Iterator[Hypothesis]:
    """Yield what was thought of beside the experiment."""
    for arm in IDEAS:
        effect = difference(arm, "all-nearest")
        yield Hypothesis("ideas", f"{arm} above all-nearest", effect)


def of_follow_up() -> Iterator[Hypothesis]:
    """Yield what was written down for the other seeds of one idea."""
    for other in ("all-nearest", RIVALS["lmsi"]):
        effect = difference(FOLLOW_UP, other)
        yield Hypothesis("follow-up", f"{FOLLOW_UP} above {other}", effect)


def of_more_selections() -> Iterator[Hypothesis]:
    """Yield the selections by signals that the experiment leaves out."""
    for arm in MORE_SELECTIONS:
        effect = difference(arm, "random-nearest")
        yield Hypothesis("more selections", f"{arm} above random-nearest", effect)


def of_best_selection() -> Iterator[Hypothesis]:
    """Yield what was written down for the other seeds of one selection."""
    effect = difference(BEST_SELECTION, "random-nearest")
    name = f"{BEST_SELECTION} above random-nearest"
    yield Hypothesis("selection follow-up", name, effect)


def of_forgetting() -> Iterator[Hypothesis]:
    """Yield what every arm of ours keeps on sets of other domains."""
    for arm in OURS:
        yield Hypothesis("other sets", f"{arm} above {BASE}", difference(arm, BASE))


def of_recipe(arm: str) -> Iterator[Hypothesis]:
    """Yield the chosen recipe above controls and rivals."""
    references = {
        BASE: LEAST_RECIPE,
        FORM: LEAST_RECIPE,
        PROMPTED: LEAST,
        "ema-only": LEAST,
        **dict.fromkeys(RIVALS.values(), LEAST),
    }
    for reference, least in references.items():
        effect = difference(arm, reference)
        yield Hypothesis("recipe", f"{arm} above {reference}", effect, least)


CANDIDATES: Final = (
    "all-nearest",
    "all-question",
    "all-same-answer",
    "all-fixed",
    "random-nearest",
    "balanced-nearest",
    "shift-nearest",
)
"""What may become the recipe for short answers."""


def chosen_recipe(sources: Mapping[str, Scores]) -> str:
    """Return the candidate with the highest mean on the questions it is chosen on.

    The mean is over sources, of all seeds, on every second question; what is said of it
    then is of the others, so that the choice does not flatter it.
    """

    def value(arm: str) -> float:
        known = [scores[arm] for scores in sources.values() if arm in scores]
        if len(known) < len(sources):
            return -np.inf
        return float(np.mean([np.mean([*seeds.values()]) for seeds in known]))

    return max(CANDIDATES, key=value)


def every_second(sources: Mapping[str, Scores], first: int) -> dict[str, Scores]:
    """Return the scores of every second question, from the first or the second on."""
    return {
        name: {
            arm: {seed: row[first::2] for seed, row in seeds.items()}
            for arm, seeds in scores.items()
        }
        for name, scores in sources.items()
    }
