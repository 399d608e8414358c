"""The project: one configuration, the parts that it chooses, and the verbs over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer.project.parts import ProjectParts as ProjectParts
    from enhancer.project.project import Project as Project

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer.project.project": "Project",
        "enhancer.project.parts": "ProjectParts",
    },
)
