"""Profiles of users that were written from what is held out."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import hashing, invoke  # noqa: F401  # fixtures

from enhancer.evaluation.leaks import evidence
from enhancer.evaluation.split import Views

pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

CONFIG = """\
[data]
items = "items.csv"
interactions = "ratings.csv"

[prompts.user]
source = "llm"
max_history = 20

[llm]
use = "openai"
model = "openai/local"
api_base = "{url}"
price = {{ input = 0.0, output = 0.0 }}

[embedder]
use = "hashing"

[store]
use = "sqlite"
path = "features"

[backbone]
use = "lightgcn"
dim = 4
epochs = 1

[evaluation]
seeds = 1
test_size = 0.3
validation_size = 0.2
arms = ["none", "concat"]
"""


@pytest.fixture
def project(invoke, hashing, llm_server, tmp_path):  # noqa: F811
    chance = random.Random(3)
    genres = ("western", "musical", "thriller", "romance")
    rows = [f"{n},A {genres[n % 4]} of {1950 + n}\n" for n in range(24)]
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(rows))
    rated = [f"u{user},{item}\n" for user in range(14) for item in chance.sample(range(24), 10)]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(rated))
    (tmp_path / "enhancer.toml").write_text(CONFIG.format(url=llm_server.url))
    assert invoke("generate", "-q").code == 0
    return tmp_path


def refused(done):
    assert done.code == 1
    assert "may show what is held out" in done.err
    assert "allow_leaks" in done.err
    return done.err


def test_profiles_made_here_are_proven(invoke, project):  # noqa: F811
    for verb in ("train", "ablate"):
        done = invoke(verb, "-q")
        assert done.code == 0, done.err
    assert "made from training interactions alone" in (project / "report.html").read_text()
    said = invoke("diagnose").out
    assert "14 profiles of users were made from this split's training interactions" in said
    assert "neighbours by profile and by behaviour" in said
    check = next(c for c in invoke("diagnose", "--json").json()["checks"] if c["name"] == "leak")
    assert (check["level"], check["values"]["proven"], check["values"]["users"]) == ("good", 14, 14)


def test_a_history_that_holds_validation_is_caught_by_its_hash(invoke, project):  # noqa: F811
    """The profiles were written when nothing was kept for validation; then a validation part was cut from train."""
    whole = ("--set", "evaluation.validation_size=0")
    assert invoke("generate", "-q", *whole).code == 0
    assert invoke("train", "-q", *whole).code == 0
    for verb in ("train", "ablate"):
        said = refused(invoke(verb))
        assert "of 14 profiles of users, 14 were made from training and validation" in said
    found = invoke("diagnose", "--json").json()
    assert found["level"] == "poor"
    assert "14 were made from training and validation" in found["verdict"]
    # Arms that use no profile of a user have nothing to leak, and neither do pooled users.
    assert invoke("ablate", "-q", "--set", 'evaluation.arms=["none"]').code == 0
    assert invoke("train", "-q", "--set", "prompts.user.source=pool").code == 0
    # What is made anew for this split is clean.
    assert invoke("generate", "-q").code == 0
    assert invoke("train", "-q").code == 0


def test_a_history_that_holds_everything_is_caught(invoke, project):  # noqa: F811
    """As when all interactions were profiled before anybody thought of a test: files of a split name them."""
    rows = (project / "ratings.csv").read_text().splitlines()
    (project / "test.csv").write_text("\n".join([rows[0], *rows[1::7]]) + "\n")
    (project / "train.csv").write_text("\n".join([rows[0], *(r for n, r in enumerate(rows[1:]) if n % 7)]) + "\n")
    files = ("--set", "evaluation.split=files", "--set", "evaluation.test=test.csv")
    assert invoke("generate", "-q", *files, "--set", "data.interactions=train.csv").code == 0
    # Another seed of the split: what was training then is partly tested now.
    moved = ("--set", "evaluation.split_seed=5")
    said = refused(invoke("train", *moved))
    assert "14 were made from another input than this split gives" in said


def test_imported_profiles_of_unknown_origin_are_refused_unless_allowed(invoke, project):  # noqa: F811
    assert invoke("store", "export", "all.jsonl").code == 0
    rows = [json.loads(line) for line in (project / "all.jsonl").read_text().splitlines()]
    bare = [{k: row[k] for k in ("id", "kind", "profile", "tags")} for row in rows if row["kind"] == "user"]
    (project / "users.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    assert invoke("store", "import", "users.jsonl").code == 0
    assert invoke("plan", "--json").json()["to_generate"] == 0  # current all the same: nothing is paid for again
    said = refused(invoke("train"))
    assert "14 were imported, from nobody knows what (such as those of u0" in said
    allowed = invoke("train", "--set", "evaluation.allow_leaks=true")
    assert allowed.code == 0
    assert "allowed by [evaluation] allow_leaks" in allowed.err
    assert invoke("ablate", "-q", "--set", "evaluation.allow_leaks=true").code == 0
    assert "imported, from nobody knows what" in (project / "report.html").read_text()
    # A whole record that was exported proves what it did before.
    assert invoke("store", "import", "all.jsonl").code == 0
    assert invoke("train", "-q").code == 0


def test_vectors_betray_what_they_have_seen():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 64)).astype(np.float32)
    parts = {"train": [], "validation": [], "test": []}
    for user in range(80):
        chosen = rng.permutation(300)[:24]
        for name, some in zip(parts, (chosen[:16], chosen[16:20], chosen[20:]), strict=True):
            parts[name] += [(user, item) for item in some]
    ids = [f"u{i}" for i in range(80)], [f"i{i}" for i in range(300)]

    def part(pairs):
        users, items = np.array(pairs, np.int32).T.copy()
        return SimpleNamespace(users=users, items=items, user_ids=ids[0], item_ids=ids[1], ratings=None)

    made = {name: part(pairs) for name, pairs in parts.items()}
    none = np.empty(0, np.int32)
    views = Views(SimpleNamespace(**made, cold_items=none, cold_users=none))

    def seen(*names):
        users = np.zeros((80, 64), np.float32)
        for name in names:
            np.add.at(users, made[name].users, vectors[made[name].items])
        return evidence(users, vectors, views)

    clean, leaking = seen("train"), seen("train", "validation")
    assert clean.seen is None
    assert clean.train > clean.test
    assert "proves nothing" in clean.words
    assert leaking.seen == "validation"
    assert "they have seen the validation part" in leaking.words
    assert seen("train", "test").seen == "test"
    assert evidence(np.zeros((80, 64), np.float32), vectors, views) is None
