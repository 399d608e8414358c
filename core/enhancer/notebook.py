"""Progress bars for notebooks.

>>> from enhancer.notebook import progress
>>> project.generate(listener=progress())  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import sys
import time
from html import escape
from typing import TYPE_CHECKING, Any

from enhancer.cli.progress import ProgressView
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.progress import Listener, Progress

_EVERY = 0.2
"""Least seconds between two updates of the cell."""


def progress() -> Listener:
    """Return a listener that shows progress: as bars below the cell in a notebook, as lines on stderr elsewhere.

    Make a new one for each call.
    """
    shell = sys.modules.get("IPython")
    inside = shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None
    return NotebookProgress() if inside else ProgressView()


class NotebookProgress(ProgressView):
    """A listener that shows a bar for each stage in one output of a cell, and updates that output.

    Any thread may call it: the output belongs to the cell in which it was made.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream=sys.stderr, clock=clock)
        try:
            shown: Any = importlib.import_module("IPython.display")
        except ModuleNotFoundError:
            raise ConfigError("IPython is not installed", hint="pip install ipykernel") from None
        self._html = shown.HTML
        self._output = shown.display(shown.HTML(""), display_id=True)
        self._shown_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        """Handle an event."""
        now = self._clock()
        stage = self._stage(progress, now)
        if now - self._shown_at >= _EVERY or stage.complete:
            self._shown_at = now
            if self._output is not None:  # outside a notebook there is nothing to update
                self._output.update(self._html(self.to_html()))

    def to_html(self) -> str:
        """Return the bars of all stages so far."""
        bars = "".join(f"<div>{self._bar(stage.latest)} {escape(line)}</div>" for stage, line in self._lines())
        return bars + "".join(f"<div><small>{escape(line)}</small></div>" for line in self.latest())

    @staticmethod
    def _bar(latest: Progress) -> str:
        if latest.total is None or latest.growing:
            return '<progress style="width:12em"></progress>'
        return f'<progress style="width:12em" value="{latest.done}" max="{max(latest.total, 1)}"></progress>'
