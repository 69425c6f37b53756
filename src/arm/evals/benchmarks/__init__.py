"""Published benchmarks, one a file: `load` reads the authors' files, `score` follows their rules.

A verdict that could not be had is None: it leaves every mean and is counted beside it, never guessed.
"""
