"""Readers of scenario files, command-line options and arguments of calls, which return checked runs."""
