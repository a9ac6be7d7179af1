"""Run ``python -m wolf_async.cli`` as the command ``wolf-async``."""

from __future__ import annotations

import sys

from wolf_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
