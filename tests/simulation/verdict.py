"""What must be true at the end of a history, when nothing has gone wrong for a while."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from pydantic_core import from_json

from taskqueue.schema import FINAL, TaskStatus
from tests.simulation.clients import Submission
from tests.simulation.database import Database
from tests.simulation.observer import Broken, Observer, Row
from tests.simulation.processes import MAX_ATTEMPTS


def judge(database: Database, observer: Observer, submissions: Sequence[Submission], complaints: Sequence[str]) -> None:
    """Raises Broken with the first promise that was not kept."""
    if complaints:
        raise Broken(f"nothing is complained of, as is {complaints[0]}")
    rows = observer.rows
    for wish in submissions:
        ids = set(wish.accepted)
        if wish.key is not None and len(ids) > 1:
            raise Broken("one key is one task", wish.accepted[-1])
        for task_id in wish.accepted:
            if task_id not in rows and task_id not in observer.deleted:
                raise Broken("no accepted task is lost", task_id)
    by_number = {wish.number: wish for wish in submissions}
    payloads = database.rows("SELECT id, json_extract(payload, '$.data.value') FROM tasks")
    rows_of = Counter(number for _, number in payloads)
    for task_id, number in payloads:
        # Whoever has no key asks once; who has one may ask often, and be answered once only.
        if rows_of[number] > 1:
            raise Broken("one request is one task", task_id)
        _judge_end(task_id, rows[task_id], by_number[number])
    _judge_changes(database, rows, observer.retry_ordered)


def _judge_end(task_id: str, row: Row, wish: Submission) -> None:
    if row.status not in FINAL:
        raise Broken("every task comes to an end", task_id)
    if row.status == TaskStatus.COMPLETED:
        expected = {"echo": wish.number, "attempt": row.attempt}
        if wish.action == "hopeless" or from_json(row.result or "null") != expected:
            raise Broken("a result is the right one", task_id)
    elif row.status == TaskStatus.CANCELLED:
        if not wish.called_off and "expires_at" not in wish.options:
            raise Broken("nothing is cancelled that nobody has called off", task_id)
    elif row.error != "never" and row.attempt - row.forgiven < (row.max_attempts or MAX_ATTEMPTS):
        raise Broken("no task fails that may be tried again", task_id)


def _judge_changes(database: Database, rows: Mapping[str, Row], retry_ordered: Collection[str]) -> None:
    """What was told of each task: begun attempts one by one, and one end."""
    told: dict[str, list[tuple[str, int]]] = {}
    for task_id, status, attempt in database.rows("SELECT task_id, status, attempt FROM changes ORDER BY seq"):
        told.setdefault(task_id, []).append((status, attempt))
    for task_id, row in rows.items():
        changes = told.get(task_id, [("", 0)])
        ends = [place for place, (status, _) in enumerate(changes) if status in FINAL]
        tried_again = [changes[place + 1][0] == TaskStatus.PENDING for place in ends[:-1]]
        if not all(tried_again) or len(ends) > 1 + (task_id in retry_ordered):
            raise Broken("the end of a task is told once", task_id)
        if changes[-1] != (row.status, row.attempt):
            raise Broken("nothing is told of a task after its end", task_id)
        begun = list(dict.fromkeys(attempt for status, attempt in changes if status == TaskStatus.RUNNING))
        if begun != list(range(1, row.attempt + 1)):
            raise Broken("each attempt is told, in order", task_id)
