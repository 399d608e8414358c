"""Damaged artifacts are refused by their content, by a ranker and by a service that has a sound one."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import os
import stat

import numpy as np
import pytest
from hypothesis import given, strategies as st
from safetensors.numpy import load_file, save_file
from serving_process import write

from enhancer.contracts import Factors
from enhancer.errors import ArtifactError
from enhancer.serving import LiveRanker, Ranker, write_artifact
from enhancer.serving.artifact_checks import _increasing, all_finite
from enhancer.serving.ids import IdTable, pack_ids


def rewrite(folder, **changes):
    """Change tensors as a buggy writer would: size and digest in the manifest are right."""
    manifest = json.loads((folder / "manifest.json").read_text())
    path = folder / manifest["tensors"]["file"]
    tensors = load_file(path)
    for name, change in changes.items():
        name = name.replace("__", ".")
        tensors[name] = np.ascontiguousarray(change(tensors[name]))
    save_file(tensors, path)
    content = path.read_bytes()
    manifest["tensors"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(place, value):
    def change(tensor):
        tensor = tensor.copy()
        tensor[place] = value
        return tensor

    return change


DAMAGE = {
    "NaN factors of items": ({"items": put((7, 2), np.nan)}, "row 7 of tensor 'items' is not finite"),
    "infinite factors of users": ({"users": put((3, 0), np.inf)}, "row 3 of tensor 'users' is not finite"),
    "double factors": ({"users": lambda t: t.astype("f8")}, "cannot be read"),
    "ids out of order": ({"user_ids__order": lambda t: t[::-1]}, "'user_ids' are out of order"),
    "an id twice": ({"item_ids__bytes": put(slice(2, 4), list(b"i0"))}, "'item_ids' are out of order or not unique"),
    "an order without end": ({"item_ids__order": put(0, 50)}, "'item_ids' names rows that do not exist"),
    "a negative order": ({"item_ids__order": put(0, -1)}, "'item_ids' names rows that do not exist"),
    "offsets out of order": ({"item_ids__offsets": put(3, 900)}, "offsets of 'item_ids' are out of order"),
    "negative offsets": ({"titles__offsets": put(1, -4)}, "offsets of 'titles' are out of order"),
    "ids that are no text": ({"user_ids__bytes": put(0, 255)}, "a string of 'user_ids' is not UTF-8"),
    "a title cut in a character": ({"titles__offsets": put(2, 7)}, "a string of 'titles' is not UTF-8"),
    "seen items that are none": ({"seen__items": put(0, 50)}, "seen items name rows that do not exist"),
    "offsets of seen items": ({"seen__starts": put(1, 10**12)}, "offsets of seen items are out of order"),
    "fewer users than ids": ({"users": lambda t: t[:-1]}, "inconsistent shapes"),
    "flat factors": ({"items": lambda t: t.reshape(-1)}, "inconsistent shapes"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_tensors_are_refused(tmp_path, name):
    changes, words = DAMAGE[name]
    folder = write(tmp_path / "artifact")
    rewrite(folder, **changes)
    for verify in (True, False):
        with pytest.raises(ArtifactError, match=words):
            Ranker.load(folder, verify=verify)


def edit(folder, **changes):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tensors"] |= changes
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": None}, "does not give the sha256"),
        ({"sha256": "abc"}, "does not give the sha256"),
        ({"sha256": "0" * 64}, "sha256 differs"),
        ({"bytes": "many"}, "does not give the size"),
        ({"file": 3}, "does not name a tensors file"),
    ],
)
def test_a_manifest_that_does_not_describe_its_tensors_is_refused(tmp_path, changes, words):
    folder = write(tmp_path / "artifact")
    edit(folder, **changes)
    with pytest.raises(ArtifactError, match=words):
        Ranker.load(folder)


def test_shares_of_the_manifest_are_checked(tmp_path):
    folder = write(tmp_path / "artifact")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"serving": {"explore": 7}}))
    with pytest.raises(ArtifactError, match="explore must be a share"):
        Ranker.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
@pytest.mark.parametrize("which", ["manifest", "tensors"])
def test_a_pipe_in_place_of_a_file_does_not_block(tmp_path, which):
    folder = write(tmp_path / "artifact")
    path = folder / "manifest.json" if which == "manifest" else next(folder.glob("*.safetensors"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="not a regular file"):
        Ranker.load(folder)


def test_files_respect_the_umask(tmp_path):
    """Also where the library that writes tensors makes files for their owner alone."""
    for mask in (0o027, 0o002):
        old = os.umask(mask)
        try:
            folder = write(tmp_path / f"artifact-{mask:o}")
        finally:
            os.umask(old)
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~mask}


@given(st.lists(st.text(max_size=20) | st.sampled_from(["", "a", "a\0", "a\0\0", "x" * 8, "x" * 16, "x" * 17, "é"])))
def test_the_order_of_strings_is_that_of_their_bytes(strings):
    raw = [text.encode("utf-8", "surrogatepass") for text in strings]
    offsets = np.cumsum([0, *map(len, raw)])
    content = np.frombuffer(b"".join(raw), np.uint8)
    expected = all(a < b for a, b in itertools.pairwise(raw))
    assert _increasing(content, offsets[:-1], np.diff(offsets)) == expected
    distinct = sorted(set(raw))
    offsets = np.cumsum([0, *map(len, distinct)])
    assert _increasing(np.frombuffer(b"".join(distinct), np.uint8), offsets[:-1], np.diff(offsets))


def test_large_numbers_are_finite_and_only_nan_and_infinity_are_not():
    numbers = np.full((3, 5), 3e38, np.float32)
    assert all_finite(numbers)
    assert all_finite(numbers[:0])
    for bad in (np.nan, np.inf, -np.inf):
        assert not all_finite(put((2, 4), bad)(numbers))


def shared(one, other):
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@given(st.lists(st.text(max_size=4), unique=True, max_size=30), st.text(max_size=4))
def test_the_id_beside_shares_the_longest_beginning(ids, other):
    found = IdTable("t", pack_ids(ids, "t")).beside(other)
    longest = max((shared(one, other) for one in ids), default=0)
    if longest and 2 * longest >= len(other):
        assert shared(found, other) == longest
    else:
        assert found is None


# --- reloading ----------------------------------------------------------------------------------------------------


def test_a_damaged_artifact_is_tried_once_and_again_when_a_file_changes(tmp_path, caplog):
    folder = write(tmp_path / "artifact")
    tried = []
    live = LiveRanker(folder, prepare=lambda _: tried.append(1))
    old, before = live.ranker, live.ranker.recommend(["u1"], 5)
    assert not live.has_changed()
    write(folder, -1)
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    rewrite(folder, items=put((0, 0), np.nan))
    assert live.has_changed()
    with caplog.at_level(logging.ERROR, "enhancer.serving"):
        assert not live.reload(only_if_new=True)
        for _ in range(3):
            assert not live.has_changed()
            assert not live.reload(only_if_new=True)
        assert not live.reload()  # asked for by SIGHUP: tried again, not told again
    assert [record.getMessage().count("'items' is not finite") for record in caplog.records] == [1]
    assert caplog.records[0].exc_info is None
    assert live.ranker is old
    assert live.ranker.recommend(["u1"], 5) == before
    for name, content in sound.items():
        (folder / name).write_bytes(content)
    assert live.has_changed()
    assert live.reload(only_if_new=True)
    assert (live.error, live.reloads, len(tried)) == (None, 1, 2)


def test_a_bug_while_loading_keeps_the_old_artifact(tmp_path, caplog):
    folder = write(tmp_path / "artifact")
    failing = []

    def prepare(_):
        if failing:
            raise ZeroDivisionError("no")

    live = LiveRanker(folder, prepare=prepare)
    failing.append(1)
    write(folder, -1)
    assert not live.reload()
    assert "ZeroDivisionError while loading" in str(live.error)
    assert caplog.records[0].exc_info is not None
    assert not live.has_changed()


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the watch tells nobody
            await asyncio.sleep(0.01)


async def test_the_watch_survives_and_takes_the_next_sound_artifact(tmp_path):
    folder = write(tmp_path / "artifact")
    live = LiveRanker(folder)
    watching = asyncio.create_task(live.watch(0.01))
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json") if hasattr(os, "mkfifo") else (folder / "manifest.json").mkdir()
    await until(lambda: live.error is not None)
    assert "not a regular file" in str(live.error)
    (folder / "manifest.json").unlink()
    write(folder, -1)
    await until(lambda: live.error is None)
    assert live.reloads == 1
    watching.cancel()


ALIASES = {
    "a row that is none": ({"item_ids__aliases__rows": put(0, 50)}, "spellings in 'item_ids' name rows"),
    "a negative row": ({"item_ids__aliases__rows": put(0, -1)}, "spellings in 'item_ids' name rows"),
    "out of order": ({"user_ids__aliases__order": lambda t: t[::-1]}, "'user_ids.aliases' are out of order"),
}


def spelt(folder):
    """Write an artifact of three users and items, two of each spelt otherwise."""
    numbers = np.arange(3, dtype=np.int32)
    return write_artifact(
        folder,
        factors=Factors(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)),
        user_ids=["u1", "u2", "u3"],
        item_ids=["1", "2", "3"],
        train_users=numbers,
        train_items=numbers,
        manifest={},
        user_aliases={"U2": "u2", "U3": "u3", "u1": "u2", "U9": "u9"},
        item_aliases={"3.0": "3", "2.0": "2"},
    )


def test_other_spellings_are_looked_up(tmp_path):
    ranker = Ranker.load(spelt(tmp_path / "artifact"))
    assert [one.items for one in ranker.recommend(["U2", "U3", "u1"])] == [
        one.items for one in ranker.recommend(["u2", "u3", "u1"])
    ]
    assert ranker.score("U3", ["3.0", "2.0", "1"]).tolist() == [1, 0, 0]
    assert not ranker.knows_user("U9")
    assert ranker.n_users == 3


@pytest.mark.parametrize("name", ALIASES)
def test_damaged_spellings_are_refused(tmp_path, name):
    changes, words = ALIASES[name]
    folder = spelt(tmp_path / "artifact")
    rewrite(folder, **changes)
    with pytest.raises(ArtifactError, match=words):
        Ranker.load(folder)
