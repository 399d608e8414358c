"""Model of the factorisation machine behind :class:`~enhancer_plugins.backbones.fm.FM`."""
