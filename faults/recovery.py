"""How long a system took to recover: from the instants that its tasks show, and not from when somebody looked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from faults.asks import Ask
from faults.reading import Seen
from faults.scene import Scene
from faults.schedule import Recovery

LATER: Final = 2**63


def recovered(recovery: Recovery, scene: Scene[Any], seen: Mapping[str, Seen], healed: int) -> float | None:
    """Seconds, 0 at least; None where there was nothing to recover. `healed` is in ms."""
    if recovery is Recovery.DELIVERED:
        since = scene.delivery[1] if scene.delivery else healed
        instants = [seen[scene.delivery[0]].begun[0]] if scene.delivery and scene.delivery[0] in seen else []
    elif recovery is Recovery.DONE:
        since, instants = healed, [each.ended_at for each in _prompt(scene, seen, sent=healed, accepted=LATER)]
    elif recovery is Recovery.BEGUN:
        since = scene.struck_at
        instants = [each.begun[0] for each in _prompt(scene, seen, sent=since, accepted=since) if each.begun]
    else:
        since, instants = scene.struck_at, list(_second_beginnings(seen))
    return max(0.0, (max(instants) - since) / 1000) if instants else None


def slow_answer(asks: Sequence[Ask]) -> float | None:
    """The 99th of a hundred times from a request to its 2xx, in seconds, of those that were accepted at once."""
    times = sorted(
        ask.accepted[0].at - ask.sent_at for ask in asks if ask.accepted and ask.sent_at and not ask.refusals
    )
    return times[min(len(times) - 1, len(times) * 99 // 100)] / 1000 if times else None


def _prompt(scene: Scene[Any], seen: Mapping[str, Seen], *, sent: int, accepted: int) -> Iterator[Seen]:
    """Tasks that were sent, and accepted, by these instants, and could be done at once."""
    for ask in scene.load.asks:
        for acceptance in ask.accepted[:1] if ask.prompt and ask.sent_at <= sent else ():
            if acceptance.at <= accepted and acceptance.task_id in seen:
                yield seen[acceptance.task_id]


def _second_beginnings(seen: Mapping[str, Seen]) -> Iterator[int]:
    """When each attempt began that followed one that was lost."""
    for each in seen.values():
        followed = zip(each.outcomes, each.begun[1:], strict=False)
        yield from (begun for outcome, begun in followed if outcome == "lost")
