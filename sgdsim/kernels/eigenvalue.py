"""The largest eigenvalue of a symmetric matrix of which only products with vectors are known, by Lanczos's method.

Each turn multiplies the matrix with a direction and removes the old directions from the product. In the basis of the
directions the matrix has three diagonals, and its largest eigenvalue there grows to that of the whole matrix (Lanczos
1950). Rounding brings back old directions, which makes copies of eigenvalues but no false ones (Paige 1980). The
eigenvalue is the largest one, not the largest in size, so no shift is needed.

This text is pasted into modules that have ``SIZE``, the number of rows of the matrix; ``TURNS``, the most turns;
``CLOSE``, the residual at which a search ends, in units of the largest eigenvalue of any sign; ``POINTS``, the factor
by which the product is too large; and the rows of scratch ``DIRECTION``, ``BEFORE``, ``PRODUCT``, ``ALPHA``, ``BETA``,
``OPEN`` and ``FOUND``.
"""
# mypy: ignore-errors
# ruff: noqa: F821

# --- pasted from here on ---


@inlined
def spread_out(i):
    """A number between -1/2 and 1/2 of a sequence without a pattern (Weyl)."""
    return (np.float64(i + 1) * np.float64(i + 1) * 0.6180339887498949) % 1.0 - 0.5


@inlined
def begin_search(scratch):
    """Set the first direction: it has no symmetry, and so a part along every eigenvector."""
    total = 0.0
    for i in range(SIZE):
        part = spread_out(i)
        total += part * part
    for i in range(SIZE):
        part = REAL(spread_out(i) / square_root(total))
        for lane in range(LANES):
            scratch[(DIRECTION + i) * LANES + lane] = part
            scratch[(BEFORE + i) * LANES + lane] = REAL(0.0)
    for lane in range(LANES):
        scratch[OPEN * LANES + lane] = REAL(1.0)
        scratch[FOUND * LANES + lane] = NAN


@inlined
def forget_product(scratch):
    """Set the product to zero, before the sum over points."""
    for i in range(SIZE):
        for lane in range(LANES):
            scratch[(PRODUCT + i) * LANES + lane] = REAL(0.0)


@device
def search(scratch, turn):
    """Make one turn, given the product of the matrix and the direction; the number of trajectories still searching."""
    last = turn - 1 if turn > 0 else 0
    for lane in range(LANES):
        scratch[(ALPHA + turn) * LANES + lane] = REAL(0.0)
        scratch[(BETA + turn) * LANES + lane] = REAL(0.0)
    for i in range(SIZE):
        for lane in range(LANES):
            scratch[(ALPHA + turn) * LANES + lane] += (
                scratch[(DIRECTION + i) * LANES + lane] * scratch[(PRODUCT + i) * LANES + lane]
            )
    for i in range(SIZE):
        for lane in range(LANES):
            direction = scratch[(DIRECTION + i) * LANES + lane]
            rest = scratch[(PRODUCT + i) * LANES + lane] - scratch[(ALPHA + turn) * LANES + lane] * direction
            if turn > 0:
                rest = rest - scratch[(BETA + last) * LANES + lane] * scratch[(BEFORE + i) * LANES + lane]
            scratch[(BEFORE + i) * LANES + lane] = direction
            scratch[(PRODUCT + i) * LANES + lane] = rest
            scratch[(BETA + turn) * LANES + lane] += rest * rest
    for lane in range(LANES):
        scratch[(BETA + turn) * LANES + lane] = REAL(square_root(scratch[(BETA + turn) * LANES + lane]))
    for i in range(SIZE):
        for lane in range(LANES):
            scratch[(DIRECTION + i) * LANES + lane] = (
                scratch[(PRODUCT + i) * LANES + lane] / scratch[(BETA + turn) * LANES + lane]
            )
    n = COUNT(0)
    for lane in range(LANES):
        if scratch[OPEN * LANES + lane] > REAL(0.0):
            settle(scratch, turn, lane)
            n = COUNT(n + (scratch[OPEN * LANES + lane] > REAL(0.0)))
    return n


@device
def settle(scratch, turn, lane):
    """The largest eigenvalue of the matrix of three diagonals, and whether it is one of the whole matrix.

    It is the zero of the last pivot of the elimination, found by Newton's steps within bounds: from the largest
    eigenvalue of the last turn on, the pivot falls ever less steeply. Its slope at the zero is one over the square of
    the last entry of the eigenvector.
    """
    low, high, size = -np.inf, -np.inf, 0.0
    for j in range(turn + 1):
        alpha, beside = np.float64(scratch[(ALPHA + j) * LANES + lane]), 0.0
        if j > 0:
            beside += np.float64(scratch[(BETA + j - 1) * LANES + lane])
        if j < turn:
            beside += np.float64(scratch[(BETA + j) * LANES + lane])
        low = alpha if alpha > low else low
        high = alpha + beside if alpha + beside > high else high
        size = abs(alpha) + beside if abs(alpha) + beside > size else size
    beta = np.float64(scratch[(BETA + turn) * LANES + lane])
    if not beta < np.inf or not size < np.inf:  # the trajectory has diverged
        scratch[OPEN * LANES + lane] = REAL(0.0)
        return
    x, slope = high, -1.0
    for _ in range(100):
        pivot, slope, j = np.float64(scratch[ALPHA * LANES + lane]) - x, -1.0, 0
        while pivot < 0.0 and j < turn:
            ratio = np.float64(scratch[(BETA + j) * LANES + lane]) / pivot
            j += 1
            slope = ratio * ratio * slope - 1.0
            rest = np.float64(scratch[(ALPHA + j) * LANES + lane]) - x
            pivot = rest - ratio * np.float64(scratch[(BETA + j - 1) * LANES + lane])
        if pivot < 0.0:
            high = x
        else:
            low = x
        after = x - pivot / slope
        if j < turn or not (low <= after <= high):
            after = low + (high - low) / 2.0
        if abs(after - x) <= 4e-16 * size or high - low <= 4e-16 * size:
            break
        x = after
    if beta * square_root(-1.0 / slope) <= CLOSE * size:
        scratch[FOUND * LANES + lane] = REAL(x / POINTS)
        scratch[OPEN * LANES + lane] = REAL(0.0)
