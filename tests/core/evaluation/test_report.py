from __future__ import annotations

import csv
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from enhancer.errors import EvaluationError
from enhancer.evaluation.report import Lists, Section, Table, render_csv, render_report, write_report

HOSTILE = '<script>alert("1")</script><img src="http://evil.example/x" onerror=alert(1)>{{ 7 * 7 }}'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tags(HTMLParser):
    """Every element with its attributes, and whether all that opened closed."""

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
        Section(HOSTILE, HOSTILE, [Table([HOSTILE], [[HOSTILE, 3]], HOSTILE)]),
        Section(
            "Two users", blocks=[Lists({"liked": ["A film"], HOSTILE: ["B", HOSTILE]}, "User 1", frozenset({"B"}))]
        ),
    ]


@pytest.fixture(scope="module")
def page(ablation):
    return render_report(
        ablation,
        title=HOSTILE,
        facts={HOSTILE: HOSTILE, "rows": 100000},
        settings={"a": {"b": [1, 2], "c": None}},
        sections=sections(),
    )


def test_the_page_is_whole_and_asks_nobody_for_anything(page):
    tags = Tags(page)
    assert tags.open == []
    for tag, attributes in tags.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "img", "base", "form"}, tag
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "href", "style", "srcset"}]
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in tags.elements if t == "meta" and a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_outside_text_stays_text(page):
    tags = Tags(page)
    assert "".join(tags.data).count(HOSTILE) >= 8  # shown as written, evaluated nowhere
    assert "49" not in [text.strip() for text in tags.data]


def test_every_arm_panel_and_verdict_is_there(page, ablation):
    words = " ".join(" ".join(Tags(page).data).replace("\N{NO-BREAK SPACE}", " ").split())
    for arm in ablation.arms:
        assert arm.name in words
        assert arm.words in words
    for title in ("All items", "Head", "Middle", "Tail", "Cold items", "Cold among all", "Short history"):
        assert title in words
    for verdict in ablation.verdict.values():
        assert verdict.partition(": ")[2][1:] in words
    assert page.count("<svg") >= 3 * 3 + 3 + 2
    assert "NDCG@10" in words
    assert "Is it the meaning?" in words
    assert "nan" not in page.lower().split()
    assert "None" not in words.split()
    assert "0.0 minutes" not in words


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
    assert {r["arm"] for r in rows} - {"als"} == {"none", "beside", "text", "placebo", "popularity", "ease"}


def test_files_are_written_whole(ablation, tmp_path):
    path = write_report(tmp_path / "deep" / "report.html", ablation)
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.csv", "report.html"]
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(EvaluationError, match="cannot write"):
        write_report(blocked / "report.html", ablation)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to look at the page with")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_scrolling_sideways(ablation, tmp_path, width):
    """Rendered in a frame of that width; a probe outside the report's own policy measures it."""
    page = render_report(ablation, title="Does it help?", sections=sections())
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        f'<iframe id="f" src="report.html" style="width:{width}px;height:900px"></iframe><pre id="o"></pre><script>'
        "f.onload=()=>{const d=f.contentDocument;o.textContent=[d.documentElement.scrollWidth,d.documentElement.clientWidth,"
        'd.querySelectorAll("svg").length,[...d.querySelectorAll("svg")].every(s=>s.getBoundingClientRect().height>60)]'
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
    scroll, client, plots, tall = shown[shown.index('<pre id="o">') + 12 : shown.index("</pre>")].split(",")
    assert int(scroll) <= int(client)
    assert int(plots) == page.count("<svg")
    assert tall == "true"
