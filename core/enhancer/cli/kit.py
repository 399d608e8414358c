"""What a plugin's commands may use of enhancer's command line, so that they look and behave like its own.

Everything else in :mod:`enhancer.cli` may change without notice; what is named here changes as contracts do.

- :func:`with_session` gives a command the flags that every command has (``--config``, ``--set``, ``--quiet``,
  ``--log-json``) and, as its first parameter, the :class:`Session` that opens the project they choose.
- ``JsonFlag`` and ``YesFlag`` are ``--json`` and ``--yes``. :func:`print_json` prints a result for programs,
  :func:`say` tells people something on stderr.
- :class:`ProgressView` is the listener that draws progress, and :func:`consent` the question before money is spent.
- :func:`table` lines up rows, :func:`duration` says seconds in words.
"""

from __future__ import annotations

from enhancer.cli.commands.generate import consent
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, YesFlag, print_json, say, with_session
from enhancer.cli.tables import duration, table

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
