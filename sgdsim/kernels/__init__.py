"""Formula -> source text -> machine code.

- `program`: all that decides a kernel's text, and the order of its run-time arguments;
- `interface`: the functions that the engine, which knows no formula, calls in a formula's module: read this first;
- `layout`: rows and words of a program, which the engine gets at run time;
- `source`: writes the modules' texts. The formula's: a header that says what the decorators mean on a target, scalar
  functions (`elementary`), and lane loops generated from the formulas (`printer`). The engine's, compiled once on a
  machine: random words and deviates (`philox`, `deviates`, by the tables of `draws`), rows of data (`sampling`), the
  steps of a tile (`tile`, `measure`), and the loop over tiles (`cpu_loop`). For a GPU both are one module, with
  `cuda_kernels` and `cuda_measure`;
- `cache`: keeps the text, and numba the machine code beside it, by content;
- `block`: the state of a block of trajectories, and the duties of its executor; `host` and `gpu` are executors.

Targets differ by the header, the lanes of a tile, and the loop over tiles. ``python`` runs the text as it stands.
``cpu`` compiles it, the engine apart from formulas. ``cuda`` compiles both with one lane a tile, and runs a thread for
each tile. ``cudasim`` does so in numba's simulator. Nothing that a formula decides is written twice.
"""
