"""Read data sets whose files hold one object per line, in JSON or as a Python literal."""
