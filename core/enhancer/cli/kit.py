"""Building blocks for the commands of plugins.

With them a plugin's commands have the same flags, output and questions as the built-in ones. The names here are public
and change only with notice; everything else in :mod:`enhancer.cli` is private.

- :func:`with_session` gives a command the common flags (``--config``, ``--set``, ``--quiet``, ``--log-json``). The
  command's first parameter is a :class:`Session`, which opens the project that they select.
- ``JsonFlag`` and ``YesFlag`` are ``--json`` and ``--yes``. :func:`print_json` prints a result as JSON to stdout;
  :func:`say` prints a message to stderr.
- :class:`ProgressView` is a listener that shows progress; :func:`consent` asks before money is spent.
- :func:`table` aligns rows in columns; :func:`duration` formats seconds.
"""

from __future__ import annotations

from enhancer.cli.commands.generate import consent
from enhancer.cli.formatting import duration
from enhancer.cli.layout import table
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, YesFlag, print_json, say, with_session

__all__ = [
    "JsonFlag",
    "ProgressView",
    "Session",
    "YesFlag",
    "consent",
    "duration",
    "print_json",
    "say",
    "table",
    "with_session",
]
