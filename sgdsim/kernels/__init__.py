"""Formula -> source text -> machine code.

- `program`: what a kernel is made from, and the order of its run-time arguments;
- `source`: writes the module's text: a header that says what the decorators mean on a target, scalar functions
  (`philox`, `elementary`), lane loops generated from the formulas (`printer`, `draws`), what happens to a tile (`tile`,
  `sampling`, `measure`), and who runs the tiles (`cpu_loop`, or `cuda_kernels` and `cuda_measure`);
- `cache`: keeps the text, and numba the machine code beside it, by content;
- `block`: the state of a block of trajectories, and what its executor must do; `host` and `gpu` are those.

Targets differ by the header, the lanes of a tile, and who runs the tiles: ``python`` runs the text as it stands,
``cpu`` compiles it, ``cuda`` compiles it with one lane a tile and runs a thread a tile, ``cudasim`` does so in numba's
simulator. Nothing that a formula decides is written twice.
"""
