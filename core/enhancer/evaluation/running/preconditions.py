"""Check that data, backbone and metrics go together, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError, EvaluationError
from enhancer.evaluation.measuring.metrics import parse_metric
from enhancer.evaluation.measuring.views import labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.backbone import Backbone, TrainingData
    from enhancer.evaluation.measuring.views import Views

_LABEL = "set [data.columns] label, such as label = 'click' or label = 'rating >= 4'"


def check_metrics(views: Views, metrics: Sequence[str]) -> None:
    """Check that every metric is defined on the split.

    Raises:
        ConfigError: A metric is unknown, or needs labels that the interactions do not have.
        EvaluationError: The labels that a metric needs are all equal.
    """
    parsed = [parse_metric(metric) for metric in metrics]
    uses_labels = [metric.name for metric in parsed if metric.uses_labels]
    if not uses_labels:
        return
    check_labelled(metrics, labelled=labels_of(views.split.test) is not None)
    for part, name, needed in (
        (views.labelled_test, "test", uses_labels),
        (views.labelled_validation, "validation", [parsed[0].name] if parsed[0].uses_labels else []),
    ):
        if needed and len(part.labels) and not part.defines(needed):
            raise EvaluationError(
                f"metric {needed[0]!r} is undefined: the {name} part has no user with interactions of both labels"
                if "gauc" in needed and part.defines([metric for metric in needed if metric != "gauc"])
                else f"metric {needed[0]!r} is undefined: all labels of the {name} part are equal",
                hint="check [data.columns] label, and [evaluation] split and min_rating",
            )


def check_task(
    backbone: Backbone, data: TrainingData, views: Views, metrics: Sequence[str], name: str | None = None
) -> None:
    """Check that the backbone can learn from the data, and that every metric is defined on its scores and the split.

    Args:
        backbone: The backbone to train.
        data: Its training data; vectors are not needed.
        views: The split.
        metrics: Names such as ``ndcg@10``.
        name: The backbone's name in error messages; None for the name it was created by.

    Raises:
        ConfigError: As of :func:`check_metrics`; log loss of a backbone that gives no probabilities; or data that
            :meth:`~enhancer.contracts.Backbone.check_data` rejects.
        EvaluationError: The labels that training or a metric needs are all equal.
    """
    backbone.check_data(data, name)
    if data.labels is not None and (np.all(data.labels > 0) or not np.any(data.labels > 0)):
        label = "positive" if data.labels[0] > 0 else "negative"
        raise EvaluationError(
            f"all training interactions are {label}: both labels are needed to train on labels",
            hint="check [data.columns] label, and [evaluation] min_rating",
        )
    check_metrics(views, metrics)
    check_probabilities(backbone, metrics, name)


def check_labelled(metrics: Sequence[str], *, labelled: bool) -> None:
    """Check that no metric needs labels that the interactions do not have.

    Raises:
        ConfigError: A metric is unknown, or needs labels.
    """
    needy = [metric.name for metric in map(parse_metric, metrics) if metric.uses_labels]
    if needy and not labelled:
        raise ConfigError(f"metric {needy[0]!r} needs labels, but the interactions have none", hint=_LABEL)


def check_probabilities(backbone: Backbone, metrics: Sequence[str], name: str | None = None) -> None:
    """Check that the backbone predicts probabilities if a metric needs them. It needs no data.

    Args:
        backbone: The backbone to train.
        metrics: Names such as ``logloss``.
        name: The backbone's name in error messages; None for its own.

    Raises:
        ConfigError: Log loss of a backbone that gives no probabilities.
    """
    if "labels" not in backbone.takes and any(parse_metric(metric).name == "logloss" for metric in metrics):
        model = backbone.display_name if name is None else f"backbone {name!r}"
        raise ConfigError(
            f"metric 'logloss' needs probabilities, but {model} does not predict them with these options",
            hint="set [backbone] use = 'fm' and loss = 'log', or use metric 'auc'",
        )
