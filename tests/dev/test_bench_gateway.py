"""The benchmark of the gateway: its loads, its mock engine and its tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from glm_dev.bench import load, mock
from glm_dev.bench.gateway import cpu_table, memory_table
from glm_dev.bench.load import Case
from glm_dev.bench.proxies import BenchError

Engine = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CASE = Case("burst", "stream", load.stream(3, 0), 2, 5, bar=0.25)
ONE_WRITE = Case("one write", "stream", load.stream(3, None), 1, 2)


async def _ask(engine: Engine, case: Case) -> None:
    async with await asyncio.start_server(engine, "127.0.0.1", 0) as server:
        await load.run(case, server.sockets[0].getsockname()[1])


def test_the_load_asks_as_often_as_its_units_say() -> None:
    asked = []

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(CASE.body):
                asked.append(1)
                writer.write(mock.UNARY)

    asyncio.run(_ask(engine, CASE))
    assert len(asked) == CASE.units == 10


@pytest.mark.parametrize("case", [CASE, ONE_WRITE, Case("upload", "request", load.image(1), 1, 2)])
def test_the_mock_engine_answers_every_load(case: Case) -> None:
    with mock.engine() as port:
        asyncio.run(load.run(case, port))


def test_a_request_that_fails_ends_the_measurement() -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            writer.write(mock.NOT_FOUND)

    with pytest.raises(BenchError, match="404 not found"):
        asyncio.run(_ask(engine, Case("small", "request", load.warm_up().body, 1, 1)))


def test_ratios_compare_neighbours_in_time() -> None:
    # The second repeat ran on a machine that was four times as slow: it changes no ratio.
    micros = {("burst", "ours"): [10.0, 40.0], ("burst", "theirs"): [20.0, 80.0]}
    row = cpu_table([CASE], ["ours", "theirs"], micros).splitlines()[-1]
    assert row == (
        "| burst, per stream | 25.0 (10.0-40.0) | 50.0 (20.0-80.0) | 0.50 (0.50-0.50) | 0.25 |"
    )


def test_memory_has_a_line_for_each_case() -> None:
    table = memory_table(["ours", "theirs"], {("at rest", "ours"): [9], ("at rest", "theirs"): [8]})
    assert table.splitlines()[2:] == ["| at rest | 9 (9-9) | 8 (8-8) |"]
