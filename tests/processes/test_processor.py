"""What the processor can do, whichever version of PyTorch is there to tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuron_opsd.processes import processor


def test_linux_tells_what_an_older_torch_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor : 0\nflags : fpu avx512_bf16\n")
    monkeypatch.setattr(processor, "CPU_INFO", listed)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert processor.processor_features() == {"fpu": True, "avx512_bf16": True}
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "none")
    assert processor.processor_features() == {}


def test_torch_is_asked_where_it_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"avx512_bf16": False, "cpu_name": "A processor"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert processor.processor_features() == known
