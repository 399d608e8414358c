"""Re-export :mod:`enhancer.project.parts`, the module's name since version 0.6."""

from enhancer.project.parts import ProjectParts as Parts, ProjectParts as ProjectParts  # noqa: F401
