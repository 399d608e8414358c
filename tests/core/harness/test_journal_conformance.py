from __future__ import annotations

from enhancer.testing.journal import JournalConformance


class TestJournalFile(JournalConformance):
    """The journal of a project whose store names no database."""
