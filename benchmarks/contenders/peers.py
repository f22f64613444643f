"""What one would pick instead, each with one API process and one worker process, and 10 tasks at once."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.completion import make_results_file
from benchmarks.contenders.contender import Command, Contender, Facts, Place
from benchmarks.environments import Environments

_APPS = "benchmarks.contenders.apps"
_UVICORN = "uvicorn --host 127.0.0.1 --loop uvloop --http httptools --workers 1 --log-level warning --no-access-log"
_NO_ROW = "nothing but the message"


def celery(environments: Environments, synchronous: str) -> Contender:
    """Celery with its default pool."""
    return _peer(
        "celery",
        "FastAPI + Celery",
        Facts(
            api="uvicorn, uvloop, httptools; `def` endpoint",
            worker="prefork, 10 processes, acks late, prefetch 10",
            before_202=_NO_ROW,
            message="persistent, confirmed",
            queue="quorum",
            result=_kept("sqlite3", synchronous),
        ),
        (environments, synchronous),
        f"celery -A {_APPS}.celery_app:celery worker --loglevel WARNING",
    )


def taskiq(environments: Environments, synchronous: str) -> Contender:
    """The broker of taskiq-aio-pika, under taskiq."""
    return _peer(
        "taskiq",
        "FastAPI + taskiq-aio-pika",
        Facts(
            api="uvicorn, uvloop, httptools",
            worker="asyncio, uvloop, prefetch 10",
            before_202=_NO_ROW,
            message="persistent, confirmed",
            queue="quorum",
            result=_kept("aiosqlite", synchronous),
        ),
        (environments, synchronous),
        f"taskiq worker {_APPS}.taskiq_app:broker --workers 1 --max-async-tasks 10 --log-level WARNING",
    )


def faststream(environments: Environments, synchronous: str) -> Contender:
    """FastStream with its RabbitMQ broker."""
    return _peer(
        "faststream",
        "FastAPI + FastStream",
        Facts(
            api="uvicorn, uvloop, httptools",
            worker="asyncio, uvloop, prefetch 10",
            before_202=_NO_ROW,
            message="persistent, confirmed",
            queue="quorum",
            result=_kept("aiosqlite", synchronous),
        ),
        (environments, synchronous),
        f"faststream run {_APPS}.faststream_app:worker --log-level warning",
    )


def dramatiq(environments: Environments, synchronous: str) -> Contender:
    """Dramatiq with threads, its default; its actors are plain functions here, so asyncio would gain nothing."""
    return _peer(
        "dramatiq",
        "FastAPI + dramatiq",
        Facts(
            api="uvicorn, uvloop, httptools; `def` endpoint",
            worker="1 process × 10 threads, prefetch 10",
            before_202=_NO_ROW,
            message="persistent, confirmed",
            queue="classic (it declares no other)",
            result=_kept("sqlite3", synchronous),
        ),
        (environments, synchronous),
        f"dramatiq {_APPS}.dramatiq_app --processes 1 --threads 10",
    )


def naive(environments: Environments, synchronous: str) -> Contender:
    """A port of the tutorial that keeps none of our promises: what the guarantees cost."""

    def run(module: str) -> Callable[[Place], Command]:
        return lambda place: Command([environments.ours, "-m", f"{_APPS}.{module}"], _environment(place, synchronous))

    facts = Facts(
        api="aiohttp, uvloop",
        worker="aio-pika, uvloop, prefetch 10",
        before_202=_NO_ROW,
        message="persistent, confirmed",
        queue="quorum",
        result=_kept("aiosqlite", synchronous),
    )
    api, worker = run("naive_api"), run("naive_worker")
    return Contender("naive", "naive aiohttp + aio-pika", "baseline", "peers", facts, _prepare, api, worker)


def _peer(name: str, title: str, facts: Facts, where: tuple[Environments, str], worker_command: str) -> Contender:
    environments, synchronous = where
    python = [environments.peers, "-m"]

    def api(place: Place) -> Command:
        app = f"{_APPS}.{name}_app:app"
        return Command([*python, *_UVICORN.split(), "--port", str(place.port), app], _environment(place, synchronous))

    def worker(place: Place) -> Command:
        return Command([*python, *worker_command.split()], _environment(place, synchronous))

    return Contender(name, title, "peer", "peers", facts, _prepare, api, worker)


def _prepare(place: Place) -> None:
    make_results_file(place.database)


def _environment(place: Place, synchronous: str) -> dict[str, str]:
    return {
        "BENCH_BROKER_URL": place.broker_url,
        "BENCH_PORT": str(place.port),
        "BENCH_RESULTS": str(place.database),
        "BENCH_SYNCHRONOUS": synchronous,
        "PYTHONPATH": str(Path.cwd()),
        "dramatiq_queue_prefetch": "10",
    }


def _kept(how: str, synchronous: str) -> str:
    return f"one row at the end, {how}, WAL, {synchronous}"
