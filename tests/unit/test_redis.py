"""Addresses of Redis: what may be shown of them, and what is said of one that is none."""

import pytest

from services.runtime.redis import RedisAway, connected, ping, shown


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://me:hush@there:6379/0", "rediss://there:6379/0"),
        ("redis://:hush@there/0?password=hush", "redis://there/0"),
        ("unix:///run/redis.sock", "unix:/run/redis.sock"),
        ("redis://:hu/sh@there:6379/0", "the address in STEWARD_REDIS"),
        ("redis://:hu#sh@there:6379/0", "the address in STEWARD_REDIS"),
        ("redis://:hu?sh@there:6379/0", "the address in STEWARD_REDIS"),
        ("redis://:hush@there:port", "the address in STEWARD_REDIS"),
    ],
)
def test_no_password_is_shown_also_where_it_cannot_be_told_apart(url: str, text: str) -> None:
    assert shown(url) == text


@pytest.mark.parametrize("url", ["redis://:hu/sh@there:6379/0", "redis://:hush@there:port"])
async def test_an_address_that_is_none_is_a_sentence_without_the_password(url: str) -> None:
    with pytest.raises(RedisAway) as asked:
        ping(url)
    with pytest.raises(RedisAway) as opened:
        async with connected(url):
            pass
    for refused in (asked, opened):
        assert "set STEWARD_REDIS" in str(refused.value)
        assert "hu" not in str(refused.value).replace("should", "")
