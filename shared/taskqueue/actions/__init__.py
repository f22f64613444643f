"""What a user's own actions see of this system: the `action` decorator, the `Context`, and two exceptions.

from taskqueue.actions import Context, action

@action("resize")
async def resize(data: Resize, context: Context) -> dict[str, int]: ...
"""

from taskqueue.actions.contract import Action, Context, InvalidData
from taskqueue.actions.decorator import action

__all__ = ["Action", "Context", "InvalidData", "action"]
