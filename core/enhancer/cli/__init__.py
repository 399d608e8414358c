"""The command line: thin commands over :class:`enhancer.Project`. Results go to stdout, everything else to stderr."""
