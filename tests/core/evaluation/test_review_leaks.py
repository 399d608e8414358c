"""Test that profiles written from reviews of held-out interactions are detected."""

from __future__ import annotations

import json
import random

import pytest
from command_line import hashing, invoke  # noqa: F401  # fixtures

pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of libraries

CONFIG = """\
[data]
items = "items.csv"
interactions = "ratings.csv"
reviews = "reviews.csv"

[prompts.item]
template = "item/reviews"

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
cold_items = 0.1
arms = ["none", "concat"]
controls = false
"""


@pytest.fixture
def project(invoke, hashing, llm_server, tmp_path):  # noqa: F811
    chance = random.Random(3)
    rows = [f"{n},A {('western', 'musical', 'thriller')[n % 3]} of {1950 + n}\n" for n in range(20)]
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(rows))
    pairs = [(f"u{user}", item) for user in range(14) for item in chance.sample(range(20), 10)]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in pairs))
    reviews = "".join(f"{u},{i},the view of {u} on {i}\n" for u, i in pairs)
    (tmp_path / "reviews.csv").write_text("user_id,item_id,text\n" + reviews)
    (tmp_path / "enhancer.toml").write_text(CONFIG.format(url=llm_server.url))
    assert invoke("generate", "-q").code == 0
    return tmp_path


def refused(done):
    assert done.code == 1
    assert "profiles of items may show reviews of held-out interactions" in done.err
    assert "allow_leaks" in done.err
    return done.err


def test_profiles_made_here_are_proven_and_left_out_reviews_are_counted(invoke, project):  # noqa: F811
    for verb in ("train", "ablate"):
        done = invoke(verb, "-q")
        assert done.code == 0, done.err
    assert "made from reviews of training interactions alone" in (project / "report.html").read_text()
    check = next(
        c for c in invoke("diagnose", "--json").json()["checks"] if c["name"] == "leak" and c["kind"] == "item"
    )
    assert (check["level"], check["values"]["proven"], check["values"]["items"]) == ("good", 20, 20)
    counts = invoke("plan", "--json").json()["reviews"]
    assert counts["rows"] == 140
    assert counts["training"] + counts["held_out"] == 140
    assert check["values"]["held_out"] == counts["held_out"] > 40


def test_no_prompt_shows_a_review_of_a_held_out_pair(invoke, project, llm_server):  # noqa: F811
    from enhancer import Project

    made = Project.load(project / "enhancer.toml")
    split = made.parts.split
    train = {(split.train.user_ids[u], split.train.item_ids[i]) for u, i in zip(split.train.users, split.train.items)}  # noqa: B905
    cold = [split.train.item_ids[n] for n in split.cold_items]
    made.close()
    shown = set()
    for body in llm_server.bodies:
        prompt = body["messages"][1]["content"]
        lines = [line.split() for line in prompt.splitlines() if line.startswith("- the view of ")]
        shown |= {(line[4], line[6]) for line in lines}
    assert shown == train
    assert cold
    assert not {item for _, item in shown}.intersection(cold)


def test_refresh_writes_the_profiles_of_items_with_new_reviews(invoke, project):  # noqa: F811
    from enhancer import Project

    made = Project.load(project / "enhancer.toml")
    train = made.parts.split.train
    user, item = train.user_ids[train.users[0]], train.item_ids[train.items[0]]
    made.close()
    with (project / "reviews.csv").open("a") as file:
        file.write(f"{user},{item},and a second view\n")
    done = invoke("refresh", "--json", "--yes")
    assert done.code == 0, done.err
    summary = done.json()
    (change,) = [each for each in summary["changes"] if each["kind"] == "item"]
    assert change["stale"]["text"] == 1
    assert change["examples"]["text"] == [item]
    assert summary["generate"]["reviews"]["rows"] == 141
    assert invoke("run", "-q", "--json", "--yes", "--set", 'evaluation.arms=["none"]').code == 0


def test_reviews_of_validation_are_caught_by_the_hash(invoke, project):  # noqa: F811
    """The profiles were written before a validation split was cut from the training interactions."""
    whole = ("--set", "evaluation.validation_size=0")
    assert invoke("generate", "-q", *whole).code == 0
    assert invoke("train", "-q", *whole).code == 0
    for verb in ("train", "ablate"):
        said = refused(invoke(verb))
        assert "were made from reviews of training and validation" in said
    found = invoke("diagnose", "--json").json()
    assert found["level"] == "poor"
    assert invoke("ablate", "-q", "--set", 'evaluation.arms=["none"]').code == 0
    assert invoke("generate", "-q").code == 0
    assert invoke("train", "-q").code == 0


def test_another_split_leaves_what_profiles_have_shown_unknown(invoke, project):  # noqa: F811
    said = refused(invoke("train", "--set", "evaluation.split_seed=7"))
    assert "were made from another input than this split gives" in said
    allowed = ("--set", "evaluation.split_seed=7", "--set", "evaluation.allow_leaks=true")
    assert invoke("train", "-q", *allowed).code == 0


def test_another_template_does_not_hide_what_profiles_have_shown(invoke, project):  # noqa: F811
    refused(invoke("train", "--set", "prompts.item.template=item/v1"))


def test_a_stale_note_that_shows_no_reviews_leaks_none(invoke, project):  # noqa: F811
    plain = ("--set", "prompts.item.template=item/v1")
    assert invoke("generate", "-q", *plain).code == 0
    items = (project / "items.csv").read_text()
    (project / "items.csv").write_text(items.replace("A western", "The western"))
    assert invoke("train", "-q", *plain).code == 0
    refused(invoke("train"))


def test_imported_profiles_prove_nothing(invoke, project):  # noqa: F811
    row = {"id": "1", "profile": "A film that everybody who saw it in the test split adored.", "tags": ["adored"]}
    (project / "own.jsonl").write_text(json.dumps(row) + "\n")
    assert invoke("store", "import", "own.jsonl").code == 0
    assert "1 were imported, and their source is unknown" in refused(invoke("train"))


def test_a_table_without_users_needs_a_word_from_its_owner(invoke, project):  # noqa: F811
    rows = [line.split(",", 1)[1] for line in (project / "reviews.csv").read_text().splitlines()]
    (project / "reviews.csv").write_text("\n".join(rows) + "\n")
    done = invoke("plan")
    assert done.code == 2
    assert "has no column 'user_id'" in done.err
    assert "allow_leaks" in done.err
    allowed = ("--set", "evaluation.allow_leaks=true")
    done = invoke("generate", *allowed)
    assert done.code == 0
    assert "may belong to held-out interactions" in done.err
    assert invoke("train", "-q", *allowed).code == 0
    checks = invoke("diagnose", "--json", *allowed).json()["checks"]
    check = next(c for c in checks if c["name"] == "leak" and c["kind"] == "item")
    assert check["level"] == "fair"
    assert "names no users" in check["words"]
