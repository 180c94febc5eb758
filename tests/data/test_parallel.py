import numpy as np
import pytest

from data.parallel import ordered_map


def work(number):
    if number == 77:
        raise ValueError("not 77")
    return np.full(number, number, np.float32), number, None


@pytest.mark.parametrize("workers", [1, 2, None])
@pytest.mark.parametrize("count", [0, 1, 32, 77])
def test_all_results_in_order(workers, count):
    results = list(ordered_map(work, range(count), workers))
    assert [number for _, number, _ in results] == list(range(count))
    for array, number, nothing in results:
        np.testing.assert_array_equal(array, np.full(number, number, np.float32))
        assert array.dtype == np.float32 and array.flags.writeable and nothing is None


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_function_is_raised(workers):
    with pytest.raises(ValueError, match="not 77"):
        list(ordered_map(work, range(90), workers))


def test_tasks_are_not_taken_long_before_their_results_are():
    taken = []
    results = ordered_map(work, (taken.append(i) or i % 30 for i in range(1000)), workers=2, chunk=2)
    next(results)
    assert len(taken) == 2 * 2 * 2  # two chunks of two for each of the two
    results.close()
