"""Options and their error messages, without a model."""

from __future__ import annotations

import importlib.util
import struct

import enhancer_llamacpp
import pytest
from enhancer_llamacpp import gguf
from enhancer_llamacpp.schema import pin_ids

from enhancer.contracts import Context, Price
from enhancer.errors import ConfigError, PluginError
from enhancer.plugin_host import PluginManager


@pytest.fixture
def make(tmp_path):
    manager = PluginManager()
    manager.register(enhancer_llamacpp, distribution="enhancer-llamacpp")
    return lambda **options: manager.create(
        "llm", "llamacpp", options, Context(tmp_path), also_known=("model",), complete=False
    )


@pytest.fixture
def model(tmp_path):
    """Return a file with the header of a model."""
    path = tmp_path / "m.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + b"x" * 100)
    return path


def test_a_path_is_relative_to_the_project(make, model):
    provider = make(path="m.gguf")
    assert provider.endpoint == f"gguf:sha256:{gguf.digest(model)}"
    assert provider.price("anything") == Price(0.0, 0.0)
    assert provider.capacity == 1
    assert make(path="m.gguf", slots=3).capacity == 3


@pytest.mark.parametrize("options", [{}, {"path": "a", "package": "b"}])
def test_one_model_must_be_chosen(make, options):
    with pytest.raises(ConfigError, match="set either 'path'"):
        make(**options)


def test_an_unknown_option_is_named(make):
    with pytest.raises(ConfigError, match="unknown key 'thread'; did you mean 'threads'"):
        make(path="m.gguf", thread=3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no file"),
        (b"", "is not a GGUF file"),
        (b"PK\x03\x04" + b"x" * 50, "is not a GGUF file; convert a model in another format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (struct.pack("<4sIQQ", b"GGUF", 9, 1, 0), "version 9"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 0), "no model"),
    ],
)
def test_what_is_no_model_is_refused(make, tmp_path, content, why):
    if content is not None:
        (tmp_path / "m.gguf").write_bytes(content)
    provider = make(path="m.gguf")
    for act in (lambda: provider.endpoint, lambda: provider.check("m")):
        with pytest.raises(ConfigError, match=why):
            act()


@pytest.mark.parametrize(
    ("package", "why"),
    [("no_such_package_4711", "is not installed"), ("json", "one GGUF file"), ("../x", "is not installed")],
)
def test_a_package_must_bring_one_model(make, package, why):
    with pytest.raises(ConfigError, match=why):
        make(package=package).check("m")


def test_a_model_that_was_split_needs_all_its_files(make, model, tmp_path):
    first = model.rename(tmp_path / "m-00001-of-00002.gguf")
    with pytest.raises(ConfigError, match=r"m-00002-of-00002\.gguf is missing"):
        make(path=first.name).check("m")
    before = gguf.digest(first) if (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"rest") else ""
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"REST")
    assert gguf.digest(first) != before


def test_a_large_file_is_named_by_blocks_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "_FULL_HASH_BYTES", 1000)
    monkeypatch.setattr(gguf, "_BLOCK", 10)
    content = bytearray(10_000)
    (tmp_path / "a").write_bytes(content)
    content[-1] = 1
    (tmp_path / "b").write_bytes(content)
    assert gguf.digest(tmp_path / "a") != gguf.digest(tmp_path / "b")


def test_a_missing_wheel_is_named(make, model, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "xllamacpp" else find(name, *more)
    )
    with pytest.raises(PluginError, match="pip install enhancer-llamacpp"):
        make(path=model.name).check("m")


def test_another_models_name_would_be_a_lie(make, model):
    with pytest.raises(ConfigError, match=r'set \[llm\] model = "m"'):
        make(path=model.name).check("openai/gpt-4o-mini")


def test_the_key_holds_what_changes_answers_and_nothing_else(make, model, tmp_path):
    assert make(path=model.name, threads=3, slots=2, context=512, gpu_layers=0).sampling == {}
    given = {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.2, "merge_system": True}
    assert make(path=model.name, **given).sampling == given
    (tmp_path / "t.jinja").write_text("{{ messages }}", encoding="utf-8")
    of_file, of_name = (make(path=model.name, chat_template=name).sampling for name in ("t.jinja", "chatml"))
    assert of_file != of_name


def test_a_missing_template_is_named(make, model):
    with pytest.raises(ConfigError, match=r"chat_template: there is no file .*t\.jinja"):
        make(path=model.name, chat_template="t.jinja").check("m")


def test_ids_are_pinned_only_where_there_are_some():
    for schema in ({}, {"type": "object"}, {"properties": {"items": {"items": {"properties": {}}}}}):
        assert pin_ids(schema, ["1"]) == schema
