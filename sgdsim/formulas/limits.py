"""Bounds of every formula: a longer or deeper text, or a higher power, is refused."""

MAX_LENGTH = 2000  # characters
MAX_NESTING = 50  # levels of parentheses and functions
MAX_POWER = 64  # magnitude of an exponent that is a number
