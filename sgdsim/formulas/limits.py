"""Limits on the length, depth and exponents of a formula: wide enough for losses written by hand, yet fast to read."""

MAX_LENGTH = 2000
"""Characters of a text."""

MAX_NESTING = 50
"""Levels of brackets and functions."""

MAX_POWER = 64
"""Largest exponent that is a number."""

MAX_ENTRIES = 2**14
"""Of a matrix, 128 by 128."""
