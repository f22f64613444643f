"""What a handler returns, as the JSON that is kept."""

from typing import Any, Final

from taskqueue import jsontext
from taskqueue.actions.contract import Fail

MAX_RESULT_BYTES: Final = 1024 * 1024


def encoded(result: Any) -> str:
    """`result` as JSON text. Raises Fail where it is no JSON, or too large: another attempt would return the same."""
    try:
        text = jsontext.encode(result)
    except (jsontext.InvalidJSON, jsontext.NestedTooDeep) as error:
        raise Fail(f"the handler's result is not JSON: {error}") from error
    if len(text) > MAX_RESULT_BYTES:
        raise Fail(f"the handler's result is larger than {MAX_RESULT_BYTES} bytes")
    return text.decode()
