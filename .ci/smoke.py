"""Try the installed wheel with its run-time dependencies alone: the main job on the sandbox."""

import asyncio
import sys
from importlib.resources import files

import wolf_async
from wolf_async import WolfClient
from wolf_async.testing import Sandbox


async def main() -> None:
    async with Sandbox() as box, WolfClient(box.token, base_url=box.base_url) as wolf:
        user_id = box.users[0]
        answers = await asyncio.gather(*(wolf.task_init(user_id) for _ in range(100)))
        assert len(box.calls) == 1, box.calls
        assert answers[0].caller_line_list, answers[0]


assert "site-packages" in wolf_async.__file__, wolf_async.__file__
assert files("wolf_async").joinpath("py.typed").is_file()
assert not {"click", "rich"} & sys.modules.keys()
asyncio.run(main())
print(f"wolf_async {wolf_async.__version__}: the wheel works alone")
