"""What live workers offer: listed by `/actions` and `/workers`, and held against what is posted."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from taskqueue import events
from taskqueue.broker.memory import MemoryBroker
from taskqueue.clock import system_clock
from taskqueue.dispatch import Dispatcher
from taskqueue.store.roster import OfferedAction
from taskqueue.store.tasks import TaskStore
from taskqueue_api import catalogue
from taskqueue_api.collaborators import Collaborators
from taskqueue_api.server import serving
from taskqueue_api.settings import HttpSettings
from tests.api.conftest import Api
from tests.support.database import change, rows
from tests.support.eventually import eventually
from tests.support.http import http_client
from tests.support.stored import claim, queued

WIDE = {"type": "object", "properties": {"width": {"type": "integer"}}, "required": ["width"]}
HIGH = {"type": "object", "properties": {"height": {"type": "integer"}}, "required": ["height"]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue is refreshed many times a second."""
    monkeypatch.setattr(catalogue, "REFRESH_SECONDS", 0.05)


async def _enter(api: Api, name: str, started_at: int = 1_000, **schemas: Mapping[str, Any] | None) -> None:
    """A worker enters itself, and the API has heard of it."""
    offers = {action: OfferedAction(f"By {name}.", schema) for action, schema in schemas.items()}
    await api.collaborators.store.enter_worker(name, started_at, 10, offers)
    await eventually(lambda: (name, started_at) in api.collaborators.catalogue._heard_of, what="the news")


async def test_without_workers_nothing_is_listed_and_nothing_refused(api: Api) -> None:
    """Tasks wait for a worker that knows them."""
    assert (await api.http.get("/actions")).json == {"actions": []}
    assert (await api.http.get("/workers")).json == {"workers": []}
    assert (await api.http.post({"action": "resize", "data": {"width": "wide"}})).status == 202


async def test_actions_are_merged_over_live_workers(api: Api) -> None:
    """By name, with how many have each; where they differ, as the newest worker has it."""
    await _enter(api, "new", 2_000, resize=HIGH)
    await _enter(api, "old", 1_000, resize=WIDE, blur=None)

    answer = await api.http.get("/actions")

    assert answer.json == {
        "actions": [
            {"name": "blur", "description": "By old.", "schema": None, "workers": 1},
            {"name": "resize", "description": "By new.", "schema": HIGH, "workers": 2},
        ]
    }


async def test_workers_are_listed_with_what_they_are_at(api: Api) -> None:
    """Times are in whole Unix seconds."""
    store = api.collaborators.store
    await _enter(api, "a", 1_999, resize=WIDE, blur=None)
    await claim(store, await queued(store, "x"), worker="a")

    (worker,) = (await api.http.get("/workers")).json["workers"]

    assert abs(worker.pop("seen_at") - system_clock() / 1000) < 10
    assert worker == {
        "name": "a",
        "started_at": 1,
        "concurrency": 10,
        "actions": ["blur", "resize"],
        "running": ["x"],
    }


async def test_data_that_the_action_cannot_take_are_refused(api: Api) -> None:
    """400, the field by name, and nothing is recorded."""
    await _enter(api, "a", resize=WIDE)

    missing = await api.http.post({"action": "resize"})
    wrong = await api.http.post({"action": "resize", "data": {"width": "5"}})

    assert missing.is_error(400, "data.width: required")
    assert wrong.is_error(400, 'data.width: the value is not of type "integer"')
    assert rows(api.database, "SELECT * FROM tasks") == []


async def test_in_a_batch_the_task_is_named_too(api: Api) -> None:
    """And none of the batch is accepted."""
    await _enter(api, "a", resize=WIDE)
    tasks = [{"action": "resize", "data": {"width": 1}}, {"action": "resize", "data": {}}]

    answer = await api.http.ask("POST", "/tasks/batch", json.dumps({"tasks": tasks}).encode())

    assert answer.is_error(400, "tasks[1]: data.width: required")
    assert rows(api.database, "SELECT * FROM tasks") == []


async def test_what_was_accepted_under_a_key_stays_accepted(api: Api) -> None:
    """A worker with a stricter schema that came since does not matter to a replay."""
    wish = {"action": "resize", "data": {"width": "5"}}
    first = await api.http.post(wish, Idempotency_Key="k")
    await _enter(api, "a", resize=WIDE)

    again = await api.http.post(wish, Idempotency_Key="k")

    assert (again.status, again.json["id"]) == (202, first.json["id"])


async def test_data_that_fit_are_accepted(api: Api) -> None:
    """And so is whatever is posted for an action that nobody has."""
    await _enter(api, "a", resize=WIDE)

    assert (await api.http.post({"action": "resize", "data": {"width": 5}})).status == 202
    assert (await api.http.post({"action": "Resize", "data": {"width": "5"}})).status == 202


async def test_of_two_versions_of_an_action_either_may_accept(api: Api) -> None:
    """While workers are being replaced, both are right; what neither takes is refused as the newer one says."""
    await _enter(api, "old", 1_000, resize=WIDE)
    await _enter(api, "new", 2_000, resize=HIGH)

    assert (await api.http.post({"action": "resize", "data": {"width": 5}})).status == 202
    assert (await api.http.post({"action": "resize", "data": {"height": 5}})).status == 202
    assert (await api.http.post({"action": "resize"})).is_error(400, "data.height: required")


@pytest.mark.parametrize("schema", [None, {"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/schema"}])
async def test_an_action_whose_schema_cannot_be_used_is_not_checked(api: Api, schema: Mapping[str, Any] | None) -> None:
    """Nor is any version of it: that one might accept. Other actions are."""
    await _enter(api, "a", resize=schema, blur=WIDE)
    await _enter(api, "b", resize=WIDE)

    assert (await api.http.post({"action": "resize"})).status == 202
    assert (await api.http.post({"action": "blur"})).status == 400


async def test_what_only_a_worker_of_the_past_has_is_not_checked(api: Api) -> None:
    """A worker that left is not asked any more."""
    await _enter(api, "a", resize=WIDE)
    assert (await api.http.post({"action": "resize"})).status == 400

    await api.collaborators.store.remove_worker("a", 1_000)

    async def accepted() -> bool:
        return (await api.http.post({"action": "resize"})).status == 202

    await eventually(accepted, what="the end of the check")
    assert (await api.http.get("/actions")).json == {"actions": []}


async def test_a_worker_that_starts_again_with_another_schema_is_heard_of(api: Api) -> None:
    """Under the same name."""
    await _enter(api, "a", 1_000, resize=WIDE)
    await _enter(api, "a", 2_000, resize=HIGH)

    assert (await api.http.post({"action": "resize"})).is_error(400, "data.height: required")


async def test_while_the_roster_cannot_be_read_the_last_one_holds(api: Api) -> None:
    """And when it can be read again, it is."""
    await _enter(api, "a", resize=WIDE)
    change(api.database, "ALTER TABLE workers RENAME TO elsewhere")
    asked: list[None] = []
    roll_call = api.collaborators.store.roll_call

    async def counted() -> frozenset[tuple[str, int]]:
        asked.append(None)
        return await roll_call()

    api.collaborators.store.roll_call = counted  # type: ignore[method-assign]
    await eventually(lambda: len(asked) > 2, what="several attempts to read it")

    assert (await api.http.post({"action": "resize"})).status == 400
    assert (await api.http.get("/workers")).is_error(500, "query failed")

    change(api.database, "ALTER TABLE elsewhere RENAME TO workers")
    await _enter(api, "b", blur=WIDE)
    assert (await api.http.post({"action": "blur"})).status == 400


async def test_a_catalogue_that_cannot_be_made_is_told_once_and_tried_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that fails, and without an end of the rounds: the next one may go well."""
    rounds = 0

    async def fail() -> None:
        nonlocal rounds
        rounds += 1
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(api.collaborators.catalogue, "refresh", fail)
    await eventually(lambda: rounds >= 3, what="three rounds")
    assert len(api.reports(events.CATALOGUE_FAILED)) == 1


async def test_a_post_does_not_ask_the_store_who_is_there(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is made from memory; and while nobody comes or goes, nothing is read but the roll."""
    await _enter(api, "a", resize=WIDE)

    async def read_again() -> None:
        raise AssertionError

    monkeypatch.setattr(api.collaborators.catalogue, "refresh", read_again)
    assert (await api.http.post({"action": "resize", "data": {"width": 1}})).status == 202
    monkeypatch.undo()

    monkeypatch.setattr(api.collaborators.store, "live_workers", read_again)
    await api.collaborators.catalogue.refresh()


async def test_an_api_that_starts_knows_at_its_first_request_who_is_there(
    no_connection_left: None, store: TaskStore, memory_broker: MemoryBroker
) -> None:
    """It listens when it has asked."""
    await store.enter_worker("a", 1_000, 10, {"resize": OfferedAction("", WIDE)})
    dispatcher = Dispatcher(memory_broker, store, system_clock)
    collaborators = Collaborators(store, memory_broker, dispatcher, system_clock)
    async with (
        serving(collaborators, HttpSettings(port=0)) as port,
        http_client(f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.post({"action": "resize"})).is_error(400, "data.width: required")


async def test_a_schedule_s_data_are_checked_too(api: Api) -> None:
    """When it is created and when they are changed; one that no longer fits can still be paused."""
    asked = {"action": "resize", "data": {"width": "wide"}, "interval": 60}
    early = await api.http.ask("POST", "/schedules", json.dumps(asked).encode())
    await _enter(api, "a", resize=WIDE)

    late = await api.http.ask("POST", "/schedules", json.dumps(asked).encode())
    changed = await api.http.ask("PATCH", early.headers["Location"], b'{"data": {}}')
    paused = await api.http.ask("POST", f"{early.headers['Location']}/pause")

    assert (early.status, late.status, changed.status, paused.status) == (201, 400, 400, 200)
    assert late.json["error"].startswith("data.width: ")
