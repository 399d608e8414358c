"""Run the HTTP service without the rest of the command line: ``python -m enhancer.serving ARTIFACT``."""

from __future__ import annotations

import os
import sys


def _use_one_blas_thread() -> None:
    """Let each matrix product use one thread, unless the environment says otherwise. Call it before importing numpy.

    The service runs several products at once, and threads that share products wait for one another: on two busy cores,
    64 users of 2,000 items took 26 ms with two threads a product and 1 ms with one.
    """
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


if __name__ == "__main__":
    _use_one_blas_thread()
    from enhancer.serving.service.command import main

    sys.exit(main())
