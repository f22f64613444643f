"""The actions that every worker has; each after a while of pretended work."""

import asyncio
from typing import Any

from pydantic import BaseModel

from taskqueue.actions import action
from taskqueue.actions.registry import Registry
from taskqueue_worker.settings import UnknownAction


class Text(BaseModel):
    """What `uppercase` works on."""

    text: str = ""


class Numbers(BaseModel):
    """What `sum` works on."""

    numbers: list[int | float] = []


def builtin_registry(simulated_work_seconds: float, unknown_action: UnknownAction = "process") -> Registry:
    """The built-in actions, and, unless those must fail, the one that takes every name that nobody has."""

    async def work() -> None:
        await asyncio.sleep(simulated_work_seconds)

    @action("uppercase")
    async def uppercase(data: Text) -> dict[str, str]:
        await work()
        return {"output": data.text.upper()}

    @action("sum")
    async def total(data: Numbers) -> dict[str, int | float]:
        await work()
        return {"output": sum(data.numbers)}

    @action("any other")
    async def processed(_: dict[str, Any]) -> dict[str, str]:
        await work()
        return {"output": "processed"}

    return Registry(None if unknown_action == "fail" else processed, [uppercase, total])
