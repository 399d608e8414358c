"""Tests of whether a CPU has instructions for bfloat16, and of what init writes then."""

from __future__ import annotations

import tomllib

import pytest
from command_line import hashing, invoke  # noqa: F401 - fixtures

from enhancer.guessing import bfloat16

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu vme {}\nbugs\t\t: none\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd {}\nCPU architecture: 8\n"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (X86.format("avx512_bf16 amx_tile"), True),
        (X86.format("amx_bf16"), True),
        (X86.format("avx512f avx512_vnni"), False),
        (X86.format("bf16_like not_amx_bf16"), False),
        (ARM.format("sve bf16 i8mm"), True),
        (ARM.format("sve sve2"), False),
        ("", False),
    ],
)
def test_the_instructions_are_read_from_cpuinfo(tmp_path, text, has):
    (tmp_path / "cpuinfo").write_text(text)
    assert bfloat16.has_bfloat16(tmp_path / "cpuinfo") is has


def test_without_the_file_there_are_none(tmp_path):
    assert bfloat16.has_bfloat16(tmp_path / "nothing") is False


@pytest.mark.parametrize("has", [True, False])
def test_init_writes_mixed_where_the_cpu_has_them(invoke, tmp_path, monkeypatch, has):  # noqa: F811
    (tmp_path / "cpuinfo").write_text(X86.format("amx_bf16" if has else ""))
    monkeypatch.setattr(bfloat16, "_CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n")
    assert invoke("init", "--yes", "--embedder", "minilm").code == 0
    written = (tmp_path / "enhancer.toml").read_text()
    assert tomllib.loads(written)["embedder"].get("dtype") == ("mixed" if has else None)
    assert ("this CPU has bfloat16" in written) is has


def test_init_writes_no_dtype_for_other_embedders(invoke, tmp_path, hashing, monkeypatch):  # noqa: F811
    (tmp_path / "cpuinfo").write_text(X86.format("amx_bf16"))
    monkeypatch.setattr(bfloat16, "_CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n")
    assert invoke("init", "--yes", "--embedder", "hashing").code == 0
    assert "dtype" not in (tmp_path / "enhancer.toml").read_text()
