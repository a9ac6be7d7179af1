"""The accounts that the API knows."""

from __future__ import annotations

import typing

__all__ = ["Account"]


class Account(typing.NamedTuple):
    """A main account, or one of its sub-accounts; hashes and compares as a plain tuple.

    Source: the vendor's page 任务初始化, parameters ``user_id`` and ``sub_user_id``.

    Attributes:
        user_id: id of the main account (用户 id(主账号)).
        sub_user_id: id of the sub-account that is acted on (子账户 id); ``None`` for the main
            account itself.

    """

    user_id: str
    sub_user_id: str | None = None
