"""Sums of products over the entries of two arrays, for every lane: all products of matrices and vectors.

This text is pasted for targets that run one lane in a thread, or in plain Python; `cpu_products` uses vectors.
"""
# mypy: ignore-errors
# ruff: noqa: F821

# --- pasted from here on ---


def sum_of_products(extents, strides, shared):
    """A function that sets an array to a sum of products: ``out[i, j] = sum of first[…]*second[…] over k and l``.

    The sum begins with zero and adds with `fma`, l before k.

    Parameters
    ----------
    extents
        Extents of i, j, k and l.
    strides
        Rows from one i, j, k and l to the next: in the result, in the first and in the second array.
    shared
        For the first and the second array, True if its rows are single numbers, which all lanes share.
    """
    n_i, n_j, n_k, n_l = extents
    (o_i, o_j, _, _), (a_i, a_j, a_k, a_l), (b_i, b_j, b_k, b_l) = strides
    a_lanes, b_lanes = 1 if shared[0] else LANES, 1 if shared[1] else LANES
    a_lane, b_lane = 0 if shared[0] else 1, 0 if shared[1] else 1

    @device
    def products(out, out_row, first, first_row, second, second_row):
        for i in range(n_i):
            for j in range(n_j):
                for lane in range(LANES):
                    total = REAL(0.0)
                    for k in range(n_k):
                        for m in range(n_l):
                            row = first_row + i * a_i + j * a_j + k * a_k + m * a_l
                            a = REAL(first[row * a_lanes + lane * a_lane])
                            row = second_row + i * b_i + j * b_j + k * b_k + m * b_l
                            b = REAL(second[row * b_lanes + lane * b_lane])
                            total = fma(a, b, total)
                    out[(out_row + i * o_i + j * o_j) * LANES + lane] = total

    return products
