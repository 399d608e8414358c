"""Each public data set in its own form: init, doctor, generate and train run, and what is read is what is written there."""

from __future__ import annotations

import tomllib

import pytest
from command_line import hashing, invoke  # noqa: F401  # fixtures
from native_plan import ITEMS, START, TOUCHES, USERS
from native_sets import SETS

from enhancer import Project
from enhancer.config import load_settings
from enhancer.data import TableOptions, read_entities, read_features, read_interactions, split_interactions

QUICK = (
    *("--set", "prompts.item.source=text", "--set", 'backbone={use="als", dim=4, epochs=1}'),
    *("--set", 'evaluation={split="SPLIT", seeds=1, validation_size=0}'),
)


def test_reviews_of_a_data_set_are_read_in_its_form(tmp_path, invoke):  # noqa: F811
    SETS["amazon-2014"].make(tmp_path)
    assert invoke("init", "--yes").code == 0
    text = (tmp_path / "enhancer.toml").read_text(encoding="utf-8")
    named = '# reviews = "reviews_Toys_5.json.gz"   # for templates that show {{ reviews }}\n# reviews_format = "amazon-2014"\n'
    assert named in text
    (tmp_path / "enhancer.toml").write_text(text.replace("# reviews", "reviews"), encoding="utf-8")
    parts = Project.load(tmp_path / "enhancer.toml").parts
    (review,) = parts.reviews.best(SETS["amazon-2014"].item(0), limit=10)
    assert (review.text, review.helpful, review.time >= START) == ("Fine.", 0, True)


def parts_of(found, part):
    return sorted((found.user_ids[u], found.item_ids[i]) for u, i in zip(part.users, part.items, strict=True))


@pytest.mark.filterwarnings("ignore")  # warnings of libraries
@pytest.mark.parametrize("name", SETS)
def test_a_data_set_as_it_is_published(name, tmp_path, invoke, hashing):  # noqa: F811
    made = SETS[name]
    made.make(tmp_path)
    done = invoke("init", "--yes", "--embedder", "hashing")
    assert done.code == 0, done.err
    config = tomllib.loads((tmp_path / "enhancer.toml").read_text(encoding="utf-8"))
    assert config["data"].setdefault("columns", {}) == made.data.get("columns", {})
    assert config["data"] | {"columns": {}} == made.data | {"columns": {}}
    split = {key: config["evaluation"][key] for key in ("split", "test") if key in config["evaluation"]}
    assert split == (made.evaluation or {"split": "random"})

    # the parts of the split, tags and texts
    settings, root = load_settings(tmp_path / "enhancer.toml", environ={})
    data, ids = settings.data, [made.item(i) for i in range(ITEMS)]
    items_as, touches_as = (TableOptions.of(data, table) for table in ("items", "interactions"))
    books = list(read_entities(root / data.items, "item", data.columns, 4000, html=data.html, options=items_as))
    assert sorted((book.id, book.text) for book in books) == sorted((made.item(i), made.text(i)) for i in range(ITEMS))
    if made.tags is not None:
        found = read_features(
            root / data.items, "item", data.columns, [made.tags], ids, max_values=99, options=items_as
        )
        assert {*found.features.names} == {f"{made.tags}={tag}" for tags in made.tags_of for tag in tags}
        names = found.features.names
        rows = zip(found.features.indptr, found.features.indptr[1:], strict=False)
        read = [{names[n].partition("=")[2] for n in found.features.indices[a:b]} for a, b in rows]
        assert read == [{*tags} for tags in made.tags_of]
    whole = read_interactions(root / data.interactions, data.columns, item_ids=ids, options=touches_as)
    assert whole.report.duplicates == made.duplicates
    assert (whole.report.unknown_items, whole.report.unknown_item_examples) == (0, ())
    update = {"split": made.split, "validation_size": 0.0}
    split = split_interactions(
        whole, settings.evaluation.model_copy(update=update), root, data.columns, options=touches_as
    )
    touched = [[(made.user(u), made.item((u + step) % ITEMS)) for step in range(TOUCHES)] for u in range(USERS)]
    if made.split == "random":
        assert sorted([*parts_of(whole, split.train), *parts_of(whole, split.test)]) == sorted(
            pair for pairs in touched for pair in pairs
        )
    else:
        assert parts_of(whole, split.test) == sorted(pairs[-1] for pairs in touched)
        assert parts_of(whole, split.train) == sorted(pair for pairs in touched for pair in pairs[:-1])

    # all commands
    checked = invoke("doctor", "--json", "--set", "prompts.item.source=text")
    assert [each for each in checked.json() if each["status"] == "fail" and each["name"].startswith("data")] == []
    assert checked.code == 0, checked.out
    assert invoke("generate", "-q", *QUICK[:2]).code == 0
    flags = [*QUICK[:4], *("--set", f"evaluation.split={made.split}", "--set", "evaluation.seeds=1")]
    trained = invoke("train", "--json", "-q", *flags, "--set", "evaluation.validation_size=0")
    assert trained.code == 0, trained.err
    assert trained.json()["metrics"]["ndcg@10"] is not None
