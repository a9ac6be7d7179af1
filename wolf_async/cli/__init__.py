"""The command ``wolf-async``; it needs the extra ``cli`` (click and rich).

`main` is the only name for others, and nothing here is imported by ``import wolf_async``. Exit statuses: 0, all
went well; 1, an answer failed; 2, the command or the settings make no sense; 130, stopped with Ctrl-C; 141, the
reader of the output has gone.

``app`` holds the group and turns errors into lines; each command has a module of its own; ``service`` is what
the commands share that ask the real service; ``report``, ``week`` and ``widgets`` draw.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line on ``sys.argv`` and return the exit status."""
    try:
        # only here, so that a missing extra and a Ctrl-C while rich is being imported end in one line or none
        from wolf_async.cli.app import run  # noqa: PLC0415

        return run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("click", "rich"):
            raise
        sys.stderr.write(f'wolf-async: {package} is not installed: pip install "wolf-async[cli]"\n')
        return 2
    except KeyboardInterrupt:
        return 130
