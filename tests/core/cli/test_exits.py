"""Tests of exit codes: 2 for wrong configuration, 1 for failures and for what does not exist yet."""

from __future__ import annotations

import pytest
from command_line import project_file
from generation import answer
from loopback import Script, fails, returns


@pytest.fixture
def project(tables, hashing, llm_server):
    llm_server.script = Script(default=returns(answer))

    def write(url=llm_server.url, more=""):
        (tables / "enhancer.toml").write_text(project_file(url, llm=f"max_attempts = 1\n{more}"))

    write()
    return write


@pytest.mark.parametrize(
    "command",
    [["plan"], ["similar", "1"], ["recommend", "1"], ["store", "stats"], ["store", "costs"], ["train"], ["ablate"]],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("setting", "hint"),
    [("embedder.dims=3", "did you mean 'dim'"), ("store.pth=x", "'path'"), ("backbone.epoch=3", "'epochs'")],
)
def test_unknown_options_of_any_plugin_are_refused_by_any_command(invoke, project, command, setting, hint):
    done = invoke(*command, "--set", setting)
    assert done.code == 2
    assert hint in done.err


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("evaluation.arm.mine.fusr='align'", r"[evaluation.arm.mine] unknown key 'fusr'; did you mean 'fuser'?"),
        ("evaluation.arm.mine.shuffle='x'", "[evaluation.arm.mine] shuffle: input should be a valid boolean"),
        ("evaluation.search.trails=3", "[evaluation.search] unknown key 'trails'; did you mean 'trials'?"),
        (
            "evaluation.search.backbone.dim.lo=3",
            "[evaluation.search.backbone.dim] unknown key 'lo'; did you mean 'low'?",
        ),
        ("evaluation.search.fuser.align.weight.hi=3", "[evaluation.search.fuser.align.weight] unknown key 'hi'"),
        ("prompts.item.sorce='text'", "[prompts.item] unknown key 'sorce'; did you mean 'source'?"),
        ("evaluation.arms=['none','alihn']", "[evaluation] arms: 'alihn' is neither a fuser nor defined in"),
        ("evaluation.arm.concat.fuser='alihn'", "[evaluation.arm.concat] unknown fuser 'alihn'; did you mean 'align'?"),
    ],
)
def test_a_slip_in_a_table_within_a_table_is_said_of_that_one(invoke, project, setting, says):
    done = invoke("ablate", "--set", setting)
    assert done.code == 2
    assert says in " ".join(done.err.replace("\n", "; ", 1).split())


def test_what_has_not_been_made_yet_is_exit_1_everywhere(invoke, project):
    for command in (["recommend", "1"], ["similar", "1"], ["train"], ["store", "get", "1"]):
        done = invoke(*command)
        assert done.code == 1, (command, done.err)
        assert "enhancer " in done.err, "the message must name the command that creates it"


@pytest.mark.parametrize("per_request", [1, 3])
def test_a_dead_server_fails_the_run_and_puts_nobody_in_quarantine(invoke, project, per_request, tables):
    (tables / "movies.csv").write_text("movieId,title\n1,Heat\n2,Alien\n3,Clue\n")
    project("http://127.0.0.1:9/v1", f"items_per_request = {per_request}")
    done = invoke("generate", "--yes", "--json")
    assert done.code == 1
    assert "the LLM cannot be reached: the connection to http://127.0.0.1:9/v1 failed" in done.err
    assert invoke("store", "quarantine").out == "nothing is in quarantine\n"
    project()
    done = invoke("generate", "--yes", "--json")
    assert (done.code, done.json()["generated"]) == (0, 3)


def test_a_server_that_fails_for_one_is_done_in_part(invoke, project, llm_server):
    llm_server.script.choose = lambda _, body: fails(500) if "Heat" in str(body) else None
    project(more="concurrency = 1")
    done = invoke("generate", "--yes", "--json")
    assert (done.code, done.json()["generated"], done.json()["quarantined"]) == (3, 5, 1)


def test_the_doctor_names_who_answers(invoke, project):
    replay = invoke("doctor", "--set", "llm.use=replay", "--set", "llm.api_base=none", "--json")
    (line,) = [each for each in replay.json() if each["name"] == "llm"]
    assert "gpt" not in line["detail"]


def test_a_misspelt_name_in_the_allow_list_is_told(invoke, project, monkeypatch):
    monkeypatch.setenv("ENHANCER_PLUGINS", "enhancer, enhancer-exampel-here")
    said = invoke("plugins").err
    assert "ENHANCER_PLUGINS lists 'enhancer-exampel-here'" in said
    assert "did you mean 'enhancer-example-here'" in said
    monkeypatch.setenv("ENHANCER_PLUGINS", "enhancer,,Enhancer_Example_Here")
    assert "lists" not in invoke("plugins").err


def test_a_run_in_vain_is_exit_1_and_goes_on_if_told_so(invoke, project, tables, llm_server):
    rows = "".join(f"{n},film {n},Comedy,\n" for n in range(1, 101))
    (tables / "movies.csv").write_text(f"movieId,title,genre,url\n{rows}")
    llm_server.script = Script(default=returns("I cannot say."))
    done = invoke("generate", "--yes")
    assert done.code == 1
    assert "no JSON object" in done.err
    assert "--keep-going" in done.err
    assert llm_server.count < 100, "of three hundred"
    assert invoke("generate", "--yes", "--keep-going").code == 3
