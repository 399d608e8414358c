"""``python -m enhancer.serving ARTIFACT``: the HTTP service without the rest of the command line."""

from __future__ import annotations

import sys

from enhancer.serving.server import main

if __name__ == "__main__":
    sys.exit(main())
