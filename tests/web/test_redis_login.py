"""Rate limits in a Redis that requires a user name and a password."""

import coredis
import limits

from registry.web.limits import RateLimiter
from registry.web.route import Limit
from tests.servers import Redis

LIMIT = Limit("read", "5/minute")


async def test_a_percent_encoded_password_is_decoded(redis: Redis):
    client = coredis.Redis.from_url(redis.url)
    await client.acl_setuser("ada", "on", ">p@ss/1", "allkeys", "allcommands")
    address = redis.url.replace("redis://", "redis://ada:p%40ss%2F1@")
    limiter = RateLimiter({"read": limits.parse(LIMIT.default)}, address)
    await limiter.hit(LIMIT, "somebody")
    assert any(b"somebody" in key for key in await client.keys("*"))
