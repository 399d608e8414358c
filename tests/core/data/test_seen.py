import numpy as np
from hypothesis import given, strategies as st

from enhancer.data import seen as module
from enhancer.data.seen import Seen


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=12), max_size=12), st.integers(1, 9)
)
def test_it_tells_what_a_dictionary_would(blocks, fresh):
    before, module._FRESH = module._FRESH, fresh
    try:
        seen, model = Seen(), {}
        for block in blocks:
            told = seen.add([str(id_) for id_, _ in block], [str(content) for _, content in block])
            for (id_, content), one in zip(block, told, strict=True):
                assert one == (None if id_ not in model else model[id_] == content)
                model.setdefault(id_, content)
        assert len(seen) == len(model)
    finally:
        module._FRESH = before


def test_a_million_ids_take_less_than_two_dozen_megabytes():
    seen = Seen()
    for start in range(0, 1_000_000, 1 << 14):
        ids = [f"item-{number}" for number in range(start, min(start + (1 << 14), 1_000_000))]
        seen.add(ids, ids)
    assert sum(keys.nbytes + values.nbytes for keys, values in seen._runs) <= 16 * 1_000_000
    assert len(seen._fresh) < module._FRESH
    assert len(seen) == 1_000_000
    assert len(seen._runs) < 8
    assert all(np.all(keys[1:] > keys[:-1]) for keys, _ in seen._runs)
