"""Describe the notes that are asked for about an entity.

A note is one text: the profile, or an aspect such as ``mood``. Several notes of one template may share a request. The
fingerprint of a note covers the request for that note alone, so that it does not depend on which other notes share its
request.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from enhancer.config.inputs import PROFILE, aspect_of, note_of
from enhancer.prompts.request_text import NOTE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.prompts.request_text import Knowledge, RequestText
    from enhancer.prompts.template import Template


@dataclass(frozen=True)
class Note:
    """One text that is asked for about an entity.

    Attributes:
        template: The template that asks for it.
        name: Its name: ``profile``, or that of an aspect; with ``:closed`` after it, if it is the version from the
            given text alone beside another one.
        knowledge: What the model may write from.
        sample: Number of the sample, from 1.
        alone: Whether it has requests of its own, even if the template asks for other notes.
    """

    template: Template
    name: str = PROFILE
    knowledge: Knowledge = "closed"
    sample: int = 1
    alone: bool = False

    @property
    def field(self) -> str:
        """Key of its text in an answer."""
        return note_of(self.name) if self.template.aspects else PROFILE

    @property
    def aspect(self) -> str:
        """Aspect of its records."""
        return aspect_of(self.name, self.sample)

    @cached_property
    def text(self) -> RequestText:
        """Request for this note alone."""
        return self.template.request(self.field, knowledge=self.knowledge)

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON schema of an answer to the request for this note alone."""
        return self.text.schema

    @cached_property
    def answer_schema(self) -> Mapping[str, Any] | None:
        """JSON schema of its part of an answer; None for a template without aspects, where it is the whole answer."""
        if not self.template.aspects:
            return None
        return {"type": "object", "properties": {self.field: NOTE_SCHEMA}, "required": [self.field]}

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash of everything that the request for this note alone holds beside the entity."""
        if not self.template.aspects and self.knowledge == "closed":
            return self.template.fingerprint
        canonical = json.dumps(
            {
                "kind": self.template.kind,
                "system": self.text.system,
                "user": self.template.user,
                "batch": self.text.group_system,
                "schema": self.text.schema,
            },
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def version(self) -> str:
        """Name of the template and start of the fingerprint, which records of this note carry."""
        return f"{self.template.name}@{self.fingerprint[:8]}"

    @property
    def lane(self) -> tuple[object, ...]:
        """Equal for the notes that may share a request."""
        return (self.template.fingerprint, self.knowledge, self.sample, self.name if self.alone else "")
