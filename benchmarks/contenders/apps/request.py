"""The body of `POST /tasks`, for the FastAPI apps."""

from typing import Any

from pydantic import BaseModel, Field


class TaskRequest(BaseModel):
    """What a client asks for."""

    action: str = Field(min_length=1)
    data: dict[str, Any] = Field(default_factory=dict)


def accepted(task_id: str) -> dict[str, str]:
    """The answer."""
    return {"id": task_id, "status": "queued"}
