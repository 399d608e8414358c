"""Save the results of an ablation beside its report, and read them back to quote or compare them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

from enhancer.errors import DataError
from enhancer.evaluation.reporting.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from enhancer.evaluation.judging.result import Ablation

FILE_NAME = "report.json"
"""Name of the file in the folder of a project."""
_FORMAT = 1
_UNREADABLE = "run `enhancer ablate` again to write it anew"


@dataclass(frozen=True, eq=False)
class SavedReport:
    """Results of an ablation, as ``report.json`` holds them."""

    path: Path
    summary: Summary
    result: Mapping[str, Any]
    """Output of ``enhancer ablate --json``."""

    @property
    def split(self) -> str | None:
        """Fingerprint of the split; None if an earlier release wrote the file."""
        found: str | None = self.result.get("facts", {}).get("split")
        return found

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return list(self.result["seeds"])

    @property
    def arms(self) -> list[str]:
        """Names of the arms."""
        return list(self.result["what"])

    @property
    def panels(self) -> dict[str, Mapping[str, Any]]:
        """Findings by panel, ``all`` first."""
        return {"all": self.result, **self.result["strata"]}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file of an ablation.

        Args:
            path: The file, the page beside it, or the folder that holds it under its usual name.

        Raises:
            DataError: There is no such file, or it is not one that an ablation wrote.
        """
        file = path / FILE_NAME if path.is_dir() else path.with_suffix(".json") if path.suffix == ".html" else path
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["format"] != _FORMAT:
                raise DataError(f"{file} has format {found['format']}, which this release does not read")
            report = cls(file, Summary.from_json(found["summary"]), found["result"])
            report.check()
        except FileNotFoundError:
            raise DataError(f"{file} does not exist", hint="`enhancer ablate` writes it beside report.html") from None
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{file} does not hold the results of an ablation", hint=_UNREADABLE) from None
        return report

    def check(self) -> None:
        """Check that everything that readers use is there.

        Raises:
            KeyError: Something is missing.
        """
        for name in ("verdict", "baseline", "metrics"):
            self.result[name]
        for panel in self.panels.values():
            for arm in self.arms:
                for metric in self.result["metrics"]:
                    if metric in panel["arms"][arm]:
                        [float(value) for value in panel["arms"][arm][metric]["per_seed"]]
        self.seeds  # noqa: B018  raises if they are missing


def render_json(ablation: Ablation, summary: Summary) -> str:
    """Return the content of ``report.json``."""
    saved = {
        "format": _FORMAT,
        "enhancer": version("enhancer"),
        "summary": summary.to_json(),
        "result": ablation.to_json(),
    }
    return json.dumps(saved, ensure_ascii=False, allow_nan=False, default=str, indent=1) + "\n"
