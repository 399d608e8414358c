import numpy as np
from hypothesis import given, strategies as st

from enhancer.data import duplicate_ids
from enhancer.data.duplicate_ids import DuplicateIndex


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=12), max_size=12), st.integers(1, 9)
)
def test_it_agrees_with_a_dictionary(blocks, max_unsorted):
    before, duplicate_ids._MAX_UNSORTED = duplicate_ids._MAX_UNSORTED, max_unsorted
    try:
        index, model = DuplicateIndex(), {}
        for block in blocks:
            results = index.add([str(id_) for id_, _ in block], [str(content) for _, content in block])
            for (id_, content), result in zip(block, results, strict=True):
                assert result == (None if id_ not in model else model[id_] == content)
                model.setdefault(id_, content)
        assert len(index) == len(model)
    finally:
        duplicate_ids._MAX_UNSORTED = before


def test_a_million_ids_take_less_than_two_dozen_megabytes():
    index = DuplicateIndex()
    for start in range(0, 1_000_000, 1 << 14):
        ids = [f"item-{number}" for number in range(start, min(start + (1 << 14), 1_000_000))]
        index.add(ids, ids)
    assert sum(keys.nbytes + values.nbytes for keys, values in index._sorted_arrays) <= 16 * 1_000_000
    assert len(index._unsorted) < duplicate_ids._MAX_UNSORTED
    assert len(index) == 1_000_000
    assert len(index._sorted_arrays) < 8
    assert all(np.all(keys[1:] > keys[:-1]) for keys, _ in index._sorted_arrays)
