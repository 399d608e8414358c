import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.contracts import Dense, Kernel, Mixture, Placement


def dense(rng, inputs, outputs, activation="none"):
    weight, bias = rng.standard_normal((inputs, outputs)), rng.standard_normal(outputs)
    return Dense(weight.astype(np.float32), bias.astype(np.float32), activation)


def by_hand(layer, row):
    """Apply a layer to one row, in Python numbers."""
    out = [sum(row[i] * float(layer.weight[i, o]) for i in range(len(row))) for o in range(layer.outputs)]
    out = [value + float(bias) for value, bias in zip(out, layer.bias, strict=True)]
    return [value if value > 0 or layer.activation == "none" else 0.01 * value for value in out]


@given(seed=st.integers(0, 1000), experts=st.integers(1, 4), n=st.integers(1, 5))
def test_a_mixture_is_the_gated_sum_of_its_experts(seed, experts, n):
    rng = np.random.default_rng(seed)
    members = tuple((dense(rng, 3, 4, "leaky_relu"), dense(rng, 4, 2)) for _ in range(experts))
    mixture = Mixture(dense(rng, 3, experts), members)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    for row, got in zip(x.tolist(), mixture(x), strict=True):
        shares = np.exp(by_hand(mixture.gate, row))
        shares /= shares.sum()
        outputs = [by_hand(last, by_hand(first, row)) for first, last in members]
        np.testing.assert_allclose(got, shares @ np.array(outputs), rtol=1e-4, atol=1e-5)
    assert (mixture.inputs, mixture.outputs) == (3, 2)


def kernel(rng):
    """Three landmarks in two views, one of which a landmark lacks."""
    landmarks = rng.standard_normal((3, 5)).astype(np.float32)
    landmarks[0, :2] = 0
    for part in (landmarks[:, :2], landmarks[:, 2:]):
        part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9)
    return Kernel(landmarks, rng.standard_normal(5).astype(np.float32), (0, 2, 5), (0.25, 0.75), 0.5)


def test_a_kernel_adds_up_similarities_of_views():
    rng = np.random.default_rng(0)
    layer = kernel(rng)
    x = rng.standard_normal((4, 5)).astype(np.float32)
    x[1, 2:] = 0
    for row, got in zip(x, layer(x), strict=True):
        for mark, value in zip(layer.landmarks, got, strict=True):
            wanted = 0.0
            for part, weight in ((slice(0, 2), 0.25), (slice(2, 5), 0.75)):
                if row[part].any() and mark[part].any():
                    one = row[part] - layer.centre[part]
                    cosine = one @ mark[part] / np.linalg.norm(one)
                    wanted += weight * np.exp((cosine - 1) / 0.5)
            assert value == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert (layer.inputs, layer.outputs) == (5, 3)


def test_many_rows_are_placed_as_few_are():
    rng = np.random.default_rng(0)
    placement = Placement((kernel(rng), dense(rng, 3, 2)), tail=(1.0,))
    x = rng.standard_normal((10_000, 5)).astype(np.float32)
    np.testing.assert_allclose(placement(x)[9_000:], placement(x[9_000:]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [0, 2]},
        {"edges": [2, 0, 5]},
        {"edges": [0, 2, 2, 5]},
        {"weights": [1.0]},
        {"width": 0.0},
        {"width": "a"},
    ],
    ids=str,
)
def test_a_kernel_whose_parts_do_not_fit_is_refused(change):
    tensors, description = Placement((kernel(np.random.default_rng(0)),)).to_tensors("items")
    told = {"kernel": {**description["activations"][0]["kernel"], **change}}
    with pytest.raises((ValueError, KeyError, TypeError)):
        Placement.from_tensors("items", tensors, {**description, "activations": [told]})


def test_a_placement_of_any_layers_comes_back_from_its_arrays():
    rng = np.random.default_rng(0)
    mixture = Mixture(dense(rng, 5, 2), ((dense(rng, 5, 6, "tanh"), dense(rng, 6, 4)), (dense(rng, 5, 4, "relu"),)))
    placement = Placement((mixture, dense(rng, 4, 5), kernel(rng)), norm=2.0, tail=(1.0,))
    tensors, description = placement.to_tensors("items")
    again = Placement.from_tensors("items", tensors, json.loads(json.dumps(description)))
    x = rng.standard_normal((7, 5)).astype(np.float32)
    np.testing.assert_array_equal(again(x), placement(x))
    np.testing.assert_allclose(np.linalg.norm(placement(x)[:, :3], axis=1), 2.0, rtol=1e-5)


@pytest.mark.parametrize(
    "kind",
    ["sigmoid", 3, {"gate": "none", "experts": []}, {"gate": "none", "experts": [[]]}, {"gate": "none"}],
)
def test_what_no_placement_wrote_is_refused(kind):
    rng = np.random.default_rng(0)
    tensors, description = Placement((dense(rng, 2, 2),)).to_tensors("items")
    tensors |= {"items.0.gate.weight": np.eye(2, dtype=np.float32), "items.0.gate.bias": np.zeros(2, np.float32)}
    with pytest.raises((ValueError, KeyError)):
        Placement.from_tensors("items", tensors, {**description, "activations": [kind]})


def test_landmarks_may_take_half_of_the_room():
    rng = np.random.default_rng(0)
    whole = kernel(rng)
    half = Placement((replace(whole, landmarks=whole.landmarks.astype(np.float16)), dense(rng, 3, 2)))
    tensors, description = half.to_tensors("items")
    assert tensors["items.0.landmarks"].dtype == np.float16
    x = rng.standard_normal((20, 5)).astype(np.float32)
    again = Placement.from_tensors("items", tensors, description)
    np.testing.assert_array_equal(again(x), half(x))
    assert again(x).dtype == np.float32
    np.testing.assert_allclose(half.layers[0](x), whole(x), atol=2e-3)
