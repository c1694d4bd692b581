"""The table of what can be fetched."""

from __future__ import annotations

import re

import pytest

from neuron_opsd.demo.sources import (
    DEFAULT_SETS,
    MODEL,
    QUESTION_SETS,
    QUESTION_WHEEL,
    SETS,
    find_sets,
)
from neuron_opsd.errors import ConfigError


def test_names_are_distinct_and_can_be_folders() -> None:
    assert len(QUESTION_SETS) == len(SETS)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in QUESTION_SETS)


def test_wheels_are_pinned_by_version_and_hash() -> None:
    for wheel in (MODEL.wheel, QUESTION_WHEEL):
        assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)
        stem = f"{wheel.package.replace('-', '_')}-{wheel.version}"
        assert wheel.file_name == f"{stem}-py3-none-any.whl"


def test_every_set_says_whose_it_is() -> None:
    assert all(entry.licence and entry.origin and entry.domain for entry in SETS)
    assert not [entry.name for entry in SETS if "://" in entry.origin]


def test_no_member_is_listed_twice() -> None:
    members = [member for entry in SETS for member in entry.members]

    assert len(set(members)) == len(members)


def test_sets_that_forbid_commercial_use_are_offered_but_not_by_default() -> None:
    forbidden = {entry.name for entry in SETS if entry.noncommercial}

    assert forbidden == {"sciq"}
    assert forbidden.isdisjoint(DEFAULT_SETS)
    assert "NC" in QUESTION_SETS["sciq"].licence


def test_sets_come_in_the_order_asked_for_and_once() -> None:
    found = find_sets(["piqa", "sst2", "piqa"])

    assert [entry.name for entry in found] == ["piqa", "sst2"]


def test_an_unknown_set_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no question set 'ssst2'; did you mean sst2"):
        find_sets(["ssst2"])


def test_a_set_like_no_other_gets_all_names() -> None:
    with pytest.raises(ConfigError, match="there are sst2, arc-easy, "):
        find_sets(["zzzzzzzz"])
