"""What a waiting message takes in Redis, with its own text and with its campaign's.

    python -m bench.contents                     two minutes on two cores
    python -m bench.contents --messages 2000     does it still run?

Messages of a paused campaign are accepted, once with their texts whole and once with their vars,
and counted are the bytes that Redis holds more for each (its memory, without buffers): record,
place in the queue, timer, claim, person, index, event and ledger. Markdown; docs/scaling.md has it.
A message that is not accepted is a BenchFailed, exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.months import TOGETHER, Caller
from bench.processes import BenchFailed
from bench.world import Plan, World

MESSAGES = 20_000
PAUSED: dict[str, Any] = {"state": "paused", "category": "marketing"}
VARS = {"name": "Александра", "code": "AUTUMN-7QX4"}
LATIN = "{{name}}, your order is on its way. Code {{code}}."
CYRILLIC = "{{name}}, осень уже здесь: скидка 20 % до воскресенья по коду {{code}}. " * 4
BUTTON = {"caption": "В магазин", "url": "https://shop.example/sale?c={{code}}"}
PICTURE = {"image_url": "https://shop.example/autumn.png", "button": BUTTON}
PAGE = "<p>{{name}}</p>" + "<p>Скидка 20 % на всё до воскресенья, приходите!</p>" * 60
CONTENTS: Mapping[str, dict[str, Any]] = {
    "a line of Latin": {"text": LATIN},
    "300 Cyrillic characters": {"text": CYRILLIC},
    "the same, with picture and button": {"text": CYRILLIC, "viber": PICTURE},
    "an e-mail of 5 KB beside it": {
        "text": CYRILLIC,
        "email": {"subject": "{{name}}, осень", "html": PAGE},
    },
}


def whole(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a message says itself that says the same."""
    text = json.dumps(content, ensure_ascii=False)
    for name, value in VARS.items():
        text = text.replace("{{" + name + "}}", value)
    said: dict[str, Any] = json.loads(text)
    return said


def measure(world: World, run: int, said: Mapping[str, Any], count: int) -> list[int]:
    """Bytes a message of the run's campaign: of its record, and of everything."""
    caller, client = Caller(world), world.redis.client
    before = world.redis.data_bytes()
    for start in range(run * count, (run + 1) * count, TOGETHER):
        people = range(start, min(start + TOGETHER, (run + 1) * count))
        bodies = [{"to": f"+7916{1_000_000 + person}", **said} for person in people]
        caller.accept([{"campaign": f"c{run}", **body} for body in bodies])
    grown = world.redis.data_bytes() - before
    id_ = client.zrange(f"{{k0}}held:campaign:c{run}", 0, 0)[0]
    return [int(client.memory_usage(f"{{k0}}m:{id_}")), grown // count]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.contents", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=MESSAGES)
    count = parser.parse_args(arguments).messages
    try:
        with (
            tempfile.TemporaryDirectory(prefix="kaskad-contents-") as folder,
            World(Path(folder) / "world", Plan(dispatchers=0)) as world,
        ):
            for pair, (name, content) in enumerate(CONTENTS.items()):
                world.campaign(f"c{2 * pair}", PAUSED)
                world.campaign(f"c{2 * pair + 1}", PAUSED | {"content": content})
                own = measure(world, 2 * pair, whole(content), count)
                by = measure(world, 2 * pair + 1, {"vars": VARS}, count)
                sys.stdout.write(f"| {name} | {own[0]} | {by[0]} | {own[1]} | {by[1]} |\n")
                sys.stdout.flush()
    except BenchFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
