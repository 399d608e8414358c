"""Alternating least squares against the normal equations, solved row by row in float64."""

import itertools

import numpy as np
import pytest

from enhancer_plugins.training.compiled.least_squares import solve, sparse_rows

USERS, ITEMS, DIM = 60, 40, 16


@pytest.fixture(params=["equal", "weighted"])
def problem(request):
    """Weights of pairs (zero for others), the pairs by row, and the factors of both sides."""
    random = np.random.default_rng(0)
    matrix = random.random((USERS, ITEMS)) < 0.15
    matrix[5] = False  # a user without interactions
    users, items = (each.astype(np.int32) for each in np.nonzero(matrix))
    order = random.permutation(len(users))
    fixed = (0.3 * random.standard_normal((ITEMS, DIM))).astype(np.float32)
    start = (0.1 * random.standard_normal((USERS, DIM))).astype(np.float32)
    penalty = (0.1 + random.random(USERS)).astype(np.float32)
    weights = None
    if request.param == "weighted":
        matrix = matrix * (0.2 + random.random(matrix.shape))
        weights = matrix[users, items].astype(np.float32)[order]
    return matrix, sparse_rows(users[order], items[order], USERS, weights), fixed, start, penalty


def exact(matrix, fixed, penalty, unobserved):
    fixed = fixed.astype(np.float64)
    return np.stack(
        [
            np.linalg.solve(
                unobserved * fixed.T @ fixed + (fixed.T * row) @ fixed + strength * np.eye(fixed.shape[1]), row @ fixed
            )
            for row, strength in zip(matrix, penalty, strict=True)
        ]
    )


def test_rows_converge_to_the_solution_of_their_normal_equations(problem):
    matrix, interactions, fixed, rows, penalty = problem
    solve(interactions, fixed, rows, unobserved=0.2, penalty=penalty, steps=DIM)
    np.testing.assert_allclose(rows, exact(matrix, fixed, penalty, 0.2), atol=1e-5)
    np.testing.assert_allclose(rows[5], 0, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 45])
def test_rows_of_any_width_converge(dim):
    random = np.random.default_rng(dim)
    matrix = random.random((20, 30)) < 0.3
    users, items = (each.astype(np.int32) for each in np.nonzero(matrix))
    fixed, rows = (random.standard_normal((n, dim)).astype(np.float32) for n in (30, 20))
    penalty = np.ones(20, np.float32)
    solve(sparse_rows(users, items, 20), fixed, rows, unobserved=0.2, penalty=penalty, steps=2 * dim)
    np.testing.assert_allclose(rows, exact(matrix, fixed, penalty, 0.2), atol=1e-4)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    """Rows are solved in groups that are limited by their number and by their interactions."""
    random = np.random.default_rng(0)
    counts = np.array([3, 9000, 0, 5, 12000, 1, *random.integers(0, 2000, 40)])
    users = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    items = np.concatenate([random.permutation(12000)[:n] for n in counts]).astype(np.int32)
    fixed = (0.1 * random.standard_normal((12000, DIM))).astype(np.float32)
    start = (0.1 * random.standard_normal((len(counts), DIM))).astype(np.float32)
    penalty = np.ones(len(counts), np.float32)
    together = start.copy()
    solve(sparse_rows(users, items, len(counts)), fixed, together, unobserved=0.2, penalty=penalty, steps=3)
    for row in range(len(counts)):
        own, alone = users == row, start[row : row + 1].copy()
        pairs = sparse_rows(np.zeros(counts[row], np.int32), items[own], 1)
        solve(pairs, fixed, alone, unobserved=0.2, penalty=penalty[:1], steps=3)
        np.testing.assert_array_equal(together[row], alone[0], err_msg=str(row))


def test_rows_are_drawn_to_their_means(problem):
    """A row without interactions comes to rest where only the zeros of all pairs pull it from its mean."""
    matrix, interactions, fixed, rows, penalty = problem
    mean = (0.5 * np.random.default_rng(1).standard_normal(rows.shape)).astype(np.float32)
    solve(interactions, fixed, rows, unobserved=0.2, penalty=penalty, steps=DIM, mean=mean)
    wide = fixed.astype(np.float64)
    for row, weights, strength, centre, found in zip(range(USERS), matrix, penalty, mean, rows, strict=True):
        gram = 0.2 * wide.T @ wide + (wide.T * weights) @ wide + strength * np.eye(DIM)
        wanted = np.linalg.solve(gram, weights @ wide + strength * centre)
        np.testing.assert_allclose(found, wanted, atol=2e-5, err_msg=str(row))


def test_the_loss_is_that_of_the_rows_before_they_changed(problem):
    matrix, interactions, fixed, rows, penalty = problem
    errors = matrix * np.square(1 - rows @ fixed.T)
    found = solve(interactions, fixed, rows, unobserved=0.2, penalty=penalty, steps=1)
    assert found == pytest.approx(float(errors.sum()), rel=1e-5)


def test_each_step_lowers_the_objective(problem):
    matrix, interactions, fixed, rows, penalty = problem

    def objective():
        scores = rows.astype(np.float64) @ fixed.T
        return (matrix * np.square(1 - scores)).sum() + 0.2 * np.square(scores).sum() + penalty @ np.square(rows).sum(1)

    values = [objective()]
    for _ in range(4):
        solve(interactions, fixed, rows, unobserved=0.2, penalty=penalty, steps=1)
        values.append(objective())
    assert all(after < before for before, after in itertools.pairwise(values))
