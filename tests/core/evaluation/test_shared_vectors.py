"""An ablation reads its vectors once, and other processes map them."""

import numpy as np

from enhancer.contracts import SemanticVectors, View
from enhancer.evaluation.running.shared_vectors import SharedVectors


def test_other_processes_map_the_vectors_that_were_read(tmp_path):
    users, items = np.ones((2, 3), np.float32), np.eye(3, dtype=np.float32)
    asked, views = [], (View("text", 0, 2), View("a+b", 2, 3))

    def features(inputs):
        asked.append(tuple(inputs))
        return SemanticVectors(users if "text" in inputs else None, items, views)

    many = tuple(f"an-aspect-with-a-name-as-long-as-it-{n}" for n in range(10))
    with SharedVectors.within(tmp_path / "runs") as shared:
        kept = shared.saving(features)
        kept(("text",))
        kept(("profile",))
        kept(many)
        elsewhere = SharedVectors(shared.folder).loading(features)
        asked.clear()
        np.testing.assert_array_equal(elsewhere(("text",))[0], users)
        nobody, found, their_views = elsewhere(("profile",))
        assert nobody is None
        assert their_views == views
        assert elsewhere(many).items.shape == (3, 3)
        np.testing.assert_array_equal(found, items)
        found[0] = 7  # copy-on-write
        np.testing.assert_array_equal(elsewhere(("profile",))[1], items)
        assert asked == []
        elsewhere(("profile", "text"))
        assert asked == [("profile", "text")]
    assert not list((tmp_path / "runs").iterdir())
