"""Tests of the ablation report."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from enhancer.errors import EvaluationError
from enhancer.evaluation import Views
from enhancer.evaluation.reporting.blocks import ReportLists, ReportSection, ReportTable
from enhancer.evaluation.reporting.gallery import ItemDescription, build_gallery
from enhancer.evaluation.reporting.projection import project_to_plane
from enhancer.evaluation.reporting.report import render_csv, render_report, write_report
from enhancer.evaluation.running.search_result import SearchResult, Trial

HOSTILE = '<script>alert("1")</script><img src="http://evil.example/x" onerror=alert(1)>{{ 7 * 7 }}'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tags(HTMLParser):
    """Parse a page, collect its elements, and check that all elements are closed."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input", "line", "circle", "rect"})

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.data = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data)


def sections():
    return [
        ReportSection(HOSTILE, HOSTILE, [ReportTable([HOSTILE], [[HOSTILE, 3]], HOSTILE)]),
        ReportSection(
            "Two users",
            blocks=[ReportLists({"liked": ["A film"], HOSTILE: ["B", HOSTILE]}, "User 1", frozenset({"B"}))],
        ),
    ]


def make_gallery(world, text=HOSTILE):
    """Return a gallery in which every text is markup."""
    split, vectors = world

    def tell(rows):
        return {
            row: ItemDescription(
                title=text,
                text=text,
                prompt=text,
                profile=text * 40,
                tags=(text, "warm-hearted", f"t{row}"),
                about=text,
            )
            for row in rows
        }

    built = build_gallery(vectors, Views(split), tell, lambda rows: [f"{text} {row}" for row in rows], system=text)
    return replace(built, cost_usd=0.5, tokens=1000)


@pytest.fixture(scope="module")
def page(ablation, world):
    return render_report(
        ablation,
        title=HOSTILE,
        facts={HOSTILE: HOSTILE, "rows": 100000},
        settings={"a": {"b": [1, 2], "c": None}},
        sections=sections(),
        gallery=make_gallery(world),
    )


def test_the_page_is_whole_and_asks_nobody_for_anything(page):
    tags = Tags(page)
    assert tags.open == []
    for tag, attributes in tags.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "img", "base", "form"}, tag
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "srcset"}]
        assert attributes.get("href", "#").startswith("#"), attributes
        assert re.fullmatch(
            r"left:[\d.]+%;top:[\d.]+%;--size:[\d.]+", attributes.get("style", "left:0%;top:0%;--size:0")
        )
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in tags.elements if t == "meta" and a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_outside_text_stays_text(page):
    tags = Tags(page)
    assert "".join(tags.data).count(HOSTILE) >= 8  # shown as it is, never evaluated
    assert "49" not in [text.strip() for text in tags.data]


def test_every_arm_panel_and_verdict_is_there(page, ablation):
    words = " ".join(" ".join(Tags(page).data).replace("\N{NO-BREAK SPACE}", " ").split())
    for arm in ablation.arms:
        assert arm.name in words
        assert arm.description in words
    for title in ("All items", "Head", "Middle", "Tail", "Cold items", "Cold items among all items", "Short history"):
        assert title in words
    for verdict in ablation.verdict.values():
        assert verdict.partition(": ")[2][1:] in words
    assert page.count("<svg") >= 3 * 3 + 3 + 2
    assert "NDCG@10" in words
    assert "Is it the meaning?" in words
    assert "Against simpler models" in words
    assert page.count("<th>mean vector (text)</th>") == 1
    assert page.count("<th>popularity</th>") == 2  # over all items, and on the tail
    assert "nan" not in page.lower().split()
    assert "None" not in words.split()
    assert "0.0 minutes" not in words
    assert "Map of the vectors" in words
    assert "gain in NDCG@10 against the cost of profiles in USD" in words
    assert "none/seed0: " in page
    assert "run 1" not in page


def test_the_gallery_is_bounded_and_its_neighbours_are_right(world):
    split, vectors = world
    views = Views(split)
    shown = make_gallery(world, "Film")
    assert len(shown.points) == len(vectors)
    assert all(0 <= p.x <= 1 and 0 <= p.y <= 1 and 0 <= p.size <= 1 for p in shown.points)
    assert {card.stratum for card in shown.cards} == {"head", "middle", "tail", "cold"}
    assert sum(point.card is not None for point in shown.points) == len(shown.cards) <= 36
    assert sum(point.cold for point in shown.points) == np.count_nonzero(views.popularity == 0)
    assert shown.groups[:3] == ["film", "warm", "hearted"]
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for point in shown.points:
        if point.card is None:
            continue
        card = shown.cards[point.card]
        assert [cosine for _, cosine in card.by_vector] == sorted(
            (cosine for _, cosine in card.by_vector), reverse=True
        )
        rows = [int(title.rsplit(" ", 1)[1]) for title, _ in card.by_vector]
        best = {np.sort(directions[row] @ directions[rows].T)[-1] for row in rows}
        assert best
        assert bool(card.by_interactions) == (card.interactions >= 5)
    assert len(shown.cards[0].item.profile) <= 1200
    again = make_gallery(world, "Film")
    assert again.points == shown.points
    huge = build_gallery(
        np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32),
        views,
        lambda rows: {
            row: ItemDescription(title="x" * 10_000, text="y" * 100_000, prompt="z" * 100_000) for row in rows
        },
        lambda rows: ["t"] * len(rows),
    )
    assert sum(len(card.item.title + card.item.text + card.item.prompt) for card in huge.cards) < 36 * 4000


def test_the_plane_keeps_clusters_together():
    from sklearn.manifold import trustworthiness

    rng = np.random.default_rng(2)
    centres = 4 * rng.standard_normal((5, 20))
    kind = np.repeat(np.arange(5), 30)
    vectors = (centres[kind] + rng.standard_normal((150, 20))).astype(np.float32)
    placed = project_to_plane(vectors)
    near = np.argsort(((placed[:, None] - placed) ** 2).sum(axis=2), axis=1)[:, 1:11]
    assert (kind[near] == kind[:, None]).mean() > 0.95
    assert trustworthiness(vectors, placed, n_neighbors=10) > 0.85
    assert (project_to_plane(vectors) == placed).all()
    assert placed.min() == 0.0
    assert placed.max() == 1.0
    for few in (1, 2, 30):  # too few for t-SNE: principal axes
        assert np.isfinite(project_to_plane(vectors[:few])).all()
    assert np.isfinite(project_to_plane(np.ones((100, 4), np.float32))).all()  # all equal


def test_a_search_is_told(ablation):
    arm = ablation.arms[1]
    trials = [
        Trial(options={"backbone": {}, "fuser": {}}, value=0.1, seconds=1.0),
        Trial(options={"backbone": {"dim": 16}, "fuser": {"weight": 0.125}}, value=0.2, seconds=2.0),
        Trial(options={"backbone": {"dim": 32}, "fuser": {"weight": 9.0}}, value=None, seconds=2.0),
    ]
    backbone = {"loss": "softmax", "dim": 16, "layer_weights": [0, 0.5]}
    tuned = replace(arm, fuser_options={"tau": 0.5, "weight": 0.125}, backbone_options=backbone)
    found = replace(ablation, searched={arm.name: SearchResult(arm=tuned, trials=trials)})
    page = render_report(found)
    assert "Hyper-parameters" in page
    # As in the configuration, with the options that the arm had before.
    assert "options = { tau = 0.5, weight = 0.125 }" in unescape(page)
    assert 'backbone = { loss = "softmax", dim = 16, layer_weights = [0, 0.5] }' in unescape(page)
    assert found.to_json()["search"][arm.name]["validation"] == 0.2
    assert "Hyper-parameters" not in render_report(ablation)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_smallest_experiments_can_be_reported(ablate, toys, seeds):
    page = render_report(ablate(arms=toys["arms"][:1], seeds=seeds, cold=False, metrics=["hit@3"]))
    assert "nothing to judge" in page
    page = render_report(ablate(arms=toys["arms"][:2], seeds=seeds, metrics=["mrr@3"]))
    assert "MRR@3" in page
    assert "Is it the meaning?" not in page


def test_the_csv_has_every_number(ablation):
    rows = list(csv.DictReader(render_csv(ablation).splitlines()))
    cold = [float(r["value"]) for r in rows if (r["panel"], r["arm"], r["metric"]) == ("cold", "beside", "ndcg@10")]
    assert cold == ablation.findings["cold"].per_seed["beside"]["ndcg@10"]
    looks = [float(r["value"]) for r in rows if (r["panel"], r["arm"], r["metric"]) == ("all", "beside", "gini@20")]
    assert looks == [run.beyond_accuracy["gini"] for run in ablation.runs if run.arm == "beside"]
    assert "Gini@20" in render_report(ablation)
    arms = {"none", "beside", "text", "placebo"}
    content = {f"{kind} ({inputs})" for kind in ("mean vector", "ridge") for inputs in ("profile", "text")}
    assert {r["arm"] for r in rows} - {"als"} == arms | content | {"popularity", "ease"}
    assert {r["arm"] for r in rows if r["panel"] == "all"} - {"als"} == arms | {"popularity", "ease"}


def test_files_are_written_whole(ablation, tmp_path):
    path = write_report(tmp_path / "deep" / "report.html", ablation)
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.csv", "report.html", "report.json"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(EvaluationError, match="cannot write"):
        write_report(blocked / "report.html", ablation)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_scrolling_sideways(ablation, world, tmp_path, width):
    """Render the page in a frame of this width, and measure it from outside, where scripts may run."""
    page = render_report(ablation, title="Does it help?", sections=sections(), gallery=make_gallery(world, "A film"))
    assert len(page) < 1_000_000
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        f'<iframe id="f" src="report.html#profile-2-all" style="width:{width}px;height:900px"></iframe><pre id="o"></pre><script>'
        "f.onload=()=>{const d=f.contentDocument;o.textContent=[d.documentElement.scrollWidth,d.documentElement.clientWidth,"
        'd.querySelectorAll("svg").length,[...d.querySelectorAll("section > :not(details) svg")].every('
        's=>s.getBoundingClientRect().height>60),d.querySelectorAll(".dot").length,'
        '[...d.querySelectorAll(".dot")].every(s=>{const r=s.getBoundingClientRect();return r.width>4&&r.left>=0&&'
        "r.right<=d.documentElement.clientWidth}),d.querySelectorAll('details[open].profile').length,"
        "d.querySelector('#profile-2').open]"
        ".join()}</script>",
        encoding="utf-8",
    )
    shown = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=3000",
            "--dump-dom",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    scroll, client, plots, tall, dots, inside, opened, right = shown[
        shown.index('<pre id="o">') + 12 : shown.index("</pre>")
    ].split(",")
    assert int(scroll) <= int(client)
    assert int(plots) == page.count("<svg")
    assert tall == inside == right == "true"
    assert int(opened) == 1  # the link of a dot opens its profile
    assert int(dots) == 80
