"""The users that `services/rabbitmq/users.py` makes can do their work with RabbitMQ, and nothing beside it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ProbableAuthenticationError
from aiormq.exceptions import ChannelAccessRefused

from services.rabbitmq.users import USERS, write_users
from taskqueue import events
from taskqueue.broker.amqp.session import Reports
from taskqueue.broker.connect import open_broker
from taskqueue.broker.contract import DEAD_LETTER_QUEUE, QUEUE, Broker
from taskqueue.errors import BrokerUnavailable
from tests.conftest import StartService
from tests.support.eventually import eventually
from tests.support.frozen_clock import FrozenClock
from tests.support.http import http_client
from tests.support.inbox import Inbox
from tests.support.processes import Service
from tests.support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.docker

RECOVERY_SECONDS = 30.0
FOREIGN = "of somebody else"

Attempt = Callable[[AbstractChannel], Awaitable[object]]


class Users:
    """The users of a running RabbitMQ, by name."""

    def __init__(self, rabbitmq: RabbitMQ, folder: Path) -> None:
        self._rabbitmq = rabbitmq
        self._folder = folder
        for name in ("api", "worker", "rabbitmq"):
            (folder / name).mkdir()
        self.make(renew=False)

    def make(self, *, renew: bool) -> None:
        """Writes them and has RabbitMQ take them over."""
        write_users(self._folder, renew=renew)
        self._rabbitmq.import_definitions((self._folder / "rabbitmq" / "definitions.json").read_text())

    def password_file(self, name: str) -> Path:
        """Where the password of this user stands."""
        [file] = [self._folder / user.password_file for user in USERS if user.name == name]
        return file

    def password(self, name: str) -> str:
        """What it is now."""
        return self.password_file(name).read_text()

    def url(self, name: str) -> str:
        """Where this user connects to."""
        return self._rabbitmq.url_of(name, self.password(name))


@pytest.fixture(name="users")
def _users(clean_rabbitmq: RabbitMQ, tmp_path: Path) -> Users:
    """Made anew for each test, whatever another did to them."""
    return Users(clean_rabbitmq, tmp_path)


@pytest.fixture(name="api")
async def _api(users: Users) -> AsyncIterator[Broker]:
    """The broker as the API has it."""
    async with open_broker(lambda: users.url("api"), "api", makes_queues=False) as broker:
        yield broker


@pytest.fixture(name="worker")
async def _worker(users: Users) -> AsyncIterator[Broker]:
    """The broker as a worker has it: connected, so that there are queues."""
    async with open_broker(lambda: users.url("worker"), "worker") as broker:
        await eventually(lambda: broker.connected, within=RECOVERY_SECONDS, what="the worker's connection")
        yield broker


async def test_api_and_worker_can_do_their_work(api: Broker, worker: Broker, inbox: Inbox, users: Users) -> None:
    """The API publishes; the worker takes, publishes again what is to be retried, and buries what it cannot read."""
    await eventually(lambda: api.connected, within=RECOVERY_SECONDS)
    assert list(await api.publish([b"from the api"])) == [True]
    async with worker.subscribe(inbox, channels=2, prefetch_count=5):
        (delivery,) = await inbox.expect(1)
        assert list(await worker.publish([b"again"])) == [True]
        await delivery.bury("unreadable")
        await inbox.expect(2)

    async def buried() -> bool:
        return await _messages(users.url("admin"), DEAD_LETTER_QUEUE) == 1

    await eventually(buried, what="the dead letter")


async def test_the_api_waits_for_a_worker_to_make_the_queues(api: Broker, users: Users) -> None:
    """It may not make the one that it must not read: until a worker has come, its tasks wait on disk."""
    await asyncio.sleep(1)
    assert not api.connected

    async with open_broker(lambda: users.url("worker"), "worker"):
        await eventually(lambda: api.connected, within=RECOVERY_SECONDS, what="the API's connection")


async def test_where_the_api_may_it_makes_the_queues(clean_rabbitmq: RabbitMQ) -> None:
    """With a RabbitMQ and a user of one's own, no worker needs to be first."""
    async with open_broker(clean_rabbitmq.url, "api", makes_queues=False) as broker:
        await eventually(lambda: broker.connected, within=RECOVERY_SECONDS)
        assert list(await broker.publish([b"a"])) == [True]


@pytest.mark.parametrize("name", ["api", "worker"])
@pytest.mark.parametrize("attempt", [
    pytest.param(lambda channel: channel.declare_queue("a new one"), id="make a queue"),
    pytest.param(lambda channel: channel.declare_exchange(FOREIGN), id="make an exchange"),
    pytest.param(lambda channel: _publish(channel, "amq.fanout"), id="publish elsewhere"),
    pytest.param(lambda channel: _publish(channel, "amq.topic"), id="publish to a topic"),
    pytest.param(lambda channel: _bind(channel, QUEUE), id="bind the queue"),
    pytest.param(lambda channel: channel.queue_delete(FOREIGN), id="delete a queue of somebody else"),
    pytest.param(lambda channel: _consume(channel, DEAD_LETTER_QUEUE), id="read dead letters"),
    pytest.param(lambda channel: channel.exchange_delete("amq.fanout"), id="delete an exchange"),
    pytest.param(lambda channel: _consume(channel, FOREIGN), id="read a queue of somebody else"),
])  # fmt: skip
async def test_no_service_can_do_more_than_its_work(users: Users, worker: Broker, name: str, attempt: Attempt) -> None:
    """403 (ACCESS_REFUSED) for whatever neither of them needs."""
    async with await aio_pika.connect(users.url("admin")) as operator:
        queue = await (await operator.channel()).declare_queue(FOREIGN, durable=True)
        await _refused(users.url(name), attempt)
        await queue.delete()


@pytest.mark.parametrize("attempt", [
    pytest.param(lambda channel: _consume(channel, QUEUE), id="consume"),
    pytest.param(lambda channel: _get(channel, QUEUE), id="get"),
    pytest.param(lambda channel: _purge(channel, QUEUE), id="purge"),
    pytest.param(lambda channel: channel.queue_delete(QUEUE), id="delete"),
    pytest.param(lambda channel: channel.declare_queue(QUEUE, durable=True), id="make"),
])  # fmt: skip
async def test_the_api_can_only_publish(users: Users, worker: Broker, attempt: Attempt) -> None:
    """Whoever takes over the API, which strangers talk to, cannot take or destroy the work of others."""
    await _refused(users.url("api"), attempt)


@pytest.mark.parametrize("name", ["api", "worker"])
async def test_no_service_can_manage_the_broker(users: Users, rabbitmq: RabbitMQ, name: str) -> None:
    """The management API knows the password, and refuses all the same; an operator it lets in."""
    for path in ("overview", "users", "queues", "definitions"):
        assert rabbitmq.management_status(name, users.password(name), path) in (401, 403)
    assert rabbitmq.management_status("admin", users.password("admin")) == 200


async def test_no_service_knows_the_password_of_another(users: Users) -> None:
    """Each has one of its own."""
    with pytest.raises(ProbableAuthenticationError):
        await aio_pika.connect(users.url("worker").replace("worker:", "api:"))


async def test_renewed_passwords_need_no_restart(api: Broker, worker: Broker, users: Users, rabbitmq: RabbitMQ) -> None:
    """Each connection is opened with what the file says by then; those that are open stay."""
    await eventually(lambda: api.connected, within=RECOVERY_SECONDS)
    before = users.password("api")

    await asyncio.to_thread(users.make, renew=True)
    assert list(await api.publish([b"with an open connection"])) == [True]
    await asyncio.to_thread(rabbitmq.close_connections)

    assert users.password("api") != before
    await eventually(lambda: _confirmed(api), within=RECOVERY_SECONDS, what="the API's publish")
    await eventually(lambda: _confirmed(worker), within=RECOVERY_SECONDS, what="the worker's publish")


async def test_a_right_that_is_taken_away_is_seen(
    api: Broker, worker: Broker, users: Users, rabbitmq: RabbitMQ
) -> None:
    """A user that may connect and not publish has no broker; when it may again, it has, without a restart."""
    await eventually(lambda: api.connected, within=RECOVERY_SECONDS)
    await asyncio.to_thread(rabbitmq.ctl, "set_permissions", "api", "^$", "^$", "^$")
    await asyncio.to_thread(rabbitmq.close_connections)
    await eventually(lambda: worker.connected, within=RECOVERY_SECONDS)

    await asyncio.sleep(1)
    assert not api.connected
    assert api.away_since is not None

    await asyncio.to_thread(users.make, renew=False)
    await eventually(lambda: _confirmed(api), within=RECOVERY_SECONDS, what="a publish")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("fault", ["password", "rights"])
async def test_a_refused_service_says_so_and_recovers(
    users: Users, rabbitmq: RabbitMQ, start_service: StartService, database: Path, fault: str
) -> None:
    """Readiness shows it, tasks are still accepted, the log has few lines, and no restart is needed."""
    service = start_service(
        "taskqueue_api",
        PORT=0,
        DATABASE_URL=f"sqlite:///{database}",
        BROKER_URL=rabbitmq.url_of("api", "").replace(":@", "@"),
        BROKER_PASSWORD_FILE=users.password_file("api"),
    )
    async with http_client(await service.url()) as http:

        async def verdict() -> str:
            return str((await http.get("/readyz")).json["checks"]["broker"])

        async def is_ready() -> bool:
            return await verdict() == "pass"

        await eventually(is_ready, within=RECOVERY_SECONDS, what="a connection")
        taken = ("set_permissions", "api", "^$", "^$", "^$")
        refusal = ("change_password", "api", "another") if fault == "password" else taken
        await asyncio.to_thread(rabbitmq.ctl, *refusal)
        await asyncio.to_thread(rabbitmq.close_connections)
        await eventually(lambda: _refusals(service), within=RECOVERY_SECONDS, what="the reason in the log")
        await asyncio.sleep(5)  # several attempts more

        assert await verdict() == "fail"
        assert (await http.post({"action": "sum"})).status == 202
        assert len(_refusals(service)) == 1
        assert len(service.reports(events.BROKER_LOST)) == 2
        assert users.password("api") not in service.said

        await asyncio.to_thread(users.make, renew=fault == "password")
        await eventually(is_ready, within=RECOVERY_SECONDS, what="a connection")


def test_a_kind_of_loss_is_reported_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a connection comes and goes; a new reason at once; and a return after a loss that was told."""
    clock, told = FrozenClock(), []
    monkeypatch.setattr(events, "emit", lambda event, **fields: told.append((event, fields.get("reason"))))
    reports = Reports("c", lambda: clock() / 1000)

    for _ in range(59):
        reports.connected()
        reports.lost("a", "a once")
        clock.advance(seconds=1)
    reports.lost("b", "b")
    clock.advance(seconds=1)
    reports.lost("a", "a again")
    reports.connected()

    lost, connected = events.BROKER_LOST, events.BROKER_CONNECTED
    assert told == [
        *((connected, None), (lost, "a once"), (connected, None)),
        *((lost, "b"), (lost, "a again"), (connected, None)),
    ]


def _refusals(service: Service) -> list[dict[str, Any]]:
    return [line for line in service.reports(events.BROKER_LOST) if "ACCESS_REFUSED" in line["reason"]]


async def _refused(url: str, attempt: Attempt) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
            await attempt(channel)


async def _publish(channel: AbstractChannel, exchange: str) -> None:
    elsewhere = await channel.get_exchange(exchange, ensure=False)
    await elsewhere.publish(aio_pika.Message(b"{}"), QUEUE)


async def _bind(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue)).bind("amq.topic", "#")


async def _consume(channel: AbstractChannel, queue: str) -> None:
    async def receive(_: object) -> None: ...

    await (await channel.get_queue(queue)).consume(receive)


async def _get(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue)).get(fail=False)


async def _purge(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue)).purge()


async def _messages(url: str, queue: str) -> int:
    async with await aio_pika.connect(url) as connection:
        found = await (await connection.channel()).get_queue(queue)
        return found.declaration_result.message_count or 0


async def _confirmed(broker: Broker) -> bool:
    try:
        return list(await broker.publish([b"a"])) == [True]
    except BrokerUnavailable:
        return False


async def test_the_api_is_told_what_the_broker_holds(api: Broker, worker: Broker, inbox: Inbox) -> None:
    """It may read neither queue; how many messages there are it may ask, for an audit."""
    await eventually(lambda: api.connected, within=RECOVERY_SECONDS)
    async with worker.subscribe(inbox, channels=1, prefetch_count=1):
        await api.publish([b"1", b"2", b"3"])
        (delivery,) = await inbox.expect(1)
        await delivery.bury("unreadable")
        await inbox.expect(2)

        async def told() -> bool:
            held = await api.holdings()
            return (held.ready, held.dead) == (1, 1)

        await eventually(told, what="what it holds")
