"""The command ``wolf-async``; it needs the extra ``cli`` (click and rich).

`main` is the only public name, and ``import wolf_async`` imports nothing of this package.

Exit statuses: 0, all went well; 1, something failed; 2, the command, a setting or a file makes no
sense, and nothing was asked; 3, the service was away for longer than ``--patience``; 4, the token
was refused, or there is no such API at the base URL; 129, 130 and 143, stopped by SIGHUP, Ctrl-C
and SIGTERM; 141, the reader of the output has gone.

``app`` holds the group and turns errors into lines. Each command has a module of its own.
``service`` holds the options and the client that the commands share which ask the real service.
``accounts_file`` and ``drafts_file`` read, by ``rows`` and ``text_file``; ``results_file`` writes.
``report``, ``week``, ``live``, ``account_view`` and ``widgets`` draw.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line on ``sys.argv`` and return the exit status."""
    try:
        # imported here, so that a missing extra, and a Ctrl-C during the import of rich, end well
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
