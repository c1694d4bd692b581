"""What a whole run touches: its inputs, its run directory, and nothing else (R13, R17).

A child process writes down what Python opens, starts and runs. What libraries in other
languages write is seen in the folders where they would: home, scratch, cache, current.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import places
from tiny_runs import command_line, tiny_request, write_rows

CHILD = places.SUPPORT / "audited_commands.py"
PACKAGE = str(places.PACKAGE)
LIBRARIES = tuple(
    dict.fromkeys(
        os.path.realpath(place)
        for place in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())
    )
)
SYSTEM = ("/proc/", "/sys/", "/etc/", "/usr/", "/lib", "/dev/null", "/dev/urandom")
WORKERS = ("latex_worker", "template_worker")
ELSEWHERE = ("home", "scratch", "cache", "current")

Events = list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Audit:
    """What was written down of a run."""

    folder: Path
    out: Path
    inputs: tuple[str, ...]
    events: Events

    def of(self, kind: str) -> list[list[str]]:
        """Return what was done of one kind."""
        return [arguments for event, arguments in self.events if event == kind]


@pytest.fixture(scope="module")
def audit(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """Give what a run, its page written anew, and `read` with LaTeX did."""
    folder = Path(os.path.realpath(tmp_path_factory.mktemp("audited")))
    for name in ELSEWHERE:
        (folder / name).mkdir()
    request = tiny_request(folder / "inputs", "../out/run")
    texts = [{"id": "a", "completion": r"$\frac{1}{2}$", "gold": "0.5"}]
    completions = write_rows(folder / "inputs" / "texts.jsonl", texts)
    lines = [
        command_line(request, tiny_llama, ["distill.steps=2"]),
        ["report", str(request.out)],
        ["read", str(completions), "--set", "answers.reader=latex"],
    ]
    places = {
        "HOME": "home",
        "TMPDIR": "scratch",
        "NEURON_OPSD_CACHE": "cache",
        "XDG_CACHE_HOME": "home/.cache",
    }
    own = {name: str(folder / place) for name, place in places.items()}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TORCH"))}
    paths = {"PYTHONPATH": str(Path(PACKAGE).parent), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(
        [sys.executable, CHILD, folder / "events.json", *map(json.dumps, lines)],
        env=clean | own | paths,
        cwd=folder / "current",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    events = json.loads((folder / "events.json").read_text("utf-8"))
    inputs = (str(folder / "inputs"), os.path.realpath(tiny_llama))
    return Audit(folder, request.out.resolve(), inputs, events)


def others(paths: Sequence[str], *allowed: str) -> list[str]:
    """Return the paths that are none of some places and lie in none."""
    known = tuple(place.rstrip("/") for place in allowed)
    return sorted(
        {
            path
            for path in paths
            if not any(path == place or path.startswith(f"{place}/") for place in known)
        }
    )


def test_only_the_run_directory_is_written(audit: Audit) -> None:
    written = [path for paths in audit.of("write") for path in paths]
    assert len(written) > 100
    # Where bitsandbytes is installed, torch tries whether it can write a temporary
    # file, which it deletes: the next test finds none.
    allowed = str(audit.out.parent), str(audit.folder / "scratch"), "/dev/null"
    assert others(written, *allowed) == []
    # Whether --out can be written is tried where its folder will be made.
    tried = [path for paths in audit.of("try") for path in paths]
    assert others(tried, str(audit.folder)) == []


def test_no_library_writes_elsewhere(audit: Audit) -> None:
    for name in ELSEWHERE:
        assert [*(audit.folder / name).rglob("*")] == []
    assert {path.name for path in audit.folder.iterdir()} == {
        *ELSEWHERE,
        *("inputs", "out", "events.json"),
    }
    assert [path.name for path in (audit.folder / "out").iterdir()] == ["run"]


@pytest.mark.newest
def test_only_program_model_and_inputs_are_read(audit: Audit) -> None:
    read = [os.path.realpath(path) for paths in audit.of("read") for path in paths]
    places = (PACKAGE, str(CHILD.parent), str(audit.out), *audit.inputs)
    odd = others(read, *places, *LIBRARIES, *SYSTEM)
    # Python looks for modules in every folder of its path.
    assert [path for path in odd if not Path(path).is_dir()] == []
    assert any(path.startswith(audit.inputs[0]) for path in read)


def test_nothing_is_asked_of_a_network(audit: Audit) -> None:
    asked = {event for event, _ in audit.events if event.startswith("socket.")}
    # The lock says on which machine it is held.
    assert asked <= {"socket.gethostname"}


def test_nothing_is_unpickled(audit: Audit) -> None:
    assert [event for event, _ in audit.events if event.startswith("pickle.")] == []


@pytest.mark.newest
def test_only_our_own_workers_are_started(audit: Audit) -> None:
    starts = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
    started = [(e, args) for e, args in audit.events if e.startswith(starts)]
    assert started
    for event, arguments in started:
        assert event == "subprocess.Popen"
        assert arguments[0] == repr(sys.executable)
        assert any(arguments[1].endswith(f"{name}.py']") for name in WORKERS)


def is_program(path: str) -> bool:
    """Say whether a file is the package's, Python's or an installed library's."""
    real = os.path.realpath(path)
    return real.startswith((f"{PACKAGE}/", f"{CHILD.parent}/", *LIBRARIES))


@pytest.mark.newest
def test_no_data_is_run(audit: Audit) -> None:
    odd = []
    for code, caller in audit.of("exec"):
        generated = code.startswith("<")
        imported = caller.startswith("<frozen importlib")
        if generated and code.startswith("<frozen"):
            continue
        if code == "<template>":
            # A chat template or a page, by the sandbox that Jinja has for them.
            fine = f"{os.sep}jinja2{os.sep}" in caller
        elif generated:
            # What dataclasses and their like write of themselves.
            fine = is_program(caller) and not caller.startswith(f"{PACKAGE}/")
        else:
            fine = imported and is_program(code)
        if not fine:
            odd.append((code, caller))
    assert odd == []


SEES: list[tuple[str, Callable[[Audit], None]]] = [
    ("write", test_only_the_run_directory_is_written),
    ("read", test_only_program_model_and_inputs_are_read),
    ("socket.connect", test_nothing_is_asked_of_a_network),
    ("pickle.find_class", test_nothing_is_unpickled),
    ("subprocess.Popen", test_only_our_own_workers_are_started),
    ("exec", test_no_data_is_run),
]


@pytest.mark.parametrize(("event", "test"), SEES)
def test_an_event_that_should_not_be_is_seen(
    audit: Audit, event: str, test: Callable[[Audit], None], tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.touch()
    planted = (event, [str(foreign), str(foreign)])
    bad = Audit(audit.folder, audit.out, audit.inputs, [*audit.events, planted])
    with pytest.raises(AssertionError):
        test(bad)
