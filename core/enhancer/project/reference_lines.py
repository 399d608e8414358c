"""Make the reference lines of a project: installed backbones that are shown beside what is trained."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from enhancer.contracts.options import Context
from enhancer.errors import PluginError
from enhancer.evaluation import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts.backbone import Backbone
    from enhancer.project.parts import ProjectParts

_log = logging.getLogger(__name__)


def reference_lines(parts: ProjectParts) -> dict[str, Reference]:
    """Return the installed backbones that declare a reference line, those without options to tune first.

    Where ``[backbone] use = "auto"`` has tried one of them, it is not tuned again.
    """
    tried = () if parts.auto is None else parts.auto.choice().tried
    tuned = {each.backbone: each.options for each in reversed(tried)}  # the best candidate of a backbone comes first
    found = {}
    for line in parts.plugins.listing():
        if line.kind != "backbone" or line.status != "ok":
            continue
        try:
            grid = parts.plugins.get("backbone", line.name).reference
        except PluginError as error:  # its module cannot be imported
            _log.warning("backbone %r cannot be a reference line: %s", line.name, error)
            continue
        if grid is not None:
            known = tuned.get(line.name)
            found[line.name] = Reference(
                make=partial(_make_reference, parts, line.name, known or {}), grid=grid if known is None else {}
            )
    return dict(sorted(found.items(), key=lambda pair: len(pair[1].grid)))


def _make_reference(parts: ProjectParts, name: str, tuned: Mapping[str, Any], options: Mapping[str, Any]) -> Backbone:
    made: Backbone = parts.plugins.create("backbone", name, {**tuned, **options}, Context(root=parts.root))
    return made
