"""State the verdict on each panel: whether to use vectors, whether meaning explains a gain, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from enhancer.evaluation.judging.contradiction import contradiction
from enhancer.evaluation.judging.controls import recipe_differences, same_backbone
from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.judging.new_items import Cost, cost_of
from enhancer.evaluation.judging.standing import Relation, Standing, standing_of
from enhancer.evaluation.judging.wording import MINUS, change, p_value, p_value_if_known, size_of
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.judging.findings import Comparison, Finding
    from enhancer.evaluation.judging.new_items import NewItems
    from enhancer.evaluation.running.arms import Arm

Level = Literal["semantic gain", "gain", "no significant gain", "loss", "below reference", "contradictory", "unknown"]
"""``gain``: significant, but not shown to come from meaning; ``below reference``: significantly below the best
reference line or content baseline; ``contradictory``: an inverted ranking, or validation says the opposite;
``unknown``: one seed only, or nothing to compare."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one panel."""

    level: Level
    text: str
    """The verdict in sentences."""
    arm: str | None = None
    """Name of the best arm with vectors; None without such arms."""
    line: str | None = None
    """Name of the best reference line, or of the best content baseline where there are some; None without any."""
    standing: Relation | None = None
    """Where the arm stands relative to that line; None without any."""
    costs_others: bool = False
    """Whether the arm is significantly worse elsewhere: its new items over everything, or a tail over all items."""

    def __str__(self) -> str:
        return self.text

    @property
    def headline(self) -> str:
        """First sentence, without the panel that it is about."""
        return self.text.partition(": ")[2].partition(". ")[0].rstrip(".")

    def to_json(self) -> dict[str, Any]:
        """Return everything but the text as JSON values."""
        return {
            "level": self.level,
            "arm": self.arm,
            "reference": self.line,
            "standing": self.standing,
            "costs_others": self.costs_others,
        }


_GAINS: tuple[Level, ...] = ("semantic gain", "gain")
_PLACES = {
    "all": "Over all items",
    "tail": "On the tail",
    "cold": "On items held out of training, ranked among themselves",
}


def verdicts(
    findings: Mapping[str, Finding],
    arms: Sequence[Arm],
    controls: Mapping[str, Controls],
    baseline: str,
    metric: str,
    *,
    validation: Mapping[str, Sequence[float | None]] | None = None,
    shares: NewItems | None = None,
) -> dict[str, Verdict]:
    """Return the verdicts on ``all``, ``tail`` and ``cold``, as far as these panels exist.

    Args:
        findings: Findings by panel.
        arms: All arms, controls included.
        controls: The controls of every arm, by the arm's name.
        baseline: Name of the baseline arm.
        metric: The metric that decides.
        validation: Values of that metric on the validation part, by arm and seed.
        shares: Shares of new items; None without held-out items.
    """
    return {
        name: _PanelJudge(findings, name, arms, controls, baseline, metric, validation or {}, shares).verdict()
        for name in _PLACES
        if name in findings
    }


@dataclass(frozen=True, slots=True)
class _Judgement:
    """Conclusion that comparisons with the baseline and with control arms support."""

    level: Level
    opening: str
    sentences: list[str] = field(default_factory=list)
    best: Arm | None = None


@dataclass(frozen=True, slots=True)
class _PanelJudge:
    """Judges the best arm with vectors on one panel."""

    findings: Mapping[str, Finding]
    name: str
    arms: Sequence[Arm]
    controls: Mapping[str, Controls]
    baseline: str
    metric: str
    validation: Mapping[str, Sequence[float | None]]
    shares: NewItems | None

    @property
    def finding(self) -> Finding:
        """The finding on the panel."""
        return self.findings[self.name]

    def verdict(self) -> Verdict:
        """Judge the best arm with vectors, and put first whatever forbids to use it."""
        judgement = self._judgement()
        best = self.baseline if judgement.best is None else judgement.best.name
        standing = standing_of(self.finding, best, self.arms, self.metric)
        cost = None if judgement.best is None else self._cost(judgement.best)
        level, opening, sentences = self._with_standing(judgement, standing)
        if cost is not None and self.name == "all" and cost.significant:
            over_everything = cost.sentences[-1]
            sentences.append(f"With new items among the others, {over_everything[:1].lower()}{over_everything[1:]}")
        elif cost is not None and self.name != "all":
            if cost.significant:
                opening += f", {'but' if level in _GAINS else 'and'} {cost.headline}"
            sentences += cost.sentences
        if self.name == "all" and judgement.best is not None:
            sentences += self._tail(judgement.best, recommended=level in _GAINS)
        found = None
        if self.name == "all":
            found = contradiction(self.finding, best, self.baseline, self.metric, self.validation)
        if found is not None:
            level, opening, sentences = "contradictory", found, []
            if standing is not None:
                reached = format_number(standing.value)
                sentences = [f"The best reference, {standing.line}, reaches {reached}"]
        return Verdict(
            level,
            ". ".join([f"{_PLACES[self.name]}: {opening}", *sentences]) + ".",
            None if judgement.best is None else judgement.best.name,
            None if standing is None else standing.line,
            None if standing is None else standing.relation,
            cost is not None and cost.significant,
        )

    def _with_standing(self, judgement: _Judgement, standing: Standing | None) -> tuple[Level, str, list[str]]:
        """Add where the best arm stands relative to the best reference line or content baseline."""
        level, opening, sentences = judgement.level, judgement.opening, list(judgement.sentences)
        if standing is None:
            return level, opening, sentences
        words = standing.words(self.finding, self.metric, gained=level in _GAINS)
        if standing.content and judgement.best is not None:
            level, opening, sentences = self._against_content(judgement, standing)
        elif standing.beaten_by:
            ending = ": do not ship this" if self.name == "all" else ""
            level, sentences = "below reference", [f"As for the vectors: {opening}", *sentences]
            opening = f"{words}{ending}"
        else:
            level = "below reference" if standing.relation == "below" else level
            if judgement.best is None:  # it is the baseline that stands there
                sentences.append(f"{self.baseline} is {words.removeprefix(', ').removeprefix('and ')}")
            else:
                opening = f"{opening}{words}"
        return level, opening, sentences

    def _against_content(self, judgement: _Judgement, standing: Standing) -> tuple[Level, str, list[str]]:
        """Tell the gain on new items against the best content baseline, not against arms that know nothing of them."""
        assert judgement.best is not None
        best, comparison = judgement.best.name, standing.comparison
        level, opening = judgement.level, judgement.opening
        gained = level in _GAINS
        words = standing.words(self.finding, self.metric, gained=False)
        if standing.beaten_by:
            level, opening = "below reference", words
        elif standing.relation == "below":
            level, opening = "below reference", f"no gain{words}"
        elif standing.relation == "level" and gained:
            level, opening = "no significant gain", f"no significant gain{words}"
        else:
            opening = f"{opening}{words}"
        test = self.finding.compare_line(best, standing.line, self.metric) or comparison
        first = f"{best} reaches {metric_label(self.metric)} {format_number(self.finding.mean(best, self.metric))}"
        if test is not None:
            first += (
                f" against {format_number(standing.value)} of {standing.line}{change(test)}{p_value_if_known(test)}"
            )
        beside = f"Beside arms that know nothing of these items: {judgement.opening}"
        return level, opening, [first, beside, *judgement.sentences]

    def _judgement(self) -> _Judgement:
        """Judge the best arm with vectors, among those with a significant gain if there are any.

        The best arm is picked after the fact. Holm's correction over all arms makes that fair. An arm whose backbone
        options differ from the baseline's gets credit only for its gain over the same backbone without vectors.
        """
        finding, baseline, metric = self.finding, self.baseline, self.metric
        candidates = [arm for arm in self.arms if arm.semantic and not arm.shuffle and arm.name != baseline]
        if not candidates:
            return _Judgement("unknown", "no arm with vectors was run, so there is nothing to judge")
        credit = {arm.name: self._credit(arm) for arm in candidates}
        gaining = [arm for arm in candidates if credit[arm.name] == "vectors"]
        gaining = gaining or [arm for arm in candidates if credit[arm.name] == "undecided"]
        best = max(gaining or candidates, key=lambda arm: direction(metric) * finding.mean(arm.name, metric))
        against = finding.compare(best.name, baseline, metric)
        if against is None:
            return _Judgement("unknown", f"{best.name} was not compared", best=best)
        reached, base = finding.mean(best.name, metric), finding.mean(baseline, metric)
        values = f"reaches {metric_label(metric)} {format_number(reached)} against {format_number(base)} of {baseline}"
        # Where content baselines stand, the baseline ranks by chance, and the size of a gain over it means little.
        size = "" if finding.content else change(against)
        numbers = f"{values}{size}"
        if against.paired.n == 1 or against.paired.p is None:
            reason = (
                "One seed cannot separate a gain from chance: run several"
                if against.paired.n == 1
                else _untestable(against)
            )
            return _Judgement("unknown", "not decided", [f"{best.name} {numbers}", reason], best)
        known = f"{numbers} ({p_value(against)})"
        if not against.significant:
            sentences = [f"The best arm with vectors, {best.name}, {known}"]
            return _Judgement("no significant gain", "no significant gain", sentences, best)
        if against.worse:
            return _Judgement("loss", "a loss", [f"Even the best arm with vectors, {best.name}, {known}"], best)
        about_backbone = self._against_backbone(best)
        if credit[best.name] == "backbone":
            sentences = [f"{best.name} {known}", *about_backbone]
            return _Judgement("no significant gain", "no significant gain from vectors", sentences, best)
        level, opening, about_placebo = self._against_placebo(best)
        if credit[best.name] == "undecided":
            level, opening = "gain", "a gain, not shown to come from vectors"
        if level == "gain":  # shuffled vectors may make it too, so its size is not told
            known = f"{values} ({p_value(against)})"
        sentences = [f"{best.name} {known}", *about_backbone, about_placebo]
        text_arm = self.controls[best.name].text
        if text_arm is not None:
            sentences.append(self._against_text(best, text_arm))
        if best.inputs == ("text",) and any(arm.has_notes for arm in candidates):
            sentences.append("The best arm uses raw text: this gain needs no LLM")
        return _Judgement(level, opening, sentences, best)

    def _credit(self, arm: Arm) -> Literal["nothing", "vectors", "backbone", "undecided"]:
        """Return what a gain over the baseline is due to; ``undecided`` if no arm without vectors has its backbone."""
        test = self._test(arm, self.baseline)
        if test is None or not test.better:
            return "nothing"
        if self._on_baseline_backbone(arm):
            return "vectors"
        backbone_only = self.controls[arm.name].backbone_only
        if backbone_only is None:
            return "undecided"
        test = self._test(arm, backbone_only.name)
        return "vectors" if test is not None and test.better else "backbone"

    def _against_backbone(self, best: Arm) -> list[str]:
        """Compare with the same backbone without vectors, if its options differ from the baseline's."""
        if self._on_baseline_backbone(best):
            return []
        backbone_only = self.controls[best.name].backbone_only
        if backbone_only is None:
            sentence = (
                f"Its backbone options differ from those of {self.baseline}, and no arm without vectors shares them, "
                "so they may explain the gain"
            )
            return [sentence]
        test = self._test(best, backbone_only.name)
        reached = f"The same backbone without vectors, {backbone_only.name}, reaches {self._mean(backbone_only)}"
        if test is not None and test.better:
            return [f"{reached} ({p_value(test)})"]
        return [f"{reached}, {_no_worse(test)}: the gain comes from the backbone"]

    def _against_placebo(self, best: Arm) -> tuple[Level, str, str]:
        """Return the level, the opening of the verdict, and the sentence about shuffled vectors."""
        placebo = self.controls[best.name].placebo
        if placebo is None:
            return (
                "gain",
                "a gain, not shown to come from meaning",
                "No arm with shuffled vectors was run, so a wider input may explain the gain",
            )
        test = self._test(best, placebo.name)
        apart = recipe_differences(best, placebo)
        other = f" ({', '.join(apart)})" if apart else ""
        reached = f"Shuffled vectors{other} reach {self._mean(placebo)}"
        if test is None or not test.better:
            sentence = f"{reached}, {_no_worse(test)}: the gain is not shown to come from meaning"
            return "gain", "a gain, but no semantic gain", sentence
        if apart:
            sentence = (
                f"{reached} ({p_value(test)}), but by another recipe, and the difference may explain the gain: run an "
                f"arm like {best.name} with shuffle = true"
            )
            return "gain", "a gain, but not shown to be semantic", sentence
        return "semantic gain", "a semantic gain", f"{reached} ({p_value(test)}): the gain comes from meaning"

    def _against_text(self, best: Arm, text: Arm) -> str:
        test = self._test(best, text.name)
        apart = recipe_differences(best, text, width=False)
        other = f" ({', '.join(apart)})" if apart else ""
        reached = f"Raw text without an LLM{other} reaches {self._mean(text)}"
        if test is None or not test.significant:
            return f"{reached}, which is not significantly different{p_value_if_known(test)}"
        if not test.better:
            return f"{reached}, significantly better ({p_value(test)})"
        return f"{reached} ({p_value(test)}){', by another recipe' if apart else ': the LLM improves on it'}"

    def _cost(self, best: Arm) -> Cost | None:
        """Return what the arm costs elsewhere: a gain on the tail over all items, one on new items over everything."""
        if self.name == "tail":
            overall = self.findings.get("all")
            test = None if overall is None else overall.compare(best.name, self._without_vectors(best), self.metric)
            if test is None or not test.worse:
                return None
            headline = f"over all items {size_of(test)} by {best.name}{p_value_if_known(test)}"
            here = self._test(best, self._without_vectors(best))
            paid = here is not None and here.gain > 0
            return Cost(True, f"{headline}: the others pay for it" if paid else headline, [])
        return cost_of(best.name, self.findings, self._without_vectors(best), self.metric, self.shares)

    def _without_vectors(self, arm: Arm) -> str:
        """Return the name of the same backbone without vectors, or else of the baseline."""
        own = self.controls[arm.name].backbone_only
        return self.baseline if own is None else own.name

    def _tail(self, best: Arm, *, recommended: bool) -> list[str]:
        """Tell that an arm is below ids on the tail: if it is recommended, or if the loss is significant."""
        tail, against = self.findings.get("tail"), self._without_vectors(best)
        test = None if tail is None else tail.compare(best.name, against, self.metric)
        if tail is None or test is None or test.gain >= 0 or not (recommended or test.worse):
            return []
        reached = format_number(tail.mean(best.name, self.metric)), format_number(tail.mean(against, self.metric))
        sentence = f"On the tail it is below {against}: {reached[0]} against {reached[1]}{change(test)}"
        return [f"{sentence}{p_value_if_known(test)}"]

    def _test(self, arm: Arm, against: str) -> Comparison | None:
        return self.finding.compare(arm.name, against, self.metric)

    def _mean(self, arm: Arm) -> str:
        return format_number(self.finding.mean(arm.name, self.metric))

    def _on_baseline_backbone(self, arm: Arm) -> bool:
        return same_backbone(arm, next(other for other in self.arms if other.name == self.baseline))


def _untestable(comparison: Comparison) -> str:
    interval = comparison.users_interval
    over_users = ""
    if interval is not None:
        low, high = (format_number(end).replace("-", MINUS) for end in interval)
        over_users = f"; its 95% interval over users is {low} to {high}"
    return f"The difference is the same for every seed, so it cannot be tested over seeds{over_users}"


def _no_worse(comparison: Comparison | None) -> str:
    """Describe a control that the best arm is not significantly better than."""
    worse = comparison is not None and comparison.worse
    return f"{'significantly better' if worse else 'not significantly worse'}{p_value_if_known(comparison)}"
