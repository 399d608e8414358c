"""Tests that user profiles written from held-out interactions are detected."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import hashing, invoke  # noqa: F401  # fixtures

from enhancer import Project
from enhancer.evaluation.diagnosing.leaks import LeakEvidence, leak_evidence
from enhancer.evaluation.measuring.views import Views

pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of libraries

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
    assert "may show held-out interactions" in done.err
    assert "allow_leaks" in done.err
    return done.err


def test_profiles_made_here_are_proven(invoke, project):  # noqa: F811
    for verb in ("train", "ablate"):
        done = invoke(verb, "-q")
        assert done.code == 0, done.err
    assert "made from training interactions alone" in (project / "report.html").read_text()
    said = invoke("diagnose").out
    assert "14 profiles of users were made from this split's training interactions" in said
    assert "neighbours by profile and by interactions" in said
    check = next(c for c in invoke("diagnose", "--json").json()["checks"] if c["name"] == "leak")
    assert (check["level"], check["values"]["proven"], check["values"]["users"]) == ("good", 14, 14)


def test_a_history_that_holds_validation_is_caught_by_its_hash(invoke, project):  # noqa: F811
    """The profiles were written before a validation split was cut from the training interactions."""
    whole = ("--set", "evaluation.validation_size=0")
    assert invoke("generate", "-q", *whole).code == 0
    assert invoke("train", "-q", *whole).code == 0
    for verb in ("train", "ablate"):
        said = refused(invoke(verb))
        assert "of 14 profiles of users, 14 were made from training and validation" in said
    found = invoke("diagnose", "--json").json()
    assert found["level"] == "poor"
    assert "14 were made from training and validation" in found["verdict"]
    # Arms without user profiles cannot leak, and neither can pooled user vectors.
    assert invoke("ablate", "-q", "--set", 'evaluation.arms=["none"]').code == 0
    assert invoke("train", "-q", "--set", "prompts.user.source=pool").code == 0
    # Profiles that are generated again for this split do not leak.
    assert invoke("generate", "-q").code == 0
    assert invoke("train", "-q").code == 0


def test_a_history_that_holds_everything_is_caught(invoke, project):  # noqa: F811
    """The profiles were written for the split given by files; another seed puts some of their history into the test split."""
    rows = (project / "ratings.csv").read_text().splitlines()
    (project / "test.csv").write_text("\n".join([rows[0], *rows[1::7]]) + "\n")
    (project / "train.csv").write_text("\n".join([rows[0], *(r for n, r in enumerate(rows[1:]) if n % 7)]) + "\n")
    files = ("--set", "evaluation.split=files", "--set", "evaluation.test=test.csv")
    assert invoke("generate", "-q", *files, "--set", "data.interactions=train.csv").code == 0
    moved = ("--set", "evaluation.split_seed=5")
    said = refused(invoke("train", *moved))
    assert "14 were made from another input than this split gives" in said


def test_imported_profiles_of_unknown_origin_are_refused_unless_allowed(invoke, project):  # noqa: F811
    assert invoke("store", "export", "all.jsonl").code == 0
    rows = [json.loads(line) for line in (project / "all.jsonl").read_text().splitlines()]
    bare = [{k: row[k] for k in ("id", "kind", "profile", "tags")} for row in rows if row["kind"] == "user"]
    (project / "users.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    assert invoke("store", "import", "users.jsonl").code == 0
    assert invoke("plan", "--json").json()["to_generate"] == 0  # the import is up to date all the same
    said = refused(invoke("train"))
    assert "14 were imported, and their source is unknown (for example u0" in said
    allowed = invoke("train", "--set", "evaluation.allow_leaks=true")
    assert allowed.code == 0
    assert "allowed by [evaluation] allow_leaks" in allowed.err
    assert invoke("ablate", "-q", "--set", "evaluation.allow_leaks=true").code == 0
    assert "imported, and their source is unknown" in (project / "report.html").read_text()
    # Complete exported records keep their provenance.
    assert invoke("store", "import", "all.jsonl").code == 0
    assert invoke("train", "-q").code == 0


TEXTS = """\
[data]
items = "items.csv"
users = "users.csv"
interactions = "ratings.csv"

[prompts.item]
source = "text"

[prompts.user]
source = "text"

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
test_size = 0.25
validation_size = 0.33
arms = ["none", "concat"]
"""


@pytest.fixture
def texts(invoke, hashing, tmp_path):  # noqa: F811
    """Write a users table whose texts name the items of the given splits, or the users' occupation if there are none."""
    chance = random.Random(5)
    genres = ("western", "musical", "thriller", "romance")
    names = [f"{genres[n % 4]} {chance.randrange(10**9)}" for n in range(60)]
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names)))
    rated = [f"u{user},{item}\n" for user in range(30) for item in chance.sample(range(user % 4, 60, 4), 12)]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(rated))
    (tmp_path / "enhancer.toml").write_text(TEXTS)
    split = Project.load(tmp_path / "enhancer.toml").parts.split

    def write(*parts):
        rows = ["user_id,about"]
        for row, user in enumerate(split.train.user_ids):
            told = [
                names[item] for part in parts for item in getattr(split, part).items[getattr(split, part).users == row]
            ]
            rows.append(f"{user},{' '.join(told) or chance.choice(['nurse', 'clerk', 'student']) + f' of {20 + row}'}")
        (tmp_path / "users.csv").write_text("\n".join(rows) + "\n")
        assert invoke("generate", "-q").code == 0

    return write


def test_who_a_user_is_may_be_told(invoke, texts, tmp_path):  # noqa: F811
    texts()
    for verb in ("train", "ablate"):
        done = invoke(verb)
        assert done.code == 0, done.err
        assert "held out" not in done.err
    assert "texts of users are accepted as they are" in (tmp_path / "report.html").read_text()
    (check,) = [c for c in invoke("diagnose", "--json").json()["checks"] if c["topic"] == "leak"]
    assert (check["level"], check["kind"]) == ("fair", "user")
    assert "which proves nothing" in check["words"]


def test_texts_that_were_written_from_training_alone_are_taken(invoke, texts):  # noqa: F811
    texts("train")
    assert invoke("train", "-q").code == 0


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("train", "validation"), "they have seen the validation split"),
        (("train", "test"), "they have seen the test split"),
        (("train", "validation", "test"), "as near to test items as to training items"),
    ],
)
def test_ready_made_texts_that_know_what_is_held_out_are_refused(invoke, texts, parts, says):  # noqa: F811
    texts(*parts)
    for verb in ("train", "ablate"):
        said = invoke(verb)
        assert said.code == 1
        assert "texts of users may show held-out interactions" in said.err
        assert says in said.err
        assert "user_text" in said.err
    found = invoke("diagnose", "--json").json()
    assert found["level"] == "poor"
    assert says in found["verdict"]
    # Pooled users and arms without vectors use no texts, and allow_leaks overrides the check.
    assert invoke("train", "-q", "--set", "prompts.user.source=pool").code == 0
    assert invoke("ablate", "-q", "--set", 'evaluation.arms=["none"]').code == 0
    allowed = invoke("train", "--set", "evaluation.allow_leaks=true")
    assert allowed.code == 0
    assert "allowed by [evaluation] allow_leaks" in allowed.err


def test_taste_that_moved_is_no_leak():
    """Users choose one kind of item in training and validation, and another in the test split.

    A text that names the first kind is nearer to validation than to test items, and so is the pooled training vector.
    """
    rng = np.random.default_rng(1)
    n = 40
    kinds = np.repeat(np.eye(4, dtype=np.float32), 30, axis=0) + 0.05 * rng.standard_normal((120, 4)).astype(np.float32)

    def part(user_kind, count):
        pairs = [(u, 30 * user_kind(u) + i) for u in range(n) for i in rng.permutation(30)[:count]]
        users, items = np.array(pairs, np.int32).T.copy()
        ids = [f"u{u}" for u in range(n)], [f"i{i}" for i in range(120)]
        return SimpleNamespace(users=users, items=items, user_ids=ids[0], item_ids=ids[1], ratings=None)

    none = np.empty(0, np.int32)
    train = part(lambda u: u % 4, 20)
    moved = part(lambda u: (u + 1) % 4, 5)
    whole = part(lambda u: u % 4, 30)  # makes every item warm
    train = SimpleNamespace(**{**vars(train), "users": whole.users, "items": whole.items})
    split = SimpleNamespace(
        train=train, validation=part(lambda u: u % 4, 5), test=moved, cold_items=none, cold_users=none
    )
    texts = np.eye(4, dtype=np.float32)[np.arange(n) % 4]
    pooled = np.zeros((n, 4), np.float32)
    np.add.at(pooled, train.users, kinds[train.items])
    assert leak_evidence(texts, kinds, Views(split)).seen_split == "validation"
    controlled = leak_evidence(texts, kinds, Views(split), pooled)
    assert controlled.seen_split is None
    assert "tastes have changed, which proves nothing" in controlled.words


@pytest.mark.parametrize(
    ("train", "test", "pooled_test", "p_test", "leaks"),
    [
        (0.1, 0.09, 0.1, 1e-6, True),  # falls off by a tenth; the training mean by a half
        (0.1, 0.07, 0.1, 1e-6, False),  # falls off by three tenths, more than half as much
        (0.1, 0.09, 0.19, 1e-6, False),  # not half as near as the training mean
        (0.1, 0.09, 0.1, 0.01, False),  # not significant
        (0.001, 0.001, 0.1, 1e-6, False),  # not made from interactions
    ],
)
def test_what_says_as_much_of_the_test_part(train, test, pooled_test, p_test, leaks):
    training_mean = LeakEvidence(users=50, train=0.2, validation=0.1, test=pooled_test, p=0.5)
    found = LeakEvidence(users=50, train=train, validation=train, test=test, p=0.5, p_test=p_test, pooled=training_mean)
    assert found.seen_all is leaks
    assert ("as near to test items as to training items" in found.words) is leaks


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
        return leak_evidence(users, vectors, views)

    clean, leaking = seen("train"), seen("train", "validation")
    assert clean.seen_split is None
    assert clean.train > clean.test
    assert "proves nothing" in clean.words
    assert leaking.seen_split == "validation"
    assert "they have seen the validation split" in leaking.words
    assert seen("train", "test").seen_split == "test"
    assert leak_evidence(np.zeros((80, 64), np.float32), vectors, views) is None
    pooled = np.zeros((80, 64), np.float32)
    np.add.at(pooled, made["train"].users, vectors[made["train"].items])
    assert not leak_evidence(pooled, vectors, views, pooled).seen_all
    everything = pooled.copy()
    for name in ("validation", "test"):
        np.add.at(everything, made[name].users, vectors[made[name].items])
    assert leak_evidence(everything, vectors, views, pooled).seen_all


def test_notes_on_tastes_of_users_are_traced_like_profiles(invoke, project):  # noqa: F811
    """Aspects instead of one profile: their prompts show the history, too."""
    config = (project / "enhancer.toml").read_text()
    tastes = 'aspects = ["lasting", "recent"]\n'
    (project / "enhancer.toml").write_text(
        config.replace("[prompts.user]\n", f"[prompts.user]\n{tastes}").replace(
            '[embedder]\nuse = "hashing"\n', '[embedder]\nuse = "hashing"\ninput = ["text", "lasting", "recent"]\n'
        )
    )
    whole = ("--set", "evaluation.validation_size=0")
    assert invoke("generate", "-q", *whole).code == 0
    said = refused(invoke("train"))
    assert "of 14 profiles of users, 14 were made from training and validation" in said
