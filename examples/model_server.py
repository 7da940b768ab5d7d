"""Ask a model behind an HTTP server: several requests at the same time, tried again when it is busy.

    pip install 'iceblink[examples]' && python examples/model_server.py

An `async def` method is awaited, eight calls at the same time. The server answers every fifth request with "busy",
and refuses what is no image: such rows are found by halving the batch, and end in a table of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import Future
from functools import partial

import aiohttp
import numpy as np
import pyarrow as pa
from aiohttp import web
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import iceblink as ib
from iceblink import _

digits = load_digits()


class Server:
    """Serves a classifier of digits at ``POST /guess``, from a thread with a loop of its own."""

    def __init__(self) -> None:
        self.model = LogisticRegression(max_iter=500).fit(digits.data[::2], digits.target[::2])
        self.requests = itertools.count(1)
        self.busy = self.now = self.most = 0
        self.started: Future[str] = Future()
        self.thread = threading.Thread(target=asyncio.run, args=(self.serve(),))

    def __enter__(self) -> Server:
        self.thread.start()
        self.url = self.started.result()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join()

    async def serve(self) -> None:
        self.loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.add_routes([web.post("/guess", self.guess)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.started.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}/guess")
        await self.ended.wait()
        await runner.cleanup()

    async def guess(self, request: web.Request) -> web.Response:
        if next(self.requests) % 5 == 0:
            self.busy += 1
            return web.Response(status=503)
        images = await request.json()
        if any(len(image) != 64 for image in images):
            return web.Response(status=400, text="an image has 64 pixels")
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)  # a model that takes its time
        self.now -= 1
        return web.json_response(self.model.predict(np.array(images)).tolist())


class Busy(Exception):
    """The server wants to be asked again."""


class Ask:
    """Sends a batch of images to the server. Built inside the worker's loop, which the session needs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession()

    async def __call__(self, batch: pa.RecordBatch) -> dict:
        async with self.session.post(self.url, json=batch["pixels"].to_pylist()) as answer:
            if answer.status == 503:
                raise Busy
            if answer.status != 200:
                raise ValueError(await answer.text())
            return {"id": batch["id"], "digit": batch["digit"], "guess": pa.array(await answer.json())}

    async def close(self) -> None:
        await self.session.close()


lake = ib.connect()  # ./lakehouse
pixels = digits.data[1::2].tolist()
pixels[333] = [0.0] * 10  # no image
lake.write("served.images", {"id": range(len(pixels)), "digit": digits.target[1::2], "pixels": pixels}, "replace")

with Server() as server:
    guesses = lake.table("served.images").map_batches(
        partial(Ask, server.url),
        schema={"id": "long", "digit": "long", "guess": "long"},
        batch_size=32,
        workers=8,  # of an async function: calls awaited at the same time
        retry_on=(Busy, aiohttp.ClientConnectionError),
        retries=5,
        timeout_s=30,
        on_error="quarantine",
        quarantine="served.refused",
    )
    guesses.write("served.guesses", "replace")

lake.table("served.guesses").agg(images=_.count(), right=(_.digit == _.guess).mean().round(3)).show()
lake.table("served.refused").select("id", "iceblink_error").show()
print(f"the server was busy {server.busy} times, and worked on {server.most} requests at the same time")
