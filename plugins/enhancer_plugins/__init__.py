"""The bundled plugins. They enter by the entry point ``bundled`` of the group ``enhancer``, like anybody else's."""
