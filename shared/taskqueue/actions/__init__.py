"""What a user's own actions see of this system: the `action` decorator, the `Context`, and a few exceptions.

from taskqueue.actions import Context, action

@action("resize")
async def resize(data: Resize, context: Context) -> dict[str, int]: ...
"""

from taskqueue.actions.context import Context, NotInAProcess, Progress
from taskqueue.actions.contract import Action, Fail, InvalidData, RetryAfter
from taskqueue.actions.decorator import action
from taskqueue.retry import Backoff

__all__ = ["Action", "Backoff", "Context", "Fail", "InvalidData", "NotInAProcess", "Progress", "RetryAfter", "action"]
