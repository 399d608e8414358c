"""An ablation reads its vectors once, and other processes map them."""

import numpy as np

from enhancer.evaluation.running.shared_vectors import SharedVectors


def test_other_processes_map_the_vectors_that_were_read(tmp_path):
    users, items = np.ones((2, 3), np.float32), np.eye(3, dtype=np.float32)
    asked = []

    def features(inputs):
        asked.append(tuple(inputs))
        return (users if "text" in inputs else None), items

    with SharedVectors.within(tmp_path / "runs") as shared:
        kept = shared.saving(features)
        kept(("text",))
        kept(("profile",))
        elsewhere = SharedVectors(shared.folder).loading(features)
        asked.clear()
        np.testing.assert_array_equal(elsewhere(("text",))[0], users)
        nobody, found = elsewhere(("profile",))
        assert nobody is None
        np.testing.assert_array_equal(found, items)
        found[0] = 7  # copy-on-write
        np.testing.assert_array_equal(elsewhere(("profile",))[1], items)
        assert asked == []
        elsewhere(("profile", "text"))
        assert asked == [("profile", "text")]
    assert not list((tmp_path / "runs").iterdir())
