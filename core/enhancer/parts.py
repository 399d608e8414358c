"""Kept for imports of the old name; use :mod:`enhancer.project.parts`."""

from enhancer.project.parts import ProjectParts as Parts, ProjectParts as ProjectParts  # noqa: F401
