"""Draw an account's answer for a person to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from rich.console import Group
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from wolf_async.cli.week import Week
from wolf_async.cli.widgets import (
    NARROW,
    Beside,
    LineTable,
    cell,
    day,
    free_of,
    has_ended,
    listing,
    more,
    now_there,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from wolf_async.account import Account
    from wolf_async.models import (
        AutoRecycleDetail,
        AutoRecycleRule,
        BigModelOutboundGroup,
        Line,
        OutboundGroup,
        OutboundGroupV2,
        TaskDialTime,
        TaskInit,
    )

__all__ = ["Report"]

T = TypeVar("T")

_NONE: Final = Text("none", "dim")
_DEFAULT: Final = ("default", "bold green")


class Report:
    """Draw all sections of an answer.

    ``limit`` is how many rows of each are shown; ``now``, without a zone, tells which lines have
    ended.
    """

    __slots__ = ("_account", "_init", "_limit", "_now")

    def __init__(
        self,
        account: Account,
        init: TaskInit,
        *,
        limit: int | None = None,
        now: datetime | None = None,
    ) -> None:
        self._account = account
        self._init = init
        self._limit = limit
        self._now = now_there() if now is None else now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        init = self._init
        yield _heading(self._account)
        yield from self._lines("Outbound lines", "caller_line_list", init.caller_line_list)
        yield from self._lines("Inbound lines", "call_in_line_list", init.call_in_line_list)
        yield from self._section(
            "Regular scripts", "outbound_group", init.outbound_group, _regular_scripts
        )
        yield from self._section(
            "Scripts 2.0", "outbound_group_v2", init.outbound_group_v2, _scripts_v2
        )
        yield from self._section(
            "LLM scripts", "big_model_outbound_group", init.big_model_outbound_group, _llm_scripts
        )
        yield from self._section(
            "Time groups", "task_dial_times", init.task_dial_times, _time_groups
        )
        yield from self._section(
            "Redial rules", "auto_recycle_rules", init.auto_recycle_rules, _redial_rules
        )
        yield Text.assemble(("max_recycle_limit ", "dim"), cell(init.max_recycle_limit))
        yield Text()
        yield Beside(*self._small_sections())

    def _lines(self, name: str, key: str, lines: Sequence[Line]) -> Iterator[RenderableType]:
        free, total = free_of(lines)
        ended = sum(has_ended(line, self._now) for line in lines)
        yield _Title(
            name,
            key,
            f"{len(lines)}: {free} of {total} calls free" + (f", {ended} ended" if ended else ""),
        )
        yield LineTable(lines, limit=self._limit, now=self._now) if lines else _NONE

    def _section(
        self, name: str, key: str, items: Sequence[T], draw: Callable[[Sequence[T]], RenderableType]
    ) -> Iterator[RenderableType]:
        yield _Title(name, key, str(len(items)))
        yield self._some(items, draw)

    def _some(
        self, items: Sequence[T], draw: Callable[[Sequence[T]], RenderableType]
    ) -> RenderableType:
        if not items:
            return _NONE
        shown = items[: self._limit]
        return Group(draw(shown), *more(len(items) - len(shown)))

    def _small_sections(self) -> Iterator[RenderableType]:
        init = self._init
        bridges = [
            [cell(each.id, "dim"), cell(each.name), cell(each.strategy_str)]
            for each in init.bridge_groups
        ]
        actions = [
            [cell(key, "dim"), cell(label)] for key, label in sorted(init.end_actions.items())
        ]
        sounds = [[cell(each.id, "dim"), cell(each.name)] for each in init.background]
        checks = [
            [cell(each.id, "dim"), cell(each.name), _notes(each.is_default)]
            for each in init.llm_intention_configs
        ]
        yield self._small("Bridge groups", bridges)
        yield self._small("End actions", actions)
        yield self._small("Backgrounds", sounds)
        yield self._small("LLM intention configs", checks)

    def _small(self, name: str, rows: Sequence[Sequence[Text]]) -> RenderableType:
        return Group(Text(name, "bold cyan"), self._some(rows, _bare))


def _bare(rows: Sequence[Sequence[Text]]) -> RenderableType:
    table = listing(*("" for _ in rows[0]), show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


class _Title:
    """The name of a section, its key in the answer, and what is to say of it as a whole."""

    __slots__ = ("_key", "_name", "_note")

    def __init__(self, name: str, key: str, note: str) -> None:
        self._name = name
        self._key = key
        self._note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title = Text.assemble((self._name, "bold cyan"), "  ", self._note)
        if options.max_width >= NARROW:
            title.append(f"  {self._key}", "dim")
        yield Text()
        yield Rule(title, align="left", style="dim", characters="-" if options.ascii_only else "─")


def _heading(account: Account) -> Text:
    heading = Text.assemble(("Account ", "bold"), cell(account.user_id))
    if account.sub_user_id is not None:
        heading.append_text(Text.assemble(("\nSub-account ", "bold"), cell(account.sub_user_id)))
    return heading


def _notes(is_default: bool | int | None, **flags: int | None) -> Text:
    """Name ``default``, and each flag that differs from its usual value, as the API names it.

    What the flags mean is documented nowhere.
    """
    notes = [Text(*_DEFAULT)] if is_default else []
    usual = {"is_active": 1}
    notes += [
        Text(f"{name}={plain(value)}", "yellow")
        for name, value in flags.items()
        if value is not None and value != usual.get(name, 0)
    ]
    return Text(" ").join(notes)


def _regular_scripts(scripts: Sequence[OutboundGroup]) -> RenderableType:
    table = listing("Id", "Name", "Changed", "Notes")
    for script in scripts:
        notes = _notes(script.default, is_active=script.is_active, is_lock=script.is_lock)
        table.add_row(
            cell(script.id, "dim"),
            cell(script.name),
            cell(day(script.updated_at, brief=True), "dim"),
            notes,
        )
    return table


def _scripts_v2(scripts: Sequence[OutboundGroupV2]) -> RenderableType:
    table = listing("Id", "Name", "Variables to fill")
    for script in scripts:
        table.add_row(cell(script.id, "dim"), cell(script.name), _to_fill(script))
    return table


def _to_fill(script: OutboundGroupV2) -> Text:
    must = [cell(variable.name, "yellow") for variable in script.variable if variable.is_fill]
    named = Text(", ").join(must)
    if others := len(script.variable) - len(must):
        named.append(f" + {others} others" if must else f"none of {others}", "dim")
    return named


def _llm_scripts(scripts: Sequence[BigModelOutboundGroup]) -> RenderableType:
    table = listing("Id", "Name", "Created", "Notes")
    for script in scripts:
        notes = _notes(
            script.default,
            is_active=script.is_active,
            is_lock=script.is_lock,
            is_call_in=script.is_call_in,
        )
        table.add_row(
            cell(script.id, "dim"),
            cell(script.name),
            cell(day(script.created_at, brief=True), "dim"),
            notes,
        )
    return table


def _time_groups(groups: Sequence[TaskDialTime]) -> RenderableType:
    drawn: list[RenderableType] = []
    for number, group in enumerate(groups):
        name = Text.assemble(
            cell(group.id, "dim"), "  ", cell(group.name, "bold"), "  ", _notes(group.is_default)
        )
        if group.remark is not None:
            name.append_text(cell(group.remark, "dim"))
        drawn += [name, Padding(Week(group, axis=number == 0), (0, 0, 0, 2))]
    return Group(*drawn)


def _redial_rules(rules: Sequence[AutoRecycleRule]) -> RenderableType:
    table = listing("Id", "Name", "Status", "Calls again after", "Notes")
    for rule in rules:
        after = Text(", ").join(_outcome(detail) for detail in rule.details)
        table.add_row(
            cell(rule.id, "dim"),
            cell(rule.name),
            _status(rule.status),
            after,
            _notes(rule.is_default),
        )
    return table


def _status(status: bool | None) -> Text:
    return cell(status) if status is None else Text("on", "green") if status else Text("off", "red")


def _outcome(detail: AutoRecycleDetail) -> Text:
    """Name the outcome of a call as the API does, and the rule's undocumented ``time``."""
    outcome = cell(
        detail.number_status if detail.number_status_str is None else detail.number_status_str
    )
    return outcome.append(f"(time={detail.time})", "dim") if detail.time else outcome
