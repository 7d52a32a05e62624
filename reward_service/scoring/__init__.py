"""Pure functions from text to terms, verdicts and rewards: no I/O, clock, environment, randomness or logging."""
