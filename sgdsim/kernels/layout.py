"""The layout of a program in memory: numbers that the engine gets at run time, and that a GPU has compiled in."""

from __future__ import annotations

import numpy as np

from sgdsim.kernels.draws import Draws
from sgdsim.kernels.program import SHUFFLED_ROWS, Program

SAMPLINGS = ("none", "replacement", "batch", "epoch", "hashed")
"""Ways to sample rows, in the order of their numbers; `sampling` has a text for each."""

STATEMENTS = ("words", "normals32", "normals64", "uniforms32", "uniforms64")
"""Loops of `deviates`, in the order of their numbers in a table of draws."""


class Layout:
    """Rows and words of a program.

    Parameters
    ----------
    program
        The program.

    Attributes
    ----------
    draws, kicks, starts, constants, data, words
        Draws of the deviates of a step, of the noise that an optimizer adds, of the initial state, of the constants and
        the data of each trajectory, and of the rows of a batch.
    noise_dtype
        Dtype of all deviates: those made of 64-bit words need float64.
    sampling
        One of `SAMPLINGS`.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        drawn = program.draws
        self.starts, self.draws = drawn["initial_state"], drawn["gradient_noise"]
        self.words, self.kicks = drawn["minibatch_index"], drawn["optimizer_noise"]
        self.constants, self.data = drawn["trajectory_constants"], drawn["trajectory_data"]
        self.noise_dtype = "float64" if any(draws.has_wide for draws in drawn.values()) else "float32"
        self.sampling = self._sampling()

    def _sampling(self) -> str:
        data, optimizer = self.program.loss.data, self.program.optimizer
        if data is None or optimizer.rule.population:
            return "none"
        return "hashed" if optimizer.sampling == "epoch" and data.rows > SHUFFLED_ROWS else optimizer.sampling

    @property
    def initial_rows(self) -> int:
        """Number of rows of the deviates of a start, with those of constants and data behind them."""
        return self.starts.rows + self.constants.rows + self.data.rows

    @property
    def pair(self) -> int:
        """A mask of the bits of a lane's number that choose its random words: a pair shares its words."""
        return -2 if self.program.antithetic else -1

    @property
    def order_rows(self) -> int:
        """Number of rows of the order of an epoch, if it is kept; else 0."""
        data = self.program.loss.data
        return data.rows if data is not None and self.sampling == "epoch" else 0

    def sampling_numbers(self) -> tuple[int, np.uint32, int, int, int, int, int]:
        """The number of the sampling, then the numbers of the data and the batch that the texts of `sampling` take."""
        data, batch = self.program.loss.data, self.program.optimizer.batch_size
        n = 0 if data is None else data.rows
        rounds = 6 * max(n - 1, 1).bit_length()
        words = self.words.steps_a_draw, self.words.words_a_step
        return SAMPLINGS.index(self.sampling), np.uint32(n), batch, max(n // batch, 1), *words, rounds


def table(draws: Draws) -> np.ndarray:
    """The table of a draw; a line has the number of a statement, the block, its first two words, and its rows.

    Examples
    --------
    >>> table(Draws(("z", "u"))).tolist()
    [[0, 0, 0, 0, 0, 0], [1, 0, 0, 2, 0, 2], [3, 0, 1, 1, 1, 1], [3, 0, 3, 3, 3, 3]]
    """
    lines = []
    for start, stop, statements in draws.blocks():
        for block in range(start, stop):
            lines.append([STATEMENTS.index("words"), block, 0, 0, 0, 0])
            for kind, words, rows in statements:
                lines.append([STATEMENTS.index(kind), block, words[0], words[1 % len(words)], rows[0], rows[-1]])
    return np.array(lines, dtype=np.int64).reshape(-1, 6)
