"""Limits on the length, depth and exponents of a formula: wide enough for losses written by hand, yet fast to read."""

MAX_LENGTH = 2000
"""Most characters of a formula."""

MAX_NESTING = 50
"""Most levels of nested brackets and functions."""

MAX_POWER = 64
"""Largest exponent that may be written as a number."""

MAX_ENTRIES = 2**14
"""Most entries of a matrix, such as 128 by 128."""
