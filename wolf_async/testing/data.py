"""Hold what each account of a sandbox is answered: from a seed or a test, less its tasks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from wolf_async.account import Account
from wolf_async.testing.accounts import AnswerTemplate, synthetic_task_init
from wolf_async.testing.faults import envelope
from wolf_async.testing.tasks import TaskStore

__all__ = ["AccountData"]

_MAX_PAGES = 2048


class AccountData:
    """The data of accounts, by a tick that moves what is free of their lines."""

    __slots__ = ("_own_bodies", "_pages", "_seed", "_store", "_tick")

    def __init__(self, seed: int, tick: Callable[[], int], store: TaskStore) -> None:
        self._seed = seed
        self._tick = tick
        self._store = store
        self._own_bodies: dict[Account, bytes] = {}
        self._pages: OrderedDict[Account, _Page] = OrderedDict()

    def data(self, account: Account) -> Any:
        """Return the `data` that the account would be answered now, as the caller's own copy."""
        if account in self._own_bodies:
            data = msgspec.json.decode(self._own_bodies[account])["data"]
        else:
            data = synthetic_task_init(self._seed, account, tick=self._tick())
        return self._store.take_from(data)

    def body(self, account: Account) -> bytes:
        """Return the body, with its envelope, that the account would be answered now."""
        if self._store.taken():
            return msgspec.json.encode(envelope(self.data(account)))
        if account in self._own_bodies:
            return self._own_bodies[account]
        page = self._pages.get(account)
        if page is None:
            page = self._pages[account] = _Page(AnswerTemplate(self._seed, account, envelope))
            if len(self._pages) > _MAX_PAGES:
                self._pages.popitem(last=False)
        return page.body(self._tick())

    def set(self, account: Account, data: Any) -> None:
        """Answer that `data` from now on; ``None`` makes it synthetic again."""
        if data is None:
            self._own_bodies.pop(account, None)
        else:
            self._own_bodies[account] = msgspec.json.encode(envelope(data))


class _Page:
    """An account's body, made once for each tick."""

    __slots__ = ("_body", "_template", "_tick")

    def __init__(self, template: AnswerTemplate) -> None:
        self._template = template
        self._tick: int | None = None
        self._body = b""

    def body(self, tick: int) -> bytes:
        if tick != self._tick:
            self._body = self._template.render(tick)
            self._tick = tick
        return self._body
