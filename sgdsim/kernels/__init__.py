"""Formula -> source text -> machine code.

- `program`: what a kernel is made from, and the order of its run-time arguments;
- `source`: writes the module's text: a header that says what the decorators mean on a target, scalar functions
  (`philox`, `elementary`), lane loops generated from the formulas (`printer`, `draws`), and the tile loop (`tile`,
  `measure`);
- `cache`: keeps the text, and numba the machine code beside it, by content.

Targets differ by the header alone: ``python`` runs the text as it stands, ``cpu`` compiles it. A further target is a
header and a loop over tiles; nothing that a formula decides is written twice.
"""
