"""Model folders that attack whoever loads them, and a script that measures it.

Run as a file it loads the named ones, each in a process of its own that begins after
all imports, and writes as JSON what was said of each, the seconds it took and the bytes
of memory above what the imports hold.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Spoil: TypeAlias = Callable[[Path], None]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

MOST_CPU = 20
"""Seconds after which a process that hangs is ended."""


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the header of a safetensors file, and what follows it."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_header(change: Callable[[dict[str, Any]], None]) -> Spoil:
    """Return what changes the header of the weights."""

    def spoil(folder: Path) -> None:
        header, rest = header_of(folder / WEIGHTS)
        change(header)
        text = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + rest)

    return spoil


def tensor(**fields: Any) -> Spoil:
    """Return what changes what the header says of the final norm."""
    return with_header(lambda header: header["model.norm.weight"].update(fields))


def overlap(header: dict[str, Any]) -> None:
    """Let one tensor lie where another does."""
    names = [name for name in header if "up_proj" in name]
    header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]


def head(size: int, text: bytes = b"", holds: int = 0) -> Spoil:
    """Return what replaces the weights by a header that claims a size."""

    def spoil(folder: Path) -> None:
        with (folder / WEIGHTS).open("wb") as file:
            file.write(struct.pack("<Q", size) + text)
            file.truncate(max(holds, 8 + len(text)))

    return spoil


def weights(data: bytes) -> Spoil:
    """Return what replaces the file of weights."""
    return lambda folder: put(folder / WEIGHTS, data)


def put(path: Path, data: bytes) -> None:
    """Write a file in the place of another."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def numbers(value: float, name: str = "model.layers.1.mlp.up_proj.weight") -> Spoil:
    """Return what puts a value in the place of a weight."""

    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / WEIGHTS)
        state[name].view(-1)[3] = value
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def as_type(name: str) -> Spoil:
    """Return what stores the weights as numbers of another type."""

    def spoil(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        kind = getattr(torch, name)
        state = {key: w.to(kind) for key, w in load_file(folder / WEIGHTS).items()}
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def settings(name: str = "config.json", **fields: Any) -> Spoil:
    """Return what changes fields of a JSON file; `None` takes one out."""

    def spoil(folder: Path) -> None:
        table = json.loads((folder / name).read_text("utf-8")) | fields
        kept = {key: value for key, value in table.items() if value is not None}
        (folder / name).write_text(json.dumps(kept), "utf-8")

    return spoil


def text(name: str, content: str) -> Spoil:
    """Return what replaces a file by a text."""
    return lambda folder: put(folder / name, content.encode("utf-8", "surrogatepass"))


def linked(name: str, target: str) -> Spoil:
    """Return what replaces a file by a link."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return spoil


def piped(name: str) -> Spoil:
    """Return what replaces a file by a pipe, which nobody writes to."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return spoil


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Return what changes `tokenizer.json`."""

    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        table = json.loads(path.read_text("utf-8"))
        change(table)
        path.write_text(json.dumps(table), "utf-8")

    return spoil


def cut_by(expression: str) -> Spoil:
    """Return what lets a regular expression cut texts into words."""
    split: dict[str, Any] = {"type": "Split", "pattern": {"Regex": expression}}
    split |= {"behavior": "Isolated", "invert": False}
    return tokenizer(lambda table: table.update(pre_tokenizer=split))


def replaced_by(pattern: dict[str, str], content: str, times: int) -> Spoil:
    """Return what lets a text grow before it is cut."""
    step = {"type": "Replace", "pattern": pattern, "content": content}
    steps = {"type": "Sequence", "normalizers": [step] * times}
    return tokenizer(lambda table: table.update(normalizer=steps))


def index(*names: str) -> Spoil:
    """Return what adds an index that names files."""
    table = {"weight_map": {f"t{n}": name for n, name in enumerate(names)}}
    return text(INDEX, json.dumps(table))


def gguf(data: bytes) -> Spoil:
    """Return what puts a GGUF file beside the folder's other files."""
    return lambda folder: put(folder / "model.gguf", data)


def gguf_head(tensors: int, keys: int, rest: bytes = b"") -> Spoil:
    """Return what puts a GGUF file there that claims so much."""
    return gguf(b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest)


def gguf_key(kind: int, value: bytes) -> bytes:
    """Return a key of a GGUF file."""
    name = b"general.architecture"
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


class Exploit:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("unpickled",)


DEEP = '{"a":' * 50_000 + "1" + "}" * 50_000
CODE = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
NEVER = "config.json says"
NORM_BYTES = 32 * 4

CASES: dict[str, Spoil] = {
    "pickle as safetensors": weights(pickle.dumps(Exploit())),
    "no bytes": weights(b""),
    "seven bytes": weights(b"1234567"),
    "header of 100 MB": head(100_000_000 - 8, b"{", 100_000_000),
    "header of 90 MB of blanks": head(90_000_000, b"{}" + b" " * 90_000_000),
    "header longer than any number": head(2**64 - 1, b"{}"),
    "header longer than the file": head(4096, b"{}"),
    "header that is no JSON": head(8, b"\x80\x81abcdef"),
    "deep header": head(len(DEEP), DEEP.encode()),
    "header that is a list": head(2, b"[]"),
    "header without tensors": head(2, b"{}"),
    "overlapping offsets": with_header(overlap),
    "offsets out of the file": tensor(data_offsets=[2**40, 2**40 + NORM_BYTES]),
    "offsets that end first": tensor(data_offsets=[NORM_BYTES, 0]),
    "negative offsets": tensor(data_offsets=[-NORM_BYTES, 0]),
    "negative shape": tensor(shape=[-32]),
    "shape beyond any number": tensor(shape=[2**40, 2**40]),
    "shape of another size": tensor(shape=[33]),
    "shape of a text": tensor(shape="32"),
    "unknown type": tensor(dtype="F7"),
    "weights as whole numbers": as_type("int32"),
    "weights as bytes": as_type("float8_e4m3fn"),
    "not a number": numbers(float("nan")),
    "infinite": numbers(float("inf")),
    "negative infinite norm": numbers(float("-inf"), "model.norm.weight"),
    "weights are a pipe": piped(WEIGHTS),
    "weights are a device": linked(WEIGHTS, "/dev/zero"),
    "weights are a link out": linked(WEIGHTS, "/etc/passwd"),
    "enormous width": settings(hidden_size=10**12),
    "enormous layers": settings(num_hidden_layers=10**9),
    "no layers": settings(num_hidden_layers=0),
    "negative layers": settings(num_hidden_layers=-1),
    "negative vocabulary": settings(vocab_size=-5),
    "no vocabulary": settings(vocab_size=0),
    "enormous vocabulary": settings(vocab_size=10**9),
    "boundless vocabulary": settings(vocab_size=10**18),
    "enormous heads": settings(num_attention_heads=10**9),
    "enormous head": settings(head_dim=10**9),
    "no heads": settings(num_attention_heads=0, head_dim=None),
    "enormous MLP": settings(intermediate_size=10**10),
    "enormous labels": settings(num_labels=10**9),
    "width that is a text": settings(hidden_size="32"),
    "width that is a list": settings(hidden_size=[32]),
    "width that is a fraction": settings(hidden_size=32.5),
    "width beyond any number": text(
        "config.json", '{"model_type": "llama", "hidden_size": 1' + "0" * 400 + "}"
    ),
    "epsilon that is none": settings(rms_norm_eps=float("nan")),
    "negative epsilon": settings(rms_norm_eps=-1e9),
    "positions that are none": settings(
        rope_parameters={"rope_type": "default", "rope_theta": float("nan")}
    ),
    "positions of no kind": settings(
        rope_parameters={"rope_type": "nope", "rope_theta": 1.0}
    ),
    "other names of layers": settings(layer_types=["nope"] * 2),
    "many names of layers": settings(layer_types=["full_attention"] * 10**6),
    "configuration is empty": text("config.json", ""),
    "configuration is a list": text("config.json", "[]"),
    "configuration is nothing": text("config.json", "{}"),
    "configuration is deep": text("config.json", DEEP),
    "configuration of 50 MB": text("config.json", '{"a": "' + "a" * 50_000_000 + '"}'),
    "configuration is not UTF-8": lambda folder: put(folder / "config.json", b"\xff{"),
    "configuration is a pipe": piped("config.json"),
    "configuration is a device": linked("config.json", "/dev/zero"),
    "family that is a path": settings(model_type="../../x"),
    "family that is a list": settings(model_type=["llama"]),
    "own code": settings(auto_map=CODE),
    "own code of the text model": settings(
        text_config={"model_type": "llama", "auto_map": CODE}
    ),
    "own code of the tokenizer": settings(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]}
    ),
    "own kernel": settings(attn_implementation="someone/kernel"),
    "own kernel under its other name": settings(_attn_implementation="someone/kernel"),
    "own way to generate": settings("generation_config.json", eos_token_id="x"),
    "generation settings that are none": text("generation_config.json", "{"),
    "index out of the folder": index("../x.safetensors"),
    "index of the root": index("/etc/passwd"),
    "index of a pickle": index("weights.bin"),
    "index of nothing": text(INDEX, "{}"),
    "deep index": text(INDEX, DEEP),
    "index of 50 MB": text(INDEX, '{"weight_map": {"a": "' + "a" * 50_000_000 + '"}}'),
    "expression that backtracks": cut_by("(a+)+$|(a|aa)+$|( +)+$|(.*)*=|([a-z]+)*\\d"),
    "expression that looks back": cut_by("(?=(a+))a*b\\1|(x+x+)+y|(\\w+\\s?)*$"),
    "expression that is none": cut_by("(((("),
    "text that grows": replaced_by({"String": "a"}, "aa" * 99, 9),
    "text of nothing that grows": replaced_by({"Regex": ""}, "a" * 999, 5),
    "tokenizer is empty": text("tokenizer.json", ""),
    "tokenizer is deep": text("tokenizer.json", DEEP),
    "tokenizer is cut": text("tokenizer.json", '{"model": {"merges": [["a"'),
    "tokenizer is a pipe": piped("tokenizer.json"),
    "numbers of tokens beyond all": tokenizer(
        lambda table: table["model"]["vocab"].update(zq=2**32 - 1)
    ),
    "merges of no tokens": tokenizer(
        lambda table: table["model"]["merges"].append(["zq", "zr"])
    ),
    "padding without end": tokenizer(
        lambda table: table.update(
            padding={
                "strategy": {"Fixed": 10**9},
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "<|endoftext|>",
            }
        )
    ),
    "template of 50 MB": text("chat_template.jinja", "a" * 50_000_000),
    "template is a pipe": piped("chat_template.jinja"),
    "GGUF of many tensors": gguf_head(2**60, 0),
    "GGUF of many keys": gguf_head(0, 2**60),
    "GGUF of a long name": gguf_head(0, 1, struct.pack("<Q", 2**60)),
    "GGUF of a long text": gguf_head(0, 1, gguf_key(8, struct.pack("<Q", 2**60))),
    "GGUF of a long list": gguf_head(0, 1, gguf_key(9, struct.pack("<IQ", 4, 2**60))),
    "GGUF of a list of lists": gguf_head(
        0, 1, gguf_key(9, struct.pack("<IQ", 9, 1) * 5000)
    ),
    "GGUF of an unknown type": gguf_head(0, 1, gguf_key(99, b"\0" * 8)),
    "GGUF of another version": gguf(b"GGUF" + struct.pack("<IQQ", 2**31, 0, 0)),
    "GGUF of many dimensions": gguf_head(
        1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<I", 2**31)
    ),
    "GGUF of an enormous tensor": gguf_head(
        1,
        0,
        struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0),
    ),
    "GGUF of nothing": gguf(b"GGUF"),
}
"""Names of attacks, and what each does to the folder of a good model."""

HARMLESS = (
    "own code of the tokenizer",
    "numbers of tokens beyond all",
    "padding without end",
)
"""Never taken up by anybody: they must only cost nothing."""


def loaded(folder: Path) -> str:
    """Load a model and ask it something; return why it was refused."""
    from neuron_opsd.config import ModelConfig
    from neuron_opsd.errors import NeuronOpsdError
    from neuron_opsd.models.load import load_model
    from neuron_opsd.records import Message, Prompt

    gguf = folder / "model.gguf"
    name = gguf if gguf.exists() else folder
    try:
        model = load_model(ModelConfig(name=str(name), device="cpu", compute="float32"))
        model.encode(Prompt(text="a" * 4000 + "!"))
        model.encode(Prompt(messages=(Message("user", "Which gas? " * 99),)))
    except NeuronOpsdError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def tried(folder: Path) -> dict[str, Any]:
    """Load a model in a process that begins as this one is."""
    ours, theirs = os.pipe()
    start, before = time.perf_counter(), held()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU, MOST_CPU))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = 6 << 30
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            said = loaded(folder)
        except BaseException as error:  # noqa: BLE001  # it is what is looked for
            said = f"uncaught {type(error).__name__}: {error}"
        os.write(theirs, said.encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode()
    _, status, usage = os.wait4(child, 0)
    return {
        "said": said,
        "status": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - start,
        "processor": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024 - before,
        "unpickled": Path("unpickled").exists(),
    }


def held() -> int:
    """Return the bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


def main() -> None:
    """Try the attacks that are named on the command line."""
    import shutil

    import peft  # noqa: F401

    import loaded as _imports  # noqa: F401
    from tiny import tiny_model

    found = {}
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        os.environ["NEURON_OPSD_CACHE"] = str(Path(home) / "cache")
        good = tiny_model(Path(home) / "good", chat=True)
        for number, name in enumerate(sys.argv[1:]):
            folder = Path(shutil.copytree(good, Path(home) / f"{number}"))
            if name != "good":
                CASES[name](folder)
            found[name] = tried(folder)
            shutil.rmtree(folder)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
