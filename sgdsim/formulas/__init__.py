"""Text to mathematics, safely: the reader of formulas, and what it makes of them."""
