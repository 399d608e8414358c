"""``[backbone] use = "auto"``: gather the candidates among the installed plugins, choose once, and remember it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, EnhancerError, FusionError, PluginError, did_you_mean
from enhancer.evaluation.choosing.choice import Candidate
from enhancer.evaluation.measuring.metrics import direction
from enhancer.evaluation.running.arms import TEXT_ARM
from enhancer.progress import silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from enhancer.config import Settings
    from enhancer.config.schema import AutoConfig
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.features import Sides
    from enhancer.contracts.fuser import Fuser
    from enhancer.data import Split
    from enhancer.evaluation.choosing.choice import BackboneChoice, TriedBackbone
    from enhancer.evaluation.running.arms import Arm
    from enhancer.plugin_host import PluginInfo, PluginManager
    from enhancer.progress import Listener
    from enhancer.project.chosen_plugins import ChosenPlugins

ArmTrial = Callable[["Arm", int], "float | None"]
"""Function that trains an arm with a seed and returns the first metric on validation; None if training failed."""
_log = logging.getLogger(__name__)
_TRIAL_SEED = 10_000
"""Added to the seed of the settings for all trials, so that no run that is compared has their seed."""
_FINALISTS = 3
"""Candidates that are tried with a fuser."""


class AutoBackbone:
    """The backbone that ``use = "auto"`` stands for.

    Args:
        settings: The configuration.
        config: The options of ``[backbone]``.
        plugins: The plugin host.
        chosen: Creates backbones.
        split: Returns the split.
        sides: Returns the side features.
        folder: Folder of finished runs, where trials are remembered.
    """

    def __init__(
        self,
        settings: Settings,
        config: AutoConfig,
        plugins: PluginManager,
        chosen: ChosenPlugins,
        *,
        split: Callable[[], Split],
        sides: Callable[[], Sides | None],
        folder: Path,
    ) -> None:
        self._settings, self._config = settings, config
        self._plugins, self._chosen = plugins, chosen
        self._split, self._sides, self._folder = split, sides, folder
        self._choice: BackboneChoice | None = None
        self._finals: dict[tuple[str, str], TriedBackbone] = {}

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The candidates of all installed backbones, or of those that ``candidates`` names.

        Raises:
            ConfigError: ``candidates`` names a backbone that is not installed or offers no candidate.
        """
        lines = [line for line in self._plugins.listing() if line.kind == "backbone"]
        wanted = self._config.candidates
        if wanted is not None:
            for name in wanted:
                if not any(_names(line, name) for line in lines):
                    hint = did_you_mean(name, sorted({line.name for line in lines}))
                    raise ConfigError(f"[backbone] candidates: unknown backbone {name!r}", hint=hint)
            lines = [line for line in lines if any(_names(line, name) for name in wanted)]
        found = [candidate for line in lines for candidate in self._candidates_of(line, named=wanted is not None)]
        labels = [candidate.label for candidate in found]
        return [
            replace(each, label=_arm_name(each.backbone)) if labels.count(each.label) > 1 else each for each in found
        ]

    def _candidates_of(self, line: PluginInfo, *, named: bool) -> list[Candidate]:
        from enhancer.plugin_host import normalise

        qualified = f"{normalise(line.distribution)}:{line.name}"
        use = qualified if line.status == "conflict" else line.name
        if not self._plugins.is_registered("backbone", qualified):
            return []
        reason = line.reason if line.status in ("unavailable", "broken") else None
        try:
            offered: Sequence[Mapping[str, Any]] = self._plugins.get("backbone", qualified, complete=False).candidates
        except PluginError as error:  # without its libraries, a plugin of others may not even be importable
            return [self._candidate(line.name, use, {}, reason or str(error))]
        if not offered and named:
            raise ConfigError(
                f"[backbone] candidates: {line.name!r} does not offer itself to be tried",
                hint=f"set [backbone] use = {line.name!r} to use it",
            )
        varied = {name for options in offered for name in options}
        return [
            self._candidate(_label(line.name, options, varied if len(offered) > 1 else set()), use, options, reason)
            for options in offered
        ]

    def _candidate(self, label: str, use: str, options: Mapping[str, Any], reason: str | None) -> Candidate:
        def make(changed: Mapping[str, Any]) -> Backbone:
            return self._chosen.backbone_of(use, changed)

        return Candidate(label=label, backbone=use, options=options, make=make, unavailable=reason)

    def choice(self, listener: Listener = silent) -> BackboneChoice:
        """Return the candidates in the order of their quality, tried once and remembered.

        The result depends on the split, the first metric, the seed and the options of ``[backbone]`` alone, so that
        ``train`` and ``ablate`` agree.

        Args:
            listener: Called with progress: stage ``choose``.

        Raises:
            ConfigError: No candidate can be tried.
            EvaluationError: The split has no validation part.
        """
        if self._choice is not None:
            return self._choice
        from enhancer.evaluation import RunCache, Views
        from enhancer.evaluation.choosing.choose import BackboneChooser
        from enhancer.evaluation.running.run_cache import entity_ids

        settings, split = self._settings, self._split()
        chooser = BackboneChooser(
            Views(split),
            settings.evaluation.metrics,
            sides=self._sides(),
            seed=settings.seed + _TRIAL_SEED,
            trials=self._config.trials,
        )
        able, left_out = chooser.examine(self.candidates)
        path = None
        if able:
            data = chooser.data_for(able[0][1])
            backbones = [backbone for _, backbone in able]
            cache = RunCache(self._folder, identity=entity_ids(split.train))
            recipe = {"trials": self._config.trials}
            key = cache.key(_arm("auto", recipe), chooser.seed, data, split, [chooser.metric], backbones, tested=False)
            path = self._folder / f"choice-{key}.json"
        self._choice = chooser.choose(able, left_out, remember=path, listener=listener)
        return self._choice

    def arm(self, arm: Arm, fuser: Fuser, listener: Listener = silent, *, trial: ArmTrial | None = None) -> Arm:
        """Return the arm on the best candidate that accepts its fuser and its own backbone options.

        The best candidates without vectors are tried with the fuser. An arm with the fuser and the options of an
        earlier one gets the same candidate, so that a control has the backbone of the arm that it controls.

        Args:
            arm: The arm as configured.
            fuser: Its fuser.
            listener: Called with progress while candidates are tried.
            trial: Returns the validation of an arm with the seed of the trials. None chooses the best candidate
                without vectors.

        Raises:
            FusionError: No candidate accepts the fuser.
            ConfigError: No candidate takes the arm's backbone options.
        """
        key = arm.fuser, json.dumps([dict(arm.fuser_options), dict(arm.backbone_options)], sort_keys=True, default=repr)
        if key not in self._finals:
            accepted = self._accepted(arm, fuser, listener)
            best = accepted[0]
            if trial is not None and fuser.uses_semantics and len(accepted) > 1:
                best = self._final(arm, accepted[:_FINALISTS], trial)
            self._finals[key] = best
        return self._placed(arm, self._finals[key])

    def _accepted(self, arm: Arm, fuser: Fuser, listener: Listener) -> list[TriedBackbone]:
        """Return the candidates that accept the arm's fuser and options, the best one without vectors first."""
        choice = self.choice(listener)
        accepted: list[TriedBackbone] = []
        refused: list[EnhancerError] = []
        for each in choice.tried:
            try:
                backbone = self._chosen.backbone(self._placed(arm, each))
                fuser.check(backbone, arm.fuser, each.backbone)
            except (ConfigError, FusionError) as error:
                refused.append(error)
            else:
                accepted.append(each)
        if not accepted:
            if not isinstance(refused[0], FusionError):
                raise refused[0]
            tried = ", ".join(each.label for each in choice.tried)
            none_fits = FusionError(
                f"fuser {arm.fuser!r} works with none of the backbones that 'auto' could try ({tried}): "
                f"{refused[-1].message}",
                hint="choose another [fuser] use, or name a backbone in [backbone] use",
            )
            none_fits.accepts = tuple(one for each in refused if isinstance(each, FusionError) for one in each.accepts)
            raise none_fits
        return accepted

    def _final(self, arm: Arm, finalists: Sequence[TriedBackbone], trial: ArmTrial) -> TriedBackbone:
        """Try candidates with the arm's fuser; return the best, or of equally good ones the better without vectors."""
        choice = self.choice()
        seed = self._settings.seed + _TRIAL_SEED
        values = {
            each.label: trial(replace(self._placed(arm, each), name=f"{arm.name}-{each.label}"), seed)
            for each in finalists
        }
        sign = direction(choice.metric)
        best = max(finalists, key=lambda each: -math.inf if (v := values[each.label]) is None else sign * v)
        self._choice = replace(choice, finals={**choice.finals, arm.name: values})
        told = ", ".join(f"{label} {'failed' if v is None else format(v, '.4f')}" for label, v in values.items())
        _log.info(
            "auto: with fuser %r, %s on validation: %s, so %s is used", arm.fuser, choice.metric, told, best.label
        )
        return best

    def warn_if_behind(self, arm: Arm) -> None:
        """Warn if the arm is behind the best candidate without vectors on validation, with both values."""
        choice = self.choice()
        winner = choice.winner
        own = choice.best(lambda each: each.label == self._label_of(arm))
        if own is None or own is winner or winner.value is None or own.value is None:
            return
        fused = choice.finals.get(arm.name, {}).get(own.label)
        value, how = (own.value, "without vectors") if fused is None else (fused, "with them")
        if direction(choice.metric) * (value - winner.value) >= 0:
            return
        _log.warning(
            "auto: %s is best on validation (%s %.4f without vectors) but is not used with fuser %r; %s (%.4f %s) is: "
            "run `enhancer ablate` before serving it, or set [fuser] use = 'none'",
            winner.label,
            choice.metric,
            winner.value,
            arm.fuser,
            own.label,
            value,
            how,
        )

    def _placed(self, arm: Arm, on: TriedBackbone) -> Arm:
        from enhancer.contracts.options import overlaid

        options = dict(on.options)
        if arm.backbone_options:
            cls = self._plugins.get("backbone", on.backbone).options_class
            options = overlaid(cls, options, arm.backbone_options)
        return replace(arm, backbone=on.backbone, backbone_options=options)

    def arms(
        self,
        arms: Sequence[Arm],
        make_fuser: Callable[[Arm], Fuser],
        listener: Listener = silent,
        *,
        trial: ArmTrial | None = None,
    ) -> list[Arm]:
        """Return all arms, each on the best candidate for it, with arms without vectors to compare them with.

        Those are added where none is listed: the same backbone without vectors for each arm with vectors, and the best
        candidate.

        Args:
            arms: The arms as configured.
            make_fuser: Makes the fuser of an arm.
            listener: Called with progress while candidates are tried.
            trial: See :meth:`arm`.

        Raises:
            FusionError: No candidate accepts the fuser of an arm.
            ConfigError: No candidate takes the backbone options of an arm.
        """
        # Controls come last, so that they get the backbone of the arms that they control.
        first = sorted(arms, key=lambda arm: (arm.shuffle, arm.name == TEXT_ARM))
        on = {arm.name: self.arm(arm, make_fuser(arm), listener, trial=trial) for arm in first}
        placed = [on[arm.name] for arm in arms]
        plain = next((arm for arm in arms if not arm.semantic), _arm("none"))
        semantic = [arm for arm in placed if arm.semantic and not arm.shuffle]
        winner = [self._placed(replace(plain, backbone_options={}), self.choice().winner)] if semantic else []
        for arm in [*winner, *semantic]:
            if any(_shares_backbone(arm, other) for other in placed):
                continue
            name = _free_name(f"{plain.fuser}-{self._label_of(arm)}", [other.name for other in placed])
            placed.append(replace(plain, name=name, backbone=arm.backbone, backbone_options=arm.backbone_options))
        return placed

    def _label_of(self, arm: Arm) -> str:
        """Return the label of the candidate that an arm is on."""
        found = [
            each.candidate
            for each in self.choice().tried
            if each.backbone == arm.backbone and each.candidate.options.items() <= dict(arm.backbone_options).items()
        ]
        # One candidate may have the options of another and more.
        nearest = max(found, key=lambda candidate: len(candidate.options), default=None)
        return _arm_name(str(arm.backbone)) if nearest is None else nearest.label


def _shares_backbone(arm: Arm, other: Arm) -> bool:
    """Check whether ``other`` is the arm's backbone without vectors."""
    same = (other.backbone, dict(other.backbone_options)) == (arm.backbone, dict(arm.backbone_options))
    return same and not other.semantic


def _arm(name: str, options: Mapping[str, Any] | None = None) -> Arm:
    from enhancer.evaluation import Arm

    return Arm(name, "none", fuser_options=options or {}, semantic=False)


def _free_name(name: str, taken: Sequence[str]) -> str:
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(each for each in names if each not in taken)


def _arm_name(use: str) -> str:
    return use.replace(":", "-")


def _names(line: PluginInfo, use: str) -> bool:
    from enhancer.plugin_host import normalise

    distribution, _, name = use.rpartition(":")
    return normalise(name) == line.name and normalise(distribution) in ("", normalise(line.distribution))


def _label(name: str, options: Mapping[str, Any], varied: set[str]) -> str:
    """Return the name of a plugin with the options in which its candidates differ."""
    told = [
        value if isinstance(value, str) else f"{option}-{value}"
        for option, value in options.items()
        if option in varied
    ]
    return "-".join([name, *told])
