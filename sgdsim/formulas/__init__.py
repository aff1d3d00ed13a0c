"""Formulas: a safe reader of text, and its results as SymPy expressions, NumPy values, graphs and bounds."""
