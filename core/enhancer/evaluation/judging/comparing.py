"""Compare the arms on one stratum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.judging.findings import Comparison, Finding
from enhancer.evaluation.judging.significance import Paired, bootstrap, holm, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.controls import Controls
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
) -> Finding:
    """Compare every arm with the baseline, and arms with vectors with their controls.

    Args:
        stratum: The stratum.
        runs: All runs of the ablation.
        controls: The controls of every arm, by the arm's name, in the order of the arms.
        baseline: Name of the arm that all others are compared with.
        metrics: Names such as ``ndcg@10``.
        reference: Metrics of the reference lines, by their names.
    """
    by_arm = {name: [run.measured[stratum.name] for run in runs if run.arm == name] for name in controls}
    per_seed = {
        name: {metric: [scores.mean(metric) for scores in measured] for metric in metrics}
        for name, measured in by_arm.items()
    }

    users_mean = {
        (name, metric): np.mean([scores.values[metric] for scores in measured], axis=0)
        for name, measured in by_arm.items()
        for metric in metrics
        if metric in measured[0].values
    }

    # The verdict picks among all arms what to say of any one of them, so each question is one family over all arms.
    families = {"baseline": [(name, baseline) for name in controls if name != baseline]}
    for name, own in controls.items():
        for role, control in own.by_role().items():
            if control.name != baseline:
                families.setdefault(role, []).append((name, control.name))
    tests: dict[tuple[str, str, str], Paired] = {}
    adjusted: dict[tuple[str, str, str], float | None] = {}
    for family in families.values():
        for metric in metrics:
            keys = [(name, against, metric) for name, against in family]
            tests |= {key: paired(per_seed[key[0]][metric], per_seed[key[1]][metric]) for key in keys}
            adjusted.update(zip(keys, holm([tests[key].p for key in keys]), strict=True))
    wanted = list(tests)
    by_user = [key for key in wanted if (key[0], key[2]) in users_mean]
    differences = [users_mean[name, metric] - users_mean[against, metric] for name, against, metric in by_user]
    intervals = dict(zip(by_user, bootstrap(np.stack(differences, axis=1)), strict=True)) if by_user else {}
    comparisons: list[Comparison] = []
    for key in wanted:
        name, against, metric = key
        reached = float(np.mean(per_seed[against][metric]))
        comparisons.append(
            Comparison(
                arm=name,
                baseline=against,
                metric=metric,
                paired=tests[key],
                p_adjusted=adjusted[key],
                relative=tests[key].delta / reached if reached else None,
                users_interval=intervals.get(key),
            )
        )
    return Finding(
        name=stratum.name,
        words=stratum.words,
        users=len(next(iter(by_arm.values()))[0].users),
        items=stratum.items,
        interactions=len(stratum.pairs.users),
        per_seed=per_seed,
        comparisons=comparisons,
        reference={
            name: measured[stratum.name].means() for name, measured in reference.items() if stratum.name in measured
        },
    )
