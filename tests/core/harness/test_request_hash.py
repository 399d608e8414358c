"""The ledger's hash of a request, which two versions of enhancer must agree on."""

from __future__ import annotations

import hashlib

from hypothesis import given, strategies as st

from enhancer.contracts import Message
from enhancer.harness.calls.cache_key import request_hash

MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.sampled_from(["", "a", "ü\0", "\ud800"])),
    max_size=4,
)


@given(MESSAGES)
def test_it_is_one_hash_over_all_messages(messages):
    whole = "".join(f"{message.role}\0{message.content}\0" for message in messages)
    expected = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    assert request_hash(messages) == request_hash(messages) == expected
