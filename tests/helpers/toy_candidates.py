"""Toy backbones for tests of ``[backbone] use = "auto"``, and fusers that some of them accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from generation import HashingEmbedder
from pydantic import Field

import enhancer
from enhancer.contracts import Backbone, Factors, Fitted, Fuser, Fusion, Options
from enhancer.plugin_host import load_plugins

THEMES = 4
FITS: list[tuple[str, dict[str, object]]] = []
"""Backbone and options of every fit of a test."""


class Counted(Backbone):
    """A backbone that records its fits and scores by ``power`` times the user's theme, plus noise."""

    skill: ClassVar[float] = 0.0
    candidates = ({},)

    def fit(self, data, fuser, *, seed, monitor):
        FITS.append((self.plugin_name, self.options.model_dump()))
        fuser.build_checked(data, 4, seed=seed)
        known = np.zeros((data.n_users, data.n_items))
        known[data.users, data.items] = 1
        left, values, right = np.linalg.svd(known, full_matrices=False)
        noise = np.random.default_rng(3).standard_normal((data.n_users, THEMES))
        users = self.quality() * left[:, :THEMES] * values[:THEMES] + (1 - self.quality()) * noise
        return Fitted(factors=Factors(users.astype(np.float32), right[:THEMES].T.astype(np.float32)))

    def quality(self):
        return self.skill


class GoodOptions(Options):
    searched: ClassVar[Mapping[str, float]] = {"blur": 4.0}

    blur: float = Field(default=0.8, gt=0, le=2)
    """Noise."""


class Good(Counted):
    """The best one, of which less blur is better. It accepts no fuser."""

    options_class = GoodOptions

    def quality(self):
        return 1 - self.options.blur / 2


class Fair(Counted):
    """Second best; it accepts columns beside its embeddings."""

    skill = 0.55
    accepts = frozenset({"input"})


class WeakOptions(Options):
    searched: ClassVar[Mapping[str, float]] = {"size": 4.0}

    loss: str = "one"
    """The loss."""
    size: int = 4
    """Something to vary."""
    epochs: int = 10
    """Epochs."""


class Weak(Counted):
    """Far behind; it offers itself with two losses."""

    options_class = WeakOptions
    accepts = frozenset({"input", "loss"})
    candidates = ({"loss": "one"}, {"loss": "two"})

    def quality(self):
        return 0.05 if self.options.loss == "one" else 0.1


class TwiceOptions(Options):
    share: float = 0.1
    """Quality."""


class Twice(Counted):
    """It offers its defaults, and better options."""

    options_class = TwiceOptions
    accepts = frozenset({"input"})
    candidates = ({}, {"share": 0.5})

    def quality(self):
        return self.options.share


class Shy(Counted):
    """It does not offer itself."""

    skill = 1.0
    candidates = ()


class Fond(Counted):
    """Behind the fair one, and ahead of it with a fuser that widens its input."""

    skill = 0.5
    accepts = frozenset({"input"})

    def fit(self, data, fuser, *, seed, monitor):
        self.fused = "input" in fuser.needs
        return super().fit(data, fuser, seed=seed, monitor=monitor)

    def quality(self):
        return 1.0 if self.fused else self.skill


class Plain(Counted):
    """A list of bestsellers."""

    personalised = False

    def fit(self, data, fuser, *, seed, monitor):
        fuser.build_checked(data, 1, seed=seed)
        counts = np.bincount(data.items, minlength=data.n_items).astype(np.float32)
        return Fitted(factors=Factors(np.ones((data.n_users, 1), np.float32), counts[:, None]))


class Lucky(Plain):
    """The same, but it guesses a validation item of a few users."""

    personalised = True
    guesses: ClassVar[Mapping[int, int]] = {}

    def fit(self, data, fuser, *, seed, monitor):
        plain = super().fit(data, fuser, seed=seed, monitor=monitor).factors
        users = np.zeros((data.n_users, data.n_items), np.float32)
        for user, item in self.guesses.items():
            users[user, item] = 1e4
        items = np.eye(data.n_items, dtype=np.float32)
        factors = Factors(np.concatenate([plain.users, users], 1), np.concatenate([plain.items, items], 1))
        return Fitted(factors=factors)


class Huge(Counted):
    def memory(self, data):
        return 10**15 + data.n_items


class Picky(Counted):
    def unsuited(self, data):
        return f"{data.n_users} users are too few"


class Fussy(Picky):
    pass


class Labelled(Counted):
    takes = frozenset({"labels"})


class Faulty(Counted):
    def fit(self, data, fuser, *, seed, monitor):
        raise RuntimeError("no accelerator")


class Beside(Fuser):
    """A fuser that needs columns beside the embeddings. The toys above ignore them."""

    needs = frozenset({"input"})

    def build(self, data, dim, *, seed, device):
        return BesideFusion()


class BesideFusion(Fusion):
    def inputs(self):
        return None


class Deep(Beside):
    needs = frozenset({"ranking"})


class Line(Good):
    """A reference line."""

    reference: ClassVar = {"blur": (0.4, 0.8)}


class Behind(Line):
    """A reference line that is far behind with its defaults."""

    def quality(self):
        return 0.3 * super().quality()


BACKBONES = {
    "behind": Behind,
    "line": Line,
    "good": Good,
    "fair": Fair,
    "weak": Weak,
    "twice": Twice,
    "fond": Fond,
    "plain": Plain,
    "lucky": Lucky,
    "shy": Shy,
    "huge": Huge,
    "picky": Picky,
    "fussy": Fussy,
    "labelled": Labelled,
    "faulty": Faulty,
}


class Embedder(HashingEmbedder):
    options_class = Options


def manager_with(*names):
    """Return a plugin host with some of the backbones, two fusers and an embedder."""

    class Plugin:
        @enhancer.hookimpl
        def register_backbones(self, register):
            for name in names:
                register(name, BACKBONES[name])
            register("absent", "absent_module:Absent", requires=("no_such_library",), extra="more")

        @enhancer.hookimpl
        def register_fusers(self, register):
            register("beside", Beside)
            register("deep", Deep)

        @enhancer.hookimpl
        def register_embedders(self, register):
            register("hashing", Embedder)

    manager = load_plugins({})
    manager.register(Plugin(), distribution="toys")
    return manager
