"""Run the command line: ``python -m enhancer``."""

from __future__ import annotations

import sys

from enhancer.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
