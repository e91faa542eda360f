"""What :mod:`denoise_lib.optimizer` does to the rows of a table, compiled by numba into one pass over each row."""

import math

import numpy as np
from numba import njit

FETCHED = 16  # rows at once: waiting for memory takes longer than the arithmetic
LINE = 16  # numbers in a line of the cache

compiled = njit(error_model="numpy", cache=True)
real = np.float32


@compiled
def _catch_up(table, now, rows, lr, beta1, beta2, eps, nodes, weights):
    """:func:`denoise_lib.optimizer._catch_up`."""
    weight, exp_avg, exp_avg_sq, current = table
    epsilon, shares, decays = real(eps), lr * weights, beta2**nodes
    root, moved = np.empty_like(weight[0]), np.empty_like(weight[0])
    fetched = real(0)
    for begin in range(0, len(rows), FETCHED):
        block = rows[begin : begin + FETCHED]
        for row in block:
            fetched += weight[row, ::LINE].sum() + exp_avg[row, ::LINE].sum() + exp_avg_sq[row, ::LINE].sum()
        for row in block:
            idle, before = now - current[row], beta2 ** current[row]
            if not idle:  # the row stands twice in rows
                continue
            kept, kept_sq = beta1**idle, beta2**idle
            p, m, v = weight[row], exp_avg[row], exp_avg_sq[row]
            for d in range(len(p)):
                root[d] = math.sqrt(v[d])
                moved[d] = 0
            for share, decay in zip(shares, decays):
                begun, begun_decay = real(share), real(math.sqrt(decay / (1 - before * decay)))
                decay *= kept_sq
                ended, ended_decay = real(share * kept), real(math.sqrt(decay / (1 - before * decay)))
                for d in range(len(p)):
                    moved[d] += ended * m[d] / (ended_decay * root[d] + epsilon)
                    moved[d] -= begun * m[d] / (begun_decay * root[d] + epsilon)
            for d in range(len(p)):
                p[d] += moved[d]
                m[d] *= real(kept)
                v[d] *= real(kept_sq)
            current[row] = now
    return fetched  # or the compiler would leave the fetching out


@compiled
def _step(table, now, rows, lr, beta1, beta2, eps, gradient):
    """:func:`denoise_lib.optimizer._step`."""
    weight, exp_avg, exp_avg_sq, current = table
    rate, scale, epsilon = real(lr / (1 - beta1**now)), real(1 / math.sqrt(1 - beta2**now)), real(eps)
    kept, kept_sq, share, share_sq = real(beta1), real(beta2), real(1 - beta1), real(1 - beta2)
    total, following = np.empty_like(weight[0]), np.empty_like(rows)
    for i in range(len(rows) - 1, -1, -1):  # current leads to a row's first entry, as ~i (no step), that to the next
        following[i], current[rows[i]] = current[rows[i]], ~i
    for i, row in enumerate(rows):
        if current[row] != ~i:
            continue
        total[:] = gradient[i]
        entry = following[i]
        while entry < 0:
            total += gradient[~entry]
            entry = following[~entry]
        p, m, v = weight[row], exp_avg[row], exp_avg_sq[row]
        for d in range(len(p)):
            m[d] = kept * m[d] + share * total[d]
            v[d] = kept_sq * v[d] + share_sq * total[d] * total[d]
            p[d] -= rate * m[d] / (scale * math.sqrt(v[d]) + epsilon)
        current[row] = now
