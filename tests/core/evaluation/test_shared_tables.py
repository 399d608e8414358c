"""What an ablation trains on is read once, and other processes take it from there."""

import numpy as np

from enhancer.evaluation.running.shared_tables import SharedTables


def test_other_processes_take_the_tables_that_were_read(tmp_path):
    users, items = np.ones((2, 3), np.float32), np.eye(3, dtype=np.float32)
    asked = []

    def features(inputs):
        asked.append(tuple(inputs))
        return (users if "text" in inputs else None), items

    with SharedTables.within(tmp_path / "runs") as tables:
        kept = tables.keeping(features)
        kept(["text"])
        kept(("profile",))
        elsewhere = SharedTables(tables.folder).of(features)
        asked.clear()
        np.testing.assert_array_equal(elsewhere(["text"])[0], users)
        nobody, found = elsewhere(("profile",))
        assert nobody is None
        np.testing.assert_array_equal(found, items)
        found[0] = 7  # a copy of one's own
        np.testing.assert_array_equal(elsewhere(("profile",))[1], items)
        assert asked == []
        elsewhere(("profile", "text"))
        assert asked == [("profile", "text")]
    assert not list((tmp_path / "runs").iterdir())
