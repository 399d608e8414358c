from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from enhancer.evaluation.judging import formatting, significance
from enhancer.evaluation.measuring import metrics, strata

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "evaluation.md"


def test_the_page_tells_the_truth():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert (failed, tried > 5) == (0, True)


@pytest.mark.parametrize("module", [formatting, metrics, significance, strata], ids=lambda module: module.__name__)
def test_docstrings_tell_the_truth(module):
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried
