"""Definitions of the decorators and helpers of the pasted texts: one text for each target, which modules begin with."""
