"""Forward pass of encoders like BERT on a CPU, in float32 or with matrix products in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

_FAMILIES: Final = frozenset(
    {"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel", "MPNetModel", "DistilBertModel"}
)
_AGREEMENT: Final = {torch.float32: 1e-8, torch.bfloat16: 1e-3}
"""Largest mean squared difference to the original model, relative to the mean square of its output."""


def has_bfloat16() -> bool:
    """Return whether the CPU has instructions for products of bfloat16 matrices: AMX or AVX-512 BF16."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check is not None and check() for check in checks)


def faster(model: Any, *, mixed: bool) -> Any:
    """Return an equivalent of a transformers model that is faster on a CPU.

    Args:
        model: A model on the CPU, in float32.
        mixed: Multiply matrices in bfloat16 and add up in float32; all else is in float32.

    Returns:
        An :class:`Encoder`; the model itself if it is not a plain encoder of a known family, or if the outputs of both
        on short texts differ by more than rounding.
    """
    if type(model).__name__ not in _FAMILIES or not _is_plain(model):
        return model
    made = Encoder(model, mixed=mixed)
    ids = torch.tensor([[7, 5, 3, 6, 4], [4, 6, 5, 2, 2]]) % model.config.vocab_size
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
        found = made(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    limit = _AGREEMENT[torch.bfloat16 if mixed else torch.float32]
    difference = float((found - expected).square().mean() / expected.square().mean())
    return made if difference <= limit else model


def _is_plain(model: Any) -> bool:
    """Return whether a model is an encoder in float32 without adapters and other additions."""
    config = model.config
    additions = ("is_decoder", "add_cross_attention", "output_hidden_states")
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    if activation != "gelu" or any(getattr(config, name, False) for name in additions):
        return False
    if getattr(config, "position_embedding_type", None) not in {None, "absolute"}:
        return False
    linear = (module for module in model.modules() if isinstance(module, nn.Linear))
    return all(type(module) is nn.Linear for module in linear) and all(
        parameter.dtype == torch.float32 and parameter.device.type == "cpu" for parameter in model.parameters()
    )


@dataclass
class _Layer:
    """Weights of one layer; the matrices are of the type of the products."""

    qkv: Tensor
    qkv_bias: Tensor
    attended: Tensor
    attended_bias: Tensor
    attended_norm: nn.LayerNorm
    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor
    outer_norm: nn.LayerNorm


class Encoder(nn.Module):
    """BERT, RoBERTa, MPNet or DistilBERT for inference, with the weights of a transformers model.

    Queries, keys and values are one product, and hidden states stay in float32. With ``mixed``, both factors of each
    product are rounded to bfloat16: cosines to vectors in float32 are about .9999.
    """

    def __init__(self, model: Any, *, mixed: bool) -> None:
        super().__init__()
        self.config = model.config
        self.embeddings = model.embeddings
        self._rounded = torch.bfloat16 if mixed else None
        # Without such instructions, products of rounded factors in float32 give the same sums, and sooner.
        self._dtype = torch.bfloat16 if mixed and has_bfloat16() else torch.float32
        self._heads = int(model.config.num_attention_heads)
        body = getattr(model, "encoder", None) or model.transformer
        self._layers = [self._packed(layer) for layer in body.layer]
        self._has_types = hasattr(model.embeddings, "token_type_embeddings")
        self._relative = getattr(body, "relative_attention_bias", None)
        self._bucket = getattr(body, "relative_position_bucket", None)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the hidden states."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def _packed(self, layer: Any) -> _Layer:
        attention = layer.attention
        if hasattr(layer, "ffn"):  # DistilBERT
            parts, attended = (attention.q_lin, attention.k_lin, attention.v_lin), attention.out_lin
            inner, outer = layer.ffn.lin1, layer.ffn.lin2
            norms = layer.sa_layer_norm, layer.output_layer_norm
        else:
            inner, outer = layer.intermediate.dense, layer.output.dense
            if hasattr(attention, "attn"):  # MPNet
                own = attention.attn
                parts, attended = (own.q, own.k, own.v), own.o
                norms = attention.LayerNorm, layer.output.LayerNorm
            else:
                own = attention.self
                parts, attended = (own.query, own.key, own.value), attention.output.dense
                norms = attention.output.LayerNorm, layer.output.LayerNorm
        return _Layer(
            qkv=self._factor(torch.cat([part.weight.detach() for part in parts])),
            qkv_bias=torch.cat([part.bias.detach() for part in parts]).to(self._dtype),
            attended=self._factor(attended.weight.detach()),
            attended_bias=attended.bias.detach(),
            attended_norm=norms[0],
            inner=self._factor(inner.weight.detach()),
            inner_bias=inner.bias.detach().to(self._dtype),
            outer=self._factor(outer.weight.detach()),
            outer_bias=outer.bias.detach(),
            outer_norm=norms[1],
        )

    def _factor(self, values: Tensor) -> Tensor:
        """Round a factor of a product."""
        return values if self._rounded is None else values.to(self._rounded).to(self._dtype)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None, **_: Any
    ) -> BaseModelOutput:
        """Return the hidden states of the last layer.

        Args:
            input_ids: int64 ``[texts, tokens]``.
            attention_mask: int64 ``[texts, tokens]``; zero for padding.
            token_type_ids: int64 ``[texts, tokens]``; zeros by default.
        """
        texts, tokens = input_ids.shape
        types = {"token_type_ids": token_type_ids} if self._has_types else {}
        hidden = self.embeddings(input_ids=input_ids, **types)
        width = hidden.shape[-1]
        mask = self._position_bias(tokens)
        if not bool(attention_mask.all()):
            padding = attention_mask[:, None, None, :] == 0
            hides = torch.zeros(padding.shape, dtype=self._dtype).masked_fill_(padding, torch.finfo(self._dtype).min)
            mask = hides if mask is None else torch.where(padding, hides, mask)
        hidden = hidden.reshape(texts * tokens, width)
        for layer in self._layers:
            qkv = functional.linear(self._factor(hidden), layer.qkv, layer.qkv_bias)
            query, key, value = qkv.view(texts, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            mixed = self._factor(mixed.transpose(1, 2).reshape(texts * tokens, width))
            hidden = layer.attended_norm(hidden + self._product(mixed, layer.attended, layer.attended_bias))
            inner = functional.gelu(functional.linear(self._factor(hidden), layer.inner, layer.inner_bias))
            hidden = layer.outer_norm(hidden + self._product(self._factor(inner), layer.outer, layer.outer_bias))
        return BaseModelOutput(last_hidden_state=hidden.view(texts, tokens, width))

    def _position_bias(self, tokens: int) -> Tensor | None:
        """Return what MPNet adds to attention scores by relative position: ``[1, heads, tokens, tokens]``."""
        if self._relative is None or self._bucket is None:
            return None
        places = torch.arange(tokens)
        bias: Tensor = self._relative(self._bucket(places[None, :] - places[:, None], num_buckets=32))
        return bias.permute(2, 0, 1)[None].to(self._dtype)

    def _product(self, factor: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        """Return a product in float32. The bias is added in float32, too."""
        if self._dtype == torch.float32:
            return functional.linear(factor, weights, bias)
        return functional.linear(factor, weights).float().add_(bias)
