"""Compare the arms on one stratum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.judging.findings import Comparison, Finding
from enhancer.evaluation.judging.significance import PairedTest, bootstrap, holm, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.measuring.metrics import Scores
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.measuring.strata import Stratum
    from enhancer.evaluation.running.runs import ArmRun


def compare_arms(
    stratum: Stratum,
    runs: Sequence[ArmRun],
    *,
    controls: Mapping[str, Controls],
    baseline: str,
    metrics: Sequence[str],
    reference: Mapping[str, ScoresByStratum],
    content: Mapping[str, Sequence[Scores]] | None = None,
) -> Finding:
    """Compare every arm with the baseline, arms with vectors with their controls, and all with the reference lines.

    Args:
        stratum: The stratum.
        runs: All runs of the ablation.
        controls: The controls of every arm, by the arm's name, in the order of the arms.
        baseline: Name of the arm that all others are compared with.
        metrics: Names such as ``ndcg@10``.
        reference: Metrics of the reference lines, by their names.
        content: Metrics of the content baselines on this stratum, by name: one value, or one for each seed. They stand
            beside the arms, which are compared with them instead of with the reference lines.
    """
    content = content or {}
    by_arm = {name: [run.scores[stratum.name] for run in runs if run.arm == name] for name in controls}
    per_seed = _per_seed(by_arm, metrics)
    per_user = _per_user(by_arm, metrics)
    # The verdict picks the best of all arms afterwards, so each question is one family over all arms.
    families = {"baseline": [(name, baseline) for name in controls if name != baseline]}
    for name, own in controls.items():
        for role, control in own.by_role().items():
            if control.name != baseline:
                families.setdefault(role, []).append((name, control.name))
    tests: dict[tuple[str, str, str], PairedTest] = {}
    adjusted: dict[tuple[str, str, str], float | None] = {}
    for family in families.values():
        for metric in metrics:
            keys = [(name, against, metric) for name, against in family]
            tests |= {key: paired(per_seed[key[0]][metric], per_seed[key[1]][metric]) for key in keys}
            adjusted.update(zip(keys, holm([tests[key].p for key in keys]), strict=True))
    with_users = [key for key in tests if (key[0], key[2]) in per_user]
    differences = [per_user[name, metric] - per_user[against, metric] for name, against, metric in with_users]
    intervals = dict(zip(with_users, bootstrap(np.stack(differences, axis=1)), strict=True)) if with_users else {}
    comparisons = [
        Comparison(
            arm=key[0],
            baseline=key[1],
            metric=key[2],
            paired=test,
            p_adjusted=adjusted[key],
            relative=_relative(test.delta, per_seed[key[1]][key[2]]),
            users_interval=intervals.get(key),
        )
        for key, test in tests.items()
    ]
    n = len(next(iter(by_arm.values())))
    content_scores = {name: list(scores) * (n if len(scores) == 1 else 1) for name, scores in content.items()}
    lines = {name: [scores[stratum.name]] * n for name, scores in reference.items() if stratum.name in scores}
    return Finding(
        name=stratum.name,
        description=stratum.description,
        users=len(next(iter(by_arm.values()))[0].users),
        items=stratum.n_items,
        interactions=len(stratum.pairs.users),
        per_seed=per_seed | _per_seed(content_scores, metrics),
        comparisons=comparisons,
        reference={name: scores[0].means() for name, scores in lines.items()},
        content=list(content_scores),
        reference_comparisons=_against_lines(by_arm, content_scores or lines, metrics),
    )


def _against_lines(
    by_arm: Mapping[str, Sequence[Scores]], lines: Mapping[str, Sequence[Scores]], metrics: Sequence[str]
) -> list[Comparison]:
    """Compare every arm with every line, paired over users; metrics of labelled pairs, which are no means, over seeds.

    A line has one fit, so that seeds would show the noise of the arm alone. The best line is picked afterwards, so all
    comparisons on a metric are one family.
    """
    per_user, line_users = _per_user(by_arm, metrics), _per_user(lines, metrics)
    per_seed, line_seeds = _per_seed(by_arm, metrics), _per_seed(lines, metrics)
    found: list[Comparison] = []
    for metric in metrics:
        of_metric = []
        for line in lines:
            if metric not in line_seeds[line]:
                continue
            for name in by_arm:
                users = (name, metric) in per_user and len(per_user[name, metric]) > 1
                test = (
                    paired(per_user[name, metric], line_users[line, metric], signed_rank=False)
                    if users
                    else paired(per_seed[name][metric], line_seeds[line][metric], signed_rank=False)
                )
                of_metric.append((name, line, "users" if users else "seeds", test))
        for (name, line, over, test), p in zip(of_metric, holm([test.p for *_, test in of_metric]), strict=True):
            found.append(
                Comparison(
                    arm=name,
                    baseline=line,
                    metric=metric,
                    paired=test,
                    p_adjusted=p,
                    relative=_relative(test.delta, line_seeds[line][metric]),
                    users_interval=test.interval if over == "users" else None,
                    over="users" if over == "users" else "seeds",
                )
            )
    return found


def _per_seed(by_name: Mapping[str, Sequence[Scores]], metrics: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Return the mean over users by name, metric and seed; metrics that were not measured are left out."""
    return {
        name: {
            metric: [each.mean(metric) for each in scores]
            for metric in metrics
            if metric in scores[0].values or metric in scores[0].totals
        }
        for name, scores in by_name.items()
    }


def _per_user(
    by_name: Mapping[str, Sequence[Scores]], metrics: Sequence[str]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Return the mean over seeds by name, metric and user; metrics of labelled pairs are left out."""
    return {
        (name, metric): np.mean([each.values[metric] for each in scores], axis=0)
        for name, scores in by_name.items()
        for metric in metrics
        if metric in scores[0].values
    }


def _relative(delta: float, base: Sequence[float]) -> float | None:
    mean = float(np.mean(base))
    return delta / mean if mean else None
