"""The baselines over HTTP: aiohttp with nothing but a handler, as `python -m tests.bench.bare PORT FOLDER`.

GET /bytes/NAME answers the bytes of FOLDER/NAME from memory as JSON, or as HTML if NAME ends so. GET /file/NAME answers
the file itself.
"""

import sys
from pathlib import Path

import uvloop
from aiohttp import web


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    contents: dict[str, bytes] = {}

    async def in_memory(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in contents:
            contents[name] = (folder / name).read_bytes()
        kind = "text/html" if name.endswith(".html") else "application/json"
        return web.Response(body=contents[name], content_type=kind, charset="utf-8")

    async def file(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(folder / request.match_info["name"])

    app = web.Application()
    app.router.add_get("/bytes/{name}", in_memory)
    app.router.add_get("/file/{name}", file)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
