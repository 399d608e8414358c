"""The command line: thin commands over :class:`enhancer.Project`. Results to stdout, everything else to stderr."""
