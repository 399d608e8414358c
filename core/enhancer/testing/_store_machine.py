"""State machine that compares a store with a dictionary over random sequences of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from enhancer.contracts import FeatureStore, Key, Record
from enhancer.testing._records import as_tuple, make_record

if TYPE_CHECKING:
    from collections.abc import Callable

_ids = st.sampled_from(["", "1", "2", "é", "\ud800", "long" * 100]) | st.text(max_size=3)
_kinds: Any = st.sampled_from(["item", "user"])
_aspects = st.sampled_from(["", "text", "mood"])
_records = st.builds(
    make_record,
    _ids,
    seed=st.integers(0, 99),
    dim=st.just(3),
    kind=_kinds,
    aspect=_aspects,
    profile=st.text(max_size=2000),
    tags=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    cost_usd=st.none() | st.floats(0, 1e6),
    prompt_tokens=st.none() | st.integers(0, 2**40),
)


def store_machine(new_store: Callable[[], Callable[[], FeatureStore]]) -> type[RuleBasedStateMachine]:
    """Return a state machine for stores.

    Args:
        new_store: Returns, for a new empty store, a function that opens it.
    """

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.open = new_store()
            self.store = self.open()
            self.model: dict[Key, Record] = {}

        @rule(records=st.lists(_records, max_size=5))
        def put(self, records: list[Record]) -> None:
            self.store.put(records)
            self.model.update({record.key: record for record in records})

        @rule(ids=st.lists(_ids, max_size=5), kind=_kinds, aspect=_aspects)
        def delete(self, ids: list[str], kind: Any, aspect: str) -> None:
            existing = {Key(kind, id_, aspect) for id_ in ids} & set(self.model)
            assert self.store.delete(ids, kind=kind, aspect=aspect) == len(existing)
            for key in existing:
                del self.model[key]

        @rule(ids=st.lists(_ids, max_size=5), kind=_kinds, aspect=_aspects)
        def look_up(self, ids: list[str], kind: Any, aspect: str) -> None:
            expected = [self.model.get(Key(kind, id_, aspect)) for id_ in ids]
            found = self.store.get(ids, kind=kind, aspect=aspect)
            assert [r and as_tuple(r) for r in found] == [r and as_tuple(r) for r in expected]
            assert self.store.stamps(ids, kind=kind, aspect=aspect) == [r and r.stamp for r in expected]
            for row, record in zip(self.store.vectors(ids, kind=kind, aspect=aspect), expected, strict=True):
                assert np.isnan(row).all() if record is None else np.array_equal(row, record.vector)

        @rule()
        def reopen(self) -> None:
            self.store.close()
            self.store = self.open()

        @invariant()
        def holds_the_same(self) -> None:
            assert {r.key: as_tuple(r) for r in self.store.scan()} == {k: as_tuple(r) for k, r in self.model.items()}

        def teardown(self) -> None:
            self.store.close()

    return Machine
