r"""Several profiles of a node, mixed at random, under a loss that is to be the same for every mixture.

Zhang et al. 2026, "ProEx: A Unified Framework Leveraging Large Language Model with Profile Extrapolation for
Recommendation" (KDD), https://arxiv.org/abs/2512.00679, for a discriminative backbone. One MLP :math:`g` maps the
profiles :math:`s_{n1}, \dots, s_{nK}` of a node into the space of its final embedding :math:`z_n`. In environment
:math:`e` the node is

.. math:: z_n^{(e)} = z_n + \sum_k \beta_k^{(e)} g(s_{nk}), \qquad \beta^{(e)} \sim \mathrm{Dirichlet}(\alpha, \dots)

and the loss, over :math:`E` environments drawn at every step, is

.. math:: \operatorname{mean}_e L_e + \lambda_\text{inv} \operatorname{Var}_e L_e
    + \lambda_\text{ex} \sum_k \big(\mathrm{NCE}(g(s_{uk}), g(s_{uk})) + \mathrm{NCE}(g(s_{ik}), g(s_{ik}))\big)

with :math:`L_e` the BPR loss, and InfoNCE at temperature 0.2 over the distinct users and positives of a step, which
keeps the profiles of different nodes apart. Served are :math:`z_n + \frac{1}{K} \sum_k g(s_{nk})`.

Two losses of Zhang et al. 2026, "ProMax: Exploring the Potential of LLM-derived Profiles with Distribution Shaping for
Recommender Systems" (SIGIR), https://arxiv.org/abs/2604.26231, may be added. ``reshape`` weighs

.. math:: -\operatorname{mean}_u w_u \sum_i p_{ui} \log q_{ui}, \qquad
    w_u = \min(\max(1 - H(p_u) / \log n, 0.1), 1)

with :math:`p_u` and :math:`q_u` the softmax over items of the cosines of vectors, and of final embeddings, divided by
0.2, and :math:`H` the entropy: it draws a user to items whose profiles suit, taken or not. ``retrieve`` weighs InfoNCE
between the final embeddings and those that result from propagation over retrieved pairs, the ``retrieved`` items with
the most similar vectors that a user has not taken: of users, of items, and across.

Differences from the authors' code: profiles are the inputs of ``[embedder] input``, whatever wrote them; losses of
environments are averaged and not added up, so that the backbone's penalty keeps its strength; a step uses at most
``nodes_per_step`` nodes in each contrastive term; pairs are retrieved by vectors, without a language model that ranks
them again, and propagated by one layer; unseen entities, which the authors do not treat, are placed by regression.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from enhancer.contracts import Fuser, Fusion
from enhancer.errors import FusionError
from enhancer_plugins.training.placing.options import RegressionOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from numpy.typing import NDArray

    from enhancer.contracts import Placement, TrainingData, TrainingStep
    from enhancer.contracts.fuser import Judge
    from enhancer.contracts.record import Kind

_LEAST_CONFIDENCE = 0.1
"""Lower bound of a user's weight in the reshaping loss."""
_MOST_CANDIDATES = 4096
"""Largest number of items that distributions of a step are over; of more, as many are drawn."""
_RETRIEVAL_CELLS = 1 << 24
"""Similarities that are computed at once for retrieval."""


class ExtrapolateOptions(RegressionOptions):
    """``[fuser] use = "extrapolate"``."""

    environments: int = Field(default=4, ge=1)
    """Number ``E`` of mixtures of the profiles that a step draws. The authors use 2 to 4, by data set."""
    alpha: float = Field(default=0.1, gt=0)
    """Concentration of the Dirichlet distribution of mixtures: small values prefer one profile over the others."""
    invariance: float = Field(default=10.0, ge=0)
    """Weight of the variance of the loss over environments."""
    spread: float = Field(default=0.4, ge=0)
    """Weight of the contrast between profiles of different nodes; the authors use 0.4 or 2, by data set."""
    temperature: float = Field(default=0.2, gt=0)
    """Temperature of all contrastive terms and distributions."""
    reshape: float = Field(default=0.0, ge=0)
    """Weight of the distribution over items that vectors suggest (ProMax, 0.5 or 1.5 there); 0 leaves it out."""
    retrieve: float = Field(default=0.0, ge=0)
    """Weight of the contrast with retrieved pairs (ProMax, 0.05 or 0.1 there); 0 leaves it out."""
    retrieved: int = Field(default=10, ge=1)
    """Items retrieved for each user."""
    hidden: int = Field(default=64, ge=1)
    """Width of the MLP's hidden layer. The authors use half the sum of vector and embedding length, which takes
    longer."""
    nodes_per_step: int = Field(default=128, ge=2)
    """Maximum number of nodes of a step in each contrastive term."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of Adam for the MLP."""
    unseen_length: float | None = Field(default=None, gt=0)
    """Length of placed rows, as a multiple of the mean length of trained rows. Longer rows recommend unseen entities
    more often. By default the length of the regression's prediction: the less the vectors explain, the shorter."""


class Extrapolate(Fuser):
    """Mixtures of mapped profiles added to embeddings, and a loss that varies little between mixtures.

    Serving needs no vectors. Unseen entities are placed by regression of trained rows on vectors.
    """

    options_class = ExtrapolateOptions
    options: ExtrapolateOptions
    needs = frozenset({"ranking", "served"})

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run.

        Raises:
            FusionError: Inputs have vectors of different lengths, which one MLP cannot map.
        """
        widths = {view.stop - view.start for view in data.views}
        if len(widths) > 1:
            told = ", ".join(f"{view.name} {view.stop - view.start}" for view in data.views)
            raise FusionError(
                f"{self.display_name} maps all inputs by one MLP, and their vectors have different lengths: {told}",
                hint="embed all inputs with one embedder, or choose another [fuser] use",
            )
        return _Mixing(self.options, data, dim, seed, device)


class _Mixing(Fusion):
    def __init__(self, options: ExtrapolateOptions, data: TrainingData, dim: int, seed: int, device: str) -> None:
        import torch

        from enhancer_plugins.training.mlp import Mlp
        from enhancer_plugins.training.run import generator
        from enhancer_plugins.training.semantics import Semantics

        self._options, self._device = options, device
        self.learning_rate = options.learning_rate
        self._semantics = semantics = Semantics(data, device, options)
        self._count = max(len(data.views), 1)
        self._profiles: dict[Kind, torch.Tensor] = {}
        self._has: dict[Kind, torch.Tensor] = {}
        self._units: dict[Kind, torch.Tensor] = {}
        for kind, vectors in semantics.vectors.items():
            profiles = vectors.view(len(vectors), self._count, -1)
            self._profiles[kind] = torch.nn.functional.normalize(profiles, dim=2)
            self._has[kind] = profiles.any(2, keepdim=True).to(vectors.dtype)
            self._units[kind] = torch.nn.functional.normalize(self._profiles[kind].flatten(1), dim=1)
        width = semantics.dim // self._count
        self._mlp = Mlp((width, options.hidden, dim), generator(seed, "extrapolate"), device)
        self._random = generator(seed, "mixtures")
        items = semantics.known["item"].nonzero().squeeze(1)
        self._items = items
        self._pairs = self._retrieved(data) if options.retrieve else None

    def parameters(self) -> Iterable[torch.Tensor]:
        return self._mlp.parameters()

    def _mapped(self, kind: Kind, nodes: torch.Tensor | None = None) -> torch.Tensor:
        """Return the mapped profiles of nodes, float32 ``[m, K, d]``; zero where a node lacks one."""
        profiles, has = self._profiles[kind], self._has[kind]
        if nodes is not None:
            profiles, has = profiles.index_select(0, nodes), has.index_select(0, nodes)
        made = self._mlp(profiles.reshape(-1, profiles.shape[2]))
        return made.view(len(profiles), self._count, -1) * has

    def ranking_loss(self, step: TrainingStep) -> torch.Tensor:
        import torch

        own = self._options
        if not len(step.negatives):
            raise FusionError("extrapolate needs a backbone that draws negatives", hint='set [backbone] loss = "bpr"')
        users, user_places = torch.unique(step.users, return_inverse=True)
        items, item_places = torch.unique(torch.cat([step.positives, step.negatives]), return_inverse=True)
        mapped_users, mapped_items = self._mapped("user", users), self._mapped("item", items)
        final_users = step.user_embeddings.index_select(0, users)
        final_items = step.item_embeddings.index_select(0, items)
        positives, negatives = item_places.split([len(step.positives), len(step.negatives)])
        losses = []
        for share in self._mixtures():
            user_rows = final_users + torch.einsum("k,nkd->nd", share, mapped_users)
            item_rows = final_items + torch.einsum("k,nkd->nd", share, mapped_items)
            difference = item_rows.index_select(0, positives) - item_rows.index_select(0, negatives)
            score = (user_rows.index_select(0, user_places) * difference).sum(1)
            losses.append(torch.nn.functional.softplus(-score).mean())
        stacked = torch.stack(losses)
        loss = stacked.mean()
        if len(losses) > 1:
            loss = loss + own.invariance * stacked.var()
        if own.spread:
            loss = loss + own.spread * (self._apart(mapped_users) + self._apart(mapped_items))
        if own.reshape:
            loss = loss + own.reshape * self._reshaping(step, users)
        if self._pairs is not None:
            loss = loss + own.retrieve * self._contrast_with_retrieved(step, users, self._pairs)
        return loss

    def _mixtures(self) -> torch.Tensor:
        """Draw the shares of the profiles in each environment, float32 ``[E, K]``."""
        import torch

        seed = int(torch.randint(1 << 62, (1,), generator=self._random))
        drawn = np.random.default_rng(seed).dirichlet([self._options.alpha] * self._count, self._options.environments)
        return torch.from_numpy(np.nan_to_num(drawn, nan=1 / self._count).astype(np.float32)).to(self._device)

    def _some(self, count: int) -> torch.Tensor:
        """Draw at most ``nodes_per_step`` of ``count`` places."""
        import torch

        drawn = torch.randperm(count, generator=self._random)[: self._options.nodes_per_step]
        return drawn.to(self._device)

    def _contrast(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return InfoNCE of rows with the same place."""
        import torch

        from enhancer_plugins.training.losses.bpr import info_nce

        own = torch.arange(len(left), device=left.device)
        return info_nce(left, right, own, temperature=self._options.temperature)

    def _apart(self, mapped: torch.Tensor) -> torch.Tensor:
        """Return the contrast of each profile of a node with the same profile of others."""
        some = mapped.index_select(0, self._some(len(mapped)))
        kept = [rows[rows.any(1)] for rows in some.unbind(1)]
        return sum((self._contrast(rows, rows) for rows in kept if len(rows) > 1), mapped.new_zeros(()))

    def _reshaping(self, step: TrainingStep, users: torch.Tensor) -> torch.Tensor:
        import torch

        users = users[self._semantics.known["user"][users]]
        items = self._items
        if len(items) > _MOST_CANDIDATES:
            drawn = torch.randperm(len(items), generator=self._random)[:_MOST_CANDIDATES]
            items = items[drawn.to(items.device)]
        if len(users) == 0 or len(items) < 2:
            return step.user_embeddings.new_zeros(())
        users = users[self._some(len(users))]
        temperature = self._options.temperature
        told = self._units["user"][users] @ self._units["item"][items].T / temperature
        wanted = torch.softmax(told, 1)
        entropy = -(wanted * wanted.clamp_min(1e-12).log()).sum(1)
        weight = (1 - entropy / math.log(len(items))).clamp(_LEAST_CONFIDENCE, 1)
        rows = torch.nn.functional.normalize(step.user_embeddings.index_select(0, users), dim=1)
        others = torch.nn.functional.normalize(step.item_embeddings.index_select(0, items), dim=1)
        found = torch.log_softmax(rows @ others.T / temperature, 1)
        return -(weight * (wanted * found).sum(1)).mean()

    def _retrieved(self, data: TrainingData) -> torch.Tensor:
        """Return the normalised adjacency of users and the items that their vectors retrieve, sparse."""
        import torch

        users, items = self._units["user"].cpu(), self._units["item"][self._items].cpu()
        known = self._semantics.known["user"].cpu()
        count = min(self._options.retrieved, len(items))
        column = torch.full((data.n_items,), -1)
        column[self._items.cpu()] = torch.arange(len(items))
        order = np.argsort(data.users, kind="stable")
        starts = np.searchsorted(data.users[order], np.arange(data.n_users + 1))
        taken = column[torch.from_numpy(data.items[order].astype(np.int64))]
        step = max(_RETRIEVAL_CELLS // max(len(items), 1), 1)
        rows, columns = [], []
        for start in range(0, len(users) if count else 0, step):
            scores = users[start : start + step] @ items.T
            last = start + len(scores)
            own = taken[starts[start] : starts[last]]
            of = np.repeat(np.arange(len(scores)), np.diff(starts[start : last + 1]))
            scores[torch.from_numpy(of)[own >= 0], own[own >= 0]] = -math.inf
            values, best = scores.topk(count, 1)
            keep = values.isfinite() & known[start:last, None]
            rows.append((torch.arange(start, last)[:, None].expand_as(best))[keep])
            columns.append(self._items.cpu()[best[keep]])
        row = torch.cat([*rows, torch.zeros(0, dtype=torch.int64)])
        place = torch.cat([*columns, torch.zeros(0, dtype=torch.int64)])
        of_user = torch.bincount(row, minlength=data.n_users).float()
        of_item = torch.bincount(place, minlength=data.n_items).float()
        weight = (of_user[row] * of_item[place]).rsqrt()
        shape = (data.n_users, data.n_items)
        places = torch.stack([row, place])
        pairs = torch.sparse_coo_tensor(places, weight, shape, check_invariants=False)
        return pairs.coalesce().to(self._device)

    def _contrast_with_retrieved(self, step: TrainingStep, users: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        import torch

        far_users = torch.sparse.mm(pairs, step.item_embeddings)
        far_items = torch.sparse.mm(pairs.transpose(0, 1), step.user_embeddings)
        items = torch.unique(step.positives)
        loss = step.user_embeddings.new_zeros(())
        for nodes, near, far in (
            (users, step.user_embeddings, far_users),
            (items, step.item_embeddings, far_items),
        ):
            some = nodes[far.detach().any(1)[nodes]]
            some = some[self._some(len(some))]
            if len(some) > 1:
                loss = loss + self._contrast(near.index_select(0, some), far.index_select(0, some))
        both = (far_users.detach().any(1)[step.users] & far_items.detach().any(1)[step.positives]).nonzero().squeeze(1)
        both = both[self._some(len(both))]
        if len(both) > 1:
            of, with_ = step.users[both], step.positives[both]
            across = self._contrast(step.user_embeddings.index_select(0, of), far_items.index_select(0, with_))
            back = self._contrast(far_users.index_select(0, of), step.item_embeddings.index_select(0, with_))
            loss = loss + (across + back) / 2
        return loss

    def _served(self, kind: Kind, embeddings: NDArray[np.float32], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return embeddings ``[r, d]`` of some rows plus the mean of their mapped profiles."""
        import torch

        with torch.no_grad():
            nodes = torch.from_numpy(rows.astype(np.int64)).to(self._device)
            mapped = self._mapped(kind, nodes).sum(1) / self._has[kind].index_select(0, nodes).sum(1).clamp_min(1)
        added: NDArray[np.float32] = embeddings + mapped.cpu().numpy()
        return added

    def settle(self, kind: Kind, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._served(kind, embeddings, np.arange(len(embeddings)))

    def _trained(self, kind: Kind, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._served(kind, embeddings, np.flatnonzero(self._semantics.host.counts[kind]))

    def left_out(self, kind: Kind, embeddings: NDArray[np.float32], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._semantics.host.left_out(kind, self._trained(kind, embeddings), rows)

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        length = self._options.unseen_length
        return self._semantics.host.fitted_placement(kind, self._trained(kind, embeddings), length=length)

    def weigh(
        self, kind: Kind, embeddings: NDArray[np.float32], folds: Sequence[NDArray[np.int64]], judge: Judge
    ) -> Placement | None:
        return self._semantics.host.weighed_placement(
            kind, self._trained(kind, embeddings), folds, judge, length=self._options.unseen_length
        )

    def trust(self, kind: Kind) -> NDArray[np.float32] | None:
        return self._semantics.host.trust(kind)

    def state(self) -> dict[str, torch.Tensor]:
        return {**self._mlp.state(), "random": self._random.get_state()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self._mlp.load_state(state)
        self._random.set_state(state["random"])
