"""Formula -> source text -> machine code.

- `program`: what a kernel is made from, and the order of its run-time arguments;
- `interface`: what the engine, which knows no formula, asks of a formula's module: read this first;
- `layout`: rows and words of a program, which the engine is given at run time;
- `source`: writes the modules' texts. The formula's: a header that says what the decorators mean on a target, scalar
  functions (`elementary`), and lane loops generated from the formulas (`printer`). The engine's, compiled once a
  machine: random words and deviates (`philox`, `deviates`, by the tables of `draws`), rows of data (`sampling`), what
  happens to a tile (`tile`, `measure`), and who runs the tiles (`cpu_loop`). For a GPU both are one, with
  `cuda_kernels` and `cuda_measure`;
- `cache`: keeps the text, and numba the machine code beside it, by content;
- `block`: the state of a block of trajectories, and what its executor must do; `host` and `gpu` are those.

Targets differ by the header, the lanes of a tile, and who runs the tiles: ``python`` runs the text as it stands,
``cpu`` compiles it, the engine apart from formulas, ``cuda`` compiles both with one lane a tile and runs a thread a
tile, ``cudasim`` does so in numba's simulator. Nothing that a formula decides is written twice.
"""
