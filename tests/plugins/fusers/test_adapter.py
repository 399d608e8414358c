import numpy as np
import torch

from enhancer.contracts import Context
from enhancer.testing.planted import planted
from enhancer_plugins.fusers.adapter import Adapter, AdapterOptions


def build(**options):
    return Adapter(AdapterOptions(**options), Context()).build(planted().data, 8, seed=0, device="cpu")


def test_what_serving_places_is_what_training_sets_beside_the_embeddings():
    fusion, data = build(columns=5, hidden=7, shared_experts=1, own_experts=3), planted().data
    wide = fusion.inputs()
    for kind, columns, vectors in (("user", wide.users, data.user_vectors), ("item", wide.items, data.item_vectors)):
        has = vectors.any(1)
        placed = fusion.place(kind, torch.zeros(1, 8))(vectors)
        np.testing.assert_allclose(columns.detach().numpy()[has], placed[has], rtol=1e-4, atol=1e-5)
        assert not columns.detach().numpy()[~has].any()


def test_users_and_items_share_some_experts_and_have_their_own():
    fusion = build(shared_experts=2, own_experts=1)
    names = {name.rsplit(".", 2)[0] for name in fusion.state()}
    assert names == {"shared.0", "shared.1", "user.0", "item.0", "gate.user", "gate.item"}
    for tensor in fusion.parameters():
        tensor.requires_grad_()
    found = torch.autograd.grad(fusion.inputs().items.sum(), list(fusion.parameters()), allow_unused=True)
    gradients = dict(zip(fusion.state(), found, strict=True))
    assert gradients["shared.0.weight.0"] is not None
    assert gradients["item.0.weight.0"] is not None
    assert gradients["user.0.weight.0"] is None
