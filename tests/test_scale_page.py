"""Check that the tables of the page on scale are those of its command."""

from __future__ import annotations

import re
import subprocess
import sys

from dists import ROOT

PAGE = ROOT / "docs" / "explanation" / "scale.md"


def test_the_tables_are_those_of_the_command():
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "fleet.py")]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"<!-- begin fleet -->\n(.*?)<!-- end fleet -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    assert found[1].strip() == made.strip()
