"""Buy profiles where they pay: a pilot, the gain of each stratum with a bound, and rounds within one budget."""
