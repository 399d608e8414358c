"""Test that an error of the configuration names the innermost table and the key."""

from __future__ import annotations

import pytest

from enhancer.config import load_settings
from enhancer.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[data.columns]\nitem_idd = "x"', r"\[data.columns\] unknown key 'item_idd'; did you mean 'item_id'"),
        ("[dta]\nx = 1", "unknown key 'dta'; did you mean 'data'"),
        ("data = 3", r"'data' must be a table, not 3; write \[data\]"),
        ("[data]\ncolumns = 3", r"'data.columns' must be a table, not 3; write \[data.columns\]"),
        ("[evaluation.arm]\nbig = 3", "'evaluation.arm.big' must be a table, not 3"),
        ('[evaluation.arm.big]\nfser = "x"', r"\[evaluation.arm.big\] unknown key 'fser'; did you mean 'fuser'"),
        ('[prompts.item]\nsource = "pool"', r"\[prompts\] item.source: 'pool' is for users"),
        (
            '[prompts.user]\ntemplate = "user/v1"\n[embedder]\ninput = ["text"]',
            r"enhancer.toml: prompts.user.source is 'llm', but no input is 'profile'",
        ),
        ("[evaluation.search]\ntrial = 3", r"\[evaluation.search\] unknown key 'trial'; did you mean 'trials'"),
        ("[evaluation.search.backbone.dim]\nlow = 3", r"\[evaluation.search.backbone.dim\] give low and high"),
        ("[llm.price]\ninput = 1", r"\[llm.price\] output: field required"),
        ('[observers.mlflow]\nenabled = "perhaps"', r"\[observers.mlflow\] enabled: input should be a valid boolean"),
    ],
)
def test_the_innermost_table_is_named(tmp_path, text, message):
    (tmp_path / "enhancer.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_settings(tmp_path / "enhancer.toml", environ={})


def test_the_first_error_of_the_file_is_reported_and_a_misspelt_table_before_it(tmp_path):
    path = tmp_path / "enhancer.toml"
    path.write_text("[evaluation]\nseeds = 0\n[data]\nmax_text = 0\n")
    with pytest.raises(ConfigError, match="seeds"):
        load_settings(path, environ={})
    path.write_text("[evaluation]\nseeds = 0\n[dta]\nitems = 1\n")
    with pytest.raises(ConfigError, match="dta"):
        load_settings(path, environ={})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", -1, r"seed: input should be greater than or equal to 0, not -1$"),
        ("seed", 2**40, r"seed: input should be less than or equal to 2147483647, not 1099511627776$"),
        (
            "evaluation.split_seed",
            -1,
            r"\[evaluation\] split_seed: input should be greater than or equal to 0, not -1$",
        ),
        (
            "evaluation.workers",
            100_000,
            r"\[evaluation\] workers: input should be less than or equal to 1024, not 100000$",
        ),
        ("evaluation.seeds", 10**9, r"\[evaluation\] seeds: input should be less than or equal to 1000"),
        ("llm.concurrency", 10**9, r"\[llm\] concurrency: input should be less than or equal to 10000"),
        ("embedder.concurrency", 10**9, r"\[embedder\] concurrency: input should be less than or equal to 10000"),
    ],
)
def test_a_number_that_no_machine_can_mean_is_refused(tmp_path, key, value, words):
    path = tmp_path / "enhancer.toml"
    path.write_text("")
    with pytest.raises(ConfigError, match=words):
        load_settings(path, overrides=[f"{key}={value}"], environ={})
