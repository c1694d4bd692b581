"""What a shell sees: completion, exit statuses, colours, and speed of the help."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import places
from neuron_opsd import cli, errors
from neuron_opsd.cli import exit_statuses, main
from neuron_opsd.cli.app import COMMANDS, build_app, explain_end
from neuron_opsd.cli.exit_statuses import EXIT_STATUSES
from neuron_opsd.cli.terminal import Terminal
from neuron_opsd.processes.stopping import SIGNALS, Stopping

BASH = shutil.which("bash") or ""
SHELL_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", ""),
    "PYTHONPATH": str(places.SOURCES),
    "TERM": "xterm-256color",
}
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([a-zA-Z])")


def on_a_screen(
    argv: list[str], typed: bytes = b"", environment: Mapping[str, str] | None = None
) -> str:
    """Run a program whose streams are a terminal, and return all that is shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**SHELL_ENVIRONMENT, **(environment or {})},
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, typed)
    shown = b"".join(chunks(ours))
    os.close(ours)
    assert process.wait(60) is not None
    return shown.decode(errors="replace")


def chunks(terminal: int) -> Iterator[bytes]:
    """Yield what is written to a terminal, until nobody has it open."""
    try:
        while chunk := os.read(terminal, 1 << 16):
            yield chunk
    except OSError:  # what Linux says of a terminal that was closed
        return


@pytest.mark.skipif(not BASH, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("neuron-opsd stat\t", "status"),
        ("neuron-opsd status --verif\t", "status --verify"),
        ("neuron-opsd run --mod\ttiny --out x --prese\tp\t", "--preset paper"),
        ("neuron-opsd completion fi\t", "completion fish"),
        ("neuron-opsd report pap\t", "report paper"),
    ],
)
def test_bash_completes_what_is_typed(
    typed: str, completed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "neuron-opsd.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "paper").mkdir()
    begin = tmp_path / "begin.bash"
    begin.write_text(
        f"cd {tmp_path}; source {script}\n"
        'neuron-opsd() { printf "<%s>\\n" "$*"; exit; }\n'
    )
    shown = on_a_screen(
        [BASH, "--noprofile", "--rcfile", str(begin), "-i"], f"{typed}\n".encode()
    )
    (said,) = re.findall(r"<([^>]*)>", shown)
    assert said.rstrip("/ ").endswith(completed)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_every_command_and_flag(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in COMMANDS:
        assert command.__name__ in script
    app = build_app()
    for argument in app["run"].assemble_argument_collection():
        for name in argument.names:
            assert name.lstrip("-") in script


def test_every_exit_status_is_on_the_page() -> None:
    kinds = [errors.NeuronOpsdError]
    for kind in kinds:  # grows while it is walked
        kinds += kind.__subclasses__()
        assert kind.exit_status in EXIT_STATUSES
    for number in SIGNALS:
        stopping = Stopping()
        stopping.number = number
        assert stopping.status in EXIT_STATUSES
    assert Stopping().status in EXIT_STATUSES
    page = (places.DOCS / "reference" / "exit-statuses.md").read_text(encoding="utf-8")
    assert all(f"\n| {status} | " in page for status in EXIT_STATUSES)


def test_no_command_ends_with_a_status_of_its_own() -> None:
    """All that functions of the command line return stands in the list."""
    listed = {name for name, v in vars(exit_statuses).items() if v in ints()}
    others = {"status", "STOPPING.status", "error.exit_status"}
    found = 0
    for path in sorted(Path(inspect.getfile(cli)).parent.glob("*.py")):
        module = importlib.import_module(f"neuron_opsd.cli.{path.stem}")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef) or function.name not in ENDS:
                continue
            for value in returned(function):
                found += 1
                assert value in listed | others or value.endswith(")"), (module, value)
    assert found > 10


ENDS = {
    *(command.__name__ for command in COMMANDS),
    *("main", "run_command", "explain_end", "explain_stop", "follow"),
}
"""Functions whose result is an exit status."""


def ints() -> list[int]:
    """Return the numbers of the list."""
    return list(EXIT_STATUSES)


def returned(function: ast.FunctionDef) -> Iterator[str]:
    """Yield all that a function may return, as it is written."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            values = [node.value]
            if isinstance(node.value, ast.IfExp):
                values = [node.value.body, node.value.orelse]
            yield from map(ast.unparse, values)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), KeyboardInterrupt(), OSError(28, "x"), OSError(5, "x")]
)
def test_what_may_end_a_command_ends_it_with_a_listed_status(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuron_opsd.cli.app.leave_pipe", lambda _: None)
    assert explain_end(error) in EXIT_STATUSES


def test_colours_are_off_where_they_are_not_wanted() -> None:
    argv = [sys.executable, "-m", "neuron_opsd", "run", "--help"]
    assert colours(on_a_screen(argv))
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        shown = on_a_screen(argv, environment=environment)
        assert "--pool" in shown
        assert not colours(shown)
    piped = subprocess.run(
        argv, capture_output=True, env=SHELL_ENVIRONMENT, check=True, text=True
    )
    assert "--pool" in piped.stdout
    assert "\x1b" not in piped.stdout


def colours(shown: str) -> set[str]:
    """Return the colours that a terminal was told; bold and plain are none."""
    told = {
        code
        for codes, end in ESCAPE.findall(shown)
        if end == "m"
        for code in codes.split(";")
    }
    return told - {"", "0", "1", "2"}


def test_a_log_gets_lines_even_where_colours_are_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    err = io.StringIO()
    with Terminal(io.StringIO(), err).stage("rollouts", 2, "questions") as advance:
        advance(2)
    assert "rollouts: 2 questions in" in err.getvalue()
    assert "\x1b" not in err.getvalue()


HEAVY = (
    *("torch", "transformers", "peft", "pyarrow", "numpy", "matplotlib", "jinja2"),
    *("pydantic", "ray", "vllm", "datasets", "huggingface_hub", "tokenizers"),
    *(
        "safetensors",
        "gguf",
        "wandb",
        "mlflow",
        "trackio",
        "tensorboard",
        "http.server",
    ),
)
"""What no help page may import, so that it comes within half a second."""


def test_no_help_page_imports_anything_heavy() -> None:
    script = (
        "import io, sys, contextlib\n"
        "from neuron_opsd.cli import main\n"
        "from neuron_opsd.cli.app import COMMANDS\n"
        "for argv in [[], *([c.__name__] for c in COMMANDS)]:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as shown:\n"
        "        assert main([*argv, '--help']) == 0, argv\n"
        "    assert 'Usage: neuron-opsd' in shown.getvalue(), argv\n"
        f"    found = set({HEAVY!r}) & set(sys.modules)\n"
        "    assert not found, (argv, found)\n"
        "main(['completion', 'bash'])\n"
        f"assert not set({HEAVY!r}) & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=SHELL_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
