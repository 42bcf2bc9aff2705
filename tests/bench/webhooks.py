"""How many deliveries to webhooks are made in a second."""

import asyncio
import json
import time
from contextlib import AsyncExitStack

from tests.bench.stack import Stack
from tests.until import until
from tests.webhooks.receiver import hook, receiving

RECEIVERS = 4
VERSIONS = 20
ROUNDS = 25
SECONDS = 300.0


async def deliveries(stack: Stack) -> None:
    """Deliveries that one process signs and sends to receivers on this machine, which take a part of its processors."""
    seqs = [(await stack.user.publish(stack.name("sent"), f"{number}.0.0"))["seq"] for number in range(VERSIONS)]
    async with AsyncExitStack() as opened:
        receivers = [await opened.enter_async_context(receiving()) for _ in range(RECEIVERS)]
        hooks = [
            await hook(stack.user, each.url(), {"package": stack.name("sent")}, events=["version.published"])
            for each in receivers
        ]
        wanted = {"from_seq": seqs[0], "to_seq": seqs[-1]}
        began = time.perf_counter()
        for _ in range(ROUNDS):
            calls = [stack.user.call("POST", f"/webhooks/{each['id']}/redeliver", json=wanted) for each in hooks]
            await asyncio.gather(*calls)
        for each in receivers:
            await until(lambda receiver=each: len(receiver.received) >= VERSIONS * ROUNDS, seconds=SECONDS)
        number = RECEIVERS * VERSIONS * ROUNDS
        rate = number / (time.perf_counter() - began)
        line = {"figure": "webhooks, deliveries", "unit": "deliveries/s", "deliveries": number, "ours": round(rate, 1)}
        print(json.dumps(line), flush=True)
