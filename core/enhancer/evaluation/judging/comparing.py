"""Compare the arms on one stratum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.judging.findings import Comparison, Finding
from enhancer.evaluation.judging.significance import PairedTest, bootstrap, holm, paired

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
    by_arm = {name: [run.scores[stratum.name] for run in runs if run.arm == name] for name in controls}
    per_seed = {
        name: {metric: [scores.mean(metric) for scores in of_arm] for metric in metrics}
        for name, of_arm in by_arm.items()
    }
    per_user = {
        (name, metric): np.mean([scores.values[metric] for scores in of_arm], axis=0)
        for name, of_arm in by_arm.items()
        for metric in metrics
        if metric in of_arm[0].values
    }
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
    comparisons: list[Comparison] = []
    for key, test in tests.items():
        name, against, metric = key
        base = float(np.mean(per_seed[against][metric]))
        comparisons.append(
            Comparison(
                arm=name,
                baseline=against,
                metric=metric,
                paired=test,
                p_adjusted=adjusted[key],
                relative=test.delta / base if base else None,
                users_interval=intervals.get(key),
            )
        )
    return Finding(
        name=stratum.name,
        description=stratum.description,
        users=len(next(iter(by_arm.values()))[0].users),
        items=stratum.n_items,
        interactions=len(stratum.pairs.users),
        per_seed=per_seed,
        comparisons=comparisons,
        reference={name: scores[stratum.name].means() for name, scores in reference.items() if stratum.name in scores},
    )
