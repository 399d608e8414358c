"""Tests for every embedder. Subclass :class:`EmbedderConformance` in a test module that pytest collects.

::

    from enhancer.testing.embedder import EmbedderConformance

    class TestMine(EmbedderConformance):
        embedder_class = MyEmbedder
        options = {"model": "tiny"}
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from enhancer.contracts import Context, Embedder
from enhancer.contracts.options import build_options

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXTS = [
    "A toy cowboy is jealous of a spaceman.",
    "",
    "   ",
    "Слон и 映画 — ünïcödé 🎬",
    "Toys come to life when nobody watches.",
    "Two detectives hunt a murderer through the rain.",
]
_MAY_BE_UNKNOWN = (1, 2, 3)
"""Positions of texts without words, or with words of other languages alone."""
_ROUNDING = 1e-4
_HEAVY = ("torch", "transformers", "sentence_transformers", "FlagEmbedding", "tensorflow", "openai")


class EmbedderConformance:
    """Base class of embedder tests; set ``embedder_class``."""

    embedder_class: ClassVar[type[Embedder]]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options for the constructor."""
    understands: ClassVar[bool] = True
    """Whether texts of similar meaning have similar vectors; False for a toy embedder."""
    heavy: ClassVar[tuple[str, ...]] = _HEAVY
    """Modules that must not be imported before the first text is embedded."""

    _made: ClassVar[dict[type, Embedder]] = {}

    def make(self) -> Embedder:
        """Return a new embedder."""
        options = build_options(self.embedder_class.options_class, self.options, where="[embedder]")
        return self.embedder_class(options, Context(root=Path()))

    @pytest.fixture
    def embedder(self) -> Embedder:
        """Return the embedder of the test class, whose model is loaded once."""
        if type(self) not in self._made:
            self._made[type(self)] = self.make()
        return self._made[type(self)]

    def test_rows_are_float32_of_unit_length(self, embedder: Embedder) -> None:
        table = embedder.encode(_TEXTS)
        assert table.shape == (len(_TEXTS), embedder.dim)
        assert table.dtype == np.float32
        lengths = np.linalg.norm(table, axis=1)
        # Static embedders have no vector for a text without a known token, and return zeros.
        has_vector = [place for place, length in enumerate(lengths) if length or place not in _MAY_BE_UNKNOWN]
        np.testing.assert_allclose(lengths[has_vector], 1, atol=1e-5)

    def test_rows_are_in_the_order_of_the_texts(self, embedder: Embedder) -> None:
        table = embedder.encode(_TEXTS)
        np.testing.assert_allclose(embedder.encode(_TEXTS[::-1])[::-1], table, atol=_ROUNDING)

    def test_a_text_does_not_mind_its_neighbours(self, embedder: Embedder) -> None:
        table = embedder.encode(_TEXTS)
        for text, row in zip(_TEXTS[:4], table[:4], strict=True):
            np.testing.assert_allclose(embedder.encode([text])[0], row, atol=_ROUNDING)

    def test_more_texts_than_a_batch(self, embedder: Embedder) -> None:
        few = embedder.encode(_TEXTS[:3])
        many = embedder.encode(_TEXTS[:3] * 12)
        np.testing.assert_allclose(many, np.tile(few, (12, 1)), atol=_ROUNDING)

    def test_a_very_long_text_is_cut_and_not_an_error(self, embedder: Embedder) -> None:
        assert embedder.encode(["word " * 5000]).shape == (1, embedder.dim)

    def test_a_text_that_is_cut_is_known_to_be(self, embedder: Embedder) -> None:
        found = embedder.truncates(["", "word " * 50_000])
        assert found is None or (len(found) == 2 and not found[0])
        assert embedder.truncates([]) in (None, [])

    def test_no_text_gives_no_row(self, embedder: Embedder) -> None:
        assert embedder.encode([]).shape == (0, embedder.dim)

    def test_like_meaning_lies_near(self, embedder: Embedder) -> None:
        if not self.understands:
            pytest.skip("this embedder does not understand texts")
        toys, other, rain = embedder.encode([_TEXTS[0], _TEXTS[4], _TEXTS[5]])
        assert toys @ other > toys @ rain

    def test_the_fingerprint_is_stable_and_says_something(self, embedder: Embedder) -> None:
        assert embedder.fingerprint == self.make().fingerprint
        assert embedder.fingerprint.strip()
        assert "\n" not in embedder.fingerprint

    def test_nothing_is_printed(self, embedder: Embedder, capfd: pytest.CaptureFixture[str]) -> None:
        embedder.encode(_TEXTS[:2] * 20)
        shown = capfd.readouterr()
        assert shown.out == shown.err == ""

    def test_making_it_and_its_fingerprint_imports_nothing_heavy(self) -> None:
        program = (
            "import importlib, json, sys\n"
            "from enhancer.contracts import Context\n"
            "from enhancer.contracts.options import build_options\n"
            "cls = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])\n"
            "embedder = cls(build_options(cls.options_class, json.loads(sys.argv[3]), where=''), Context())\n"
            "embedder.fingerprint\n"
            "loaded = set(sys.argv[4:]) & set(sys.modules)\n"
            "assert not loaded, loaded\n"
        )
        made = self.embedder_class
        arguments = (made.__module__, made.__qualname__, json.dumps(dict(self.options)), *self.heavy)
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
