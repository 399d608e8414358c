"""Find the control arms of each arm: the same backbone without vectors, shuffled vectors, and raw text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.evaluation.running.arms import Arm


@dataclass(frozen=True, slots=True)
class Controls:
    """Arms that an arm with vectors must beat, besides the baseline, before its vectors get credit for a gain."""

    backbone_only: Arm | None = None
    """The arm without vectors that has the same backbone with the same options."""
    placebo: Arm | None = None
    """The most similar arm with shuffled vectors; see :func:`recipe_differences`."""
    text: Arm | None = None
    """The most similar arm on raw text; None for an arm without notes of an LLM."""

    def by_role(self) -> dict[str, Arm]:
        """Return the controls that exist, by field name."""
        named = {"backbone_only": self.backbone_only, "placebo": self.placebo, "text": self.text}
        return {role: arm for role, arm in named.items() if arm is not None}


def controls_by_arm(arms: Sequence[Arm]) -> dict[str, Controls]:
    """Return the controls of every arm, by the arm's name."""
    return {arm.name: controls_of(arm, arms) for arm in arms}


def controls_of(arm: Arm, arms: Sequence[Arm]) -> Controls:
    """Return the controls of one arm; none for an arm without vectors or with shuffled ones."""
    if not arm.semantic or arm.shuffle:
        return Controls()

    def most_similar(others: list[Arm]) -> Arm | None:
        return max(others, key=lambda other: _similarity(arm, other)) if others else None

    return Controls(
        next((other for other in arms if not other.semantic and same_backbone(arm, other)), None),
        most_similar([other for other in arms if other.semantic and other.shuffle]),
        most_similar([other for other in arms if other.semantic and not other.shuffle and other.inputs == ("text",)])
        if arm.has_notes
        else None,
    )


def same_backbone(arm: Arm, other: Arm) -> bool:
    """Check whether both arms were configured with the same backbone and the same options of it."""
    one, two = arm.configured, other.configured
    return one.backbone == two.backbone and dict(one.backbone_options) == dict(two.backbone_options)


def recipe_differences(arm: Arm, other: Arm, *, width: bool = True) -> list[str]:
    """Describe how ``other`` differs from ``arm`` besides the meaning of its vectors; empty for a fair control.

    Args:
        arm: The arm that may get credit.
        other: Its placebo, or an arm on raw text.
        width: Whether to compare the number of inputs. The vectors of a placebo must be as wide as the arm's.
    """
    found = []
    if other.fuser != arm.fuser:
        found.append(f"with {other.fuser} instead of {arm.fuser}")
    elif not _same_fuser_options(arm, other):
        found.append(f"with other options of {arm.fuser}")
    if other.backbone != arm.backbone:
        found.append(f"on the backbone {other.backbone} instead of {arm.backbone}")
    elif not same_backbone(arm, other):
        found.append("with other backbone options")
    if width and len(other.inputs) != len(arm.inputs):
        found.append(f"on {' + '.join(other.inputs)} instead of {' + '.join(arm.inputs)}")
    return found


def _same_fuser_options(arm: Arm, other: Arm) -> bool:
    return dict(other.configured.fuser_options) == dict(arm.configured.fuser_options)


def _similarity(arm: Arm, other: Arm) -> tuple[bool, ...]:
    return (
        other.fuser == arm.fuser,
        same_backbone(arm, other),
        other.inputs == arm.inputs,
        _same_fuser_options(arm, other),
    )
