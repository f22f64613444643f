"""A TCP proxy between the services and RabbitMQ that does to their connections what a bad network does.

Runs in a container of its own, with the standard library alone. `LINKS` says which port stands for whom. An order is a
line to port 7000, `<link> <toxic>`, and is answered `done`. The toxics are those of github.com/Shopify/toxiproxy.
"""

import asyncio
import random
import socket
import struct
from contextlib import suppress
from typing import Final

RABBITMQ: Final = ("rabbitmq", 5672)
LINKS: Final = {"api": 5001, "worker": 5002}
ORDERS: Final = 7000
TOXICS: Final = ("none", "stall-up", "stall-down", "slow", "slice", "reset")
CHUNK: Final = 65_536
RESET_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Link:
    """The way of one service to RabbitMQ. Bytes that are stalled arrive when the toxic is gone, as with TCP itself."""

    def __init__(self) -> None:
        self._toxic = "none"
        self._flows = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._writers: set[asyncio.StreamWriter] = set()
        self.suffer("none")

    def suffer(self, toxic: str) -> None:
        """From now on, this toxic, one of TOXICS."""
        self._toxic = toxic
        for way, flow in self._flows.items():
            (flow.clear if toxic == f"stall-{way}" else flow.set)()
        if toxic == "reset":
            self._reset()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: goes on until either side ends it."""
        try:
            there, back = await asyncio.open_connection(*RABBITMQ)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._writers |= both
        ways = [
            asyncio.ensure_future(self._pump("up", reader, back)),
            asyncio.ensure_future(self._pump("down", there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._writers -= both
            for each in both:
                each.close()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flows[way].wait()
                await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._toxic == "slow":
            await asyncio.sleep(random.uniform(0.1, 0.5))
        if self._toxic == "reset" and random.random() < 0.02:
            self._reset()
        size = random.randint(1, 40) if self._toxic == "slice" else len(data)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            if size < len(data):
                await asyncio.sleep(0.0005)

    def _reset(self) -> None:
        """Ends every connection as a router does that has forgotten it."""
        for writer in self._writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
            writer.transport.abort()


async def main() -> None:
    """Serves until it is ended."""
    links = {name: Link() for name in LINKS}

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, toxic = (await reader.readline()).decode().split()
        links[name].suffer(TOXICS[TOXICS.index(toxic)])
        writer.write(b"done\n")
        writer.close()

    servers = [await asyncio.start_server(links[name].serve, port=port) for name, port in LINKS.items()]
    servers.append(await asyncio.start_server(obey, port=ORDERS))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
