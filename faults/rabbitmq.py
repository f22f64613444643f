"""RabbitMQ over its management API: what an operator, or a producer that knows no manners, may do to it."""

import base64
import json
import socket
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from faults.commands import CommandFailed

ADMIN: Final = "admin"
QUEUE: Final = "tasks"
DEAD_LETTER_QUEUE: Final = "tasks.dead"
PROTOCOL: Final = b"AMQP\x00\x00\x09\x01"


class RabbitMQ:
    """The broker that listens at `amqp` of this machine, and its management API at `management`."""

    password = ""
    """Of its administrator; known once it has been started."""

    def __init__(self, amqp: int, management: int) -> None:
        self._amqp = amqp
        self._port = management

    def takes_connections(self) -> bool:
        """Whether it answers a client's first bytes: the engine itself takes connections long before."""
        try:
            with socket.create_connection(("127.0.0.1", self._amqp), timeout=2) as connection:
                connection.sendall(PROTOCOL)
                return bool(connection.recv(1))
        except OSError:
            return False

    def publish(self, body: bytes) -> bool:
        """Publishes straight to the queue; False where there is no broker or no queue to take it."""
        message = {
            "properties": {"delivery_mode": 2},
            "routing_key": QUEUE,
            "payload": base64.b64encode(body).decode(),
            "payload_encoding": "base64",
        }
        try:
            status, answer = self._ask("POST", "exchanges/%2F/amq.default/publish", message)
        except (OSError, HTTPException):
            return False
        return status == 200 and bool(answer["routed"])

    def purge(self) -> None:
        """Empties the queue."""
        self._order_deletion(f"queues/%2F/{QUEUE}/contents")

    def delete(self) -> None:
        """Deletes the queue."""
        self._order_deletion(f"queues/%2F/{QUEUE}")

    def take_dead(self) -> Sequence[bytes]:
        """Takes what is in the dead-letter queue."""
        order = {"count": 1000, "ackmode": "ack_requeue_false", "encoding": "base64"}
        status, messages = self._ask("POST", f"queues/%2F/{DEAD_LETTER_QUEUE}/get", order)
        return [base64.b64decode(message["payload"]) for message in messages] if status == 200 else []

    def _order_deletion(self, path: str) -> None:
        status, answer = self._ask("DELETE", path)
        if status != 204:
            raise CommandFailed(f"RabbitMQ answered {status} to DELETE {path}: {answer}")

    def _ask(self, method: str, path: str, order: object = None) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            credentials = base64.b64encode(f"{ADMIN}:{self.password}".encode()).decode()
            headers = {"Authorization": f"Basic {credentials}"}
            connection.request(method, f"/api/{path}", json.dumps(order) if order else None, headers)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if body else None
        finally:
            connection.close()
