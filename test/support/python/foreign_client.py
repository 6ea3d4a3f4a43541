"""python-socketio as a client: does one of everything, prints what it saw as JSON. Arguments: URL, transport, path."""

import asyncio
import contextlib
import json
import sys
from typing import Any

import socketio


async def main(url: str, transport: str, path: str) -> None:
    seen: dict[str, Any] = {"events": []}
    client = socketio.AsyncClient(reconnection=False)
    done = asyncio.Event()

    for namespace in ("/", "/chat"):

        @client.on("*", namespace=namespace)
        async def any_event(event: str, *arguments: Any, namespace: str = namespace) -> Any:
            seen["events"].append([namespace, event])
            if event == "question":
                return {"heard": arguments[0]}
            if event == "answered":
                seen["answered"] = arguments[0]
                done.set()
            return None

    await client.connect(
        url,
        transports=[transport],
        socketio_path=path,
        namespaces=["/", "/chat"],
        auth={"key": "value"},
        wait_timeout=10,
    )
    seen["transport"] = client.transport()
    seen["echo"] = await client.call("echo", ("a", {"b": 2}), namespace="/chat")
    seen["reverse"] = list(await client.call("reverse", b"\x00\x01\xff", namespace="/"))
    await client.emit("ask", {"q": 1}, namespace="/chat")
    await asyncio.wait_for(done.wait(), 10)

    locked = socketio.AsyncClient(reconnection=False)

    @locked.on("connect_error", namespace="/locked")
    async def refused(data: Any) -> None:
        seen["refused"] = data

    with contextlib.suppress(socketio.exceptions.ConnectionError):
        await locked.connect(url, transports=[transport], socketio_path=path, namespaces=["/locked"], wait_timeout=10)
    await locked.disconnect()
    await client.disconnect()
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:4]))
