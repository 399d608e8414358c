"""Start-up time of the command line, beside an interpreter that does nothing and the libraries it is made of::

    python tests/benchmarks/startup.py

Each command in a fresh process, taking turns, after one turn that is not counted; median and least of the repeats. CPU is the child's user
and system time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

from machine import lines, machine

PROGRAM = "import sys; from enhancer.cli.app import main; sys.exit(main())"
COMMANDS: dict[str, list[str]] = {
    "python, nothing": ["-c", "pass"],
    "import typer, pydantic, pluggy": ["-c", "import typer, pydantic, pluggy"],
    "import enhancer": ["-c", "import enhancer"],
    "enhancer --help": ["-c", PROGRAM, "--help"],
    "enhancer plugins": ["-c", PROGRAM, "plugins"],
    "enhancer plan --help": ["-c", PROGRAM, "plan", "--help"],
}


def once(arguments: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    told = machine("enhancer", "typer", "pydantic", "pluggy")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            took = once(arguments)
            if turn:
                found[name].append(took)
    print(lines(told), end="\n\n")
    print("| | seconds | fastest | CPU seconds |\n|---|---|---|---|")
    for name, runs in found.items():
        clock, cpu = zip(*runs, strict=True)
        print(f"| `{name}` | {statistics.median(clock):.3f} | {min(clock):.3f} | {statistics.median(cpu):.3f} |")


if __name__ == "__main__":
    main()
