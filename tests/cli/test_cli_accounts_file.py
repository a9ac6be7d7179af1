"""Promise which accounts are asked for, whatever program wrote the file.

All files are exact to the byte.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolf_async import Account
from wolf_async.cli.accounts_file import AccountsOptions, BadRow
from wolf_async.cli.text_file import RefusedError, TextFile

from .fetching import Shell, account_of
from .shell import COMMAND, Process, one_line, service

if TYPE_CHECKING:
    from wolf_async.testing import Sandbox

A, B = "a1", "b2"
ROUNDED = "is a number that a spreadsheet has rounded"


def read(
    data: bytes, name: str = "a.csv", options: AccountsOptions | None = None
) -> list[Account | BadRow]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with (options or AccountsOptions()).open(str(path)) as (_, rows):
            return list(rows.at_once())


def accounts(rows: list[Account | BadRow]) -> list[Account]:
    return [row for row in rows if isinstance(row, Account)]


def bad(rows: list[Account | BadRow]) -> list[tuple[int, str]]:
    return [(row.line, row.why) for row in rows if isinstance(row, BadRow)]


# --- encodings -----------------------------------------------------------------------------------

CHINESE = "用户ID,子账户ID,备注\r\na1,s1,“云蝠”智能\r\nb2,,丂狛\r\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (CHINESE.encode(), "utf-8"),
        (b"\xef\xbb\xbf" + CHINESE.encode(), "utf-8"),
        (CHINESE.encode("gb18030"), "gb18030"),
        (CHINESE.encode("gbk"), "gb18030"),
        (b"\xff\xfe" + CHINESE.encode("utf-16-le"), "utf-16"),
        (b"\xfe\xff" + CHINESE.encode("utf-16-be"), "utf-16"),
    ],
)
async def test_the_encoding_is_found_and_told_if_it_is_not_utf_8(
    data: bytes, encoding: str, box: Sandbox, shell: Shell
) -> None:
    data = data  # noqa: PLW0127 - as it was written
    assert accounts(read(data)) == [Account(A, "s1"), Account(B)]
    ended = await shell.fetch(shell.write_bytes("a.csv", data))
    assert {call.account for call in box.calls} == {Account(A, "s1"), Account(B)}
    assert len(box.calls) == 2
    told = f"is read as {encoding.upper()}: --encoding says otherwise\n"
    assert (told in ended.err) == (encoding != "utf-8")


async def test_one_row_of_another_encoding_decides_for_the_whole_file(
    box: Sandbox, shell: Shell
) -> None:
    """Row by row, a part of a file in GB18030 is good UTF-8 by chance, and says something else."""
    users = box.users[:3]
    data = b"user_id,remark\n" + users[0].encode() + ",联通\n".encode("gbk")
    data += users[1].encode() + ",电信\n".encode("gbk")
    data += users[2].encode() + b"," + b"x" * 70_000 + "移动".encode("gbk") + b"\n"
    ended = await shell.fetch(shell.write_bytes("a.csv", data))
    assert "GB18030" in ended.err
    assert {call.account for call in box.calls} == {Account(user) for user in users}


@pytest.mark.parametrize(
    "data",
    [
        b"user_id\na1,\xff\xff\n",
        b"\xef\xbb\xbfuser_id\na1,\xd3\xc3\n",
        b"\xff\xfeu\x00s\x00x",
        b"\xff\xfe\x00\xd8a\x00",
        "user_id\na1\n".encode("utf-16-le"),
        "user_id\na1\n".encode("utf-16-be"),
        b"a1\n" * 50_000 + b"\xff",
        b"PK\x03\x04\x14\x00user_id\na1\n",
    ],
)
async def test_what_is_no_text_is_refused_before_anything_is_asked(
    data: bytes, box: Sandbox, shell: Shell
) -> None:
    line = one_line(await shell.fetch(shell.write_bytes("a.csv", data)), 2)
    assert "--encoding" in line or "save it as CSV" in line
    assert box.calls == []
    assert not shell.out.exists()


async def test_an_encoding_that_is_given_holds(box: Sandbox, shell: Shell) -> None:
    user = box.users[0]
    data = f"帳號,備註\n{user},電話\n".encode("big5")
    source = shell.write_bytes("a.csv", data)
    ended = await shell.fetch(source, "--encoding", "big5", "--user-column", "帳號")
    assert ended == (0, "", "1 account: 1 answered\n")
    assert [call.account for call in box.calls] == [Account(user)]
    unmarked = shell.write_bytes("b.csv", f"user_id\n{user}\n".encode("utf-16-le"))
    assert (await shell.fetch(unmarked, "--encoding", "utf-16-le", "--overwrite")).status == 0
    line = one_line(await shell.fetch(source, "--encoding", "ascii", "--overwrite"), 2)
    assert "is no text in ASCII: name its encoding with --encoding" in line
    line = one_line(await shell.fetch(source, "--encoding", "idna", "--overwrite"), 2)
    assert "--encoding idna is none" in line


async def piped(box: Sandbox, shell: Shell, *args: str) -> Process:
    command = (*COMMAND, "fetch", "-", "--format", "csv", "--out", str(shell.out), *args)
    return Process(
        await asyncio.create_subprocess_exec(
            *command,
            env=service(box),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@pytest.mark.parametrize("tail", [b"", b"\n" + b"," * 100_000 + "联\n".encode("gbk")])
async def test_standard_input_that_is_not_ascii_is_decoded_as_a_whole(
    tail: bytes, box: Sandbox, shell: Shell
) -> None:
    data = f"用户ID,备注\n{box.users[0]},联通\n{box.users[1]},电信".encode("gbk") + tail
    async with await piped(box, shell) as process:
        out, err = await asyncio.wait_for(process.process.communicate(data), 60)
    assert (process.process.returncode, out) == (0 if not tail else 1, b"")
    assert b"standard input is read as GB18030" in err
    assert {call.account for call in box.calls} == {Account(user) for user in box.users[:2]}


async def test_standard_input_that_is_no_text_is_refused(box: Sandbox, shell: Shell) -> None:
    async with await piped(box, shell) as process:
        _, err = await asyncio.wait_for(process.process.communicate(b"user_id\na1,\xff\n"), 60)
    assert process.process.returncode == 2
    assert b"standard input is no text in UTF-8 or GB18030: name its encoding" in err
    assert box.calls == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
async def test_standard_input_without_the_mark_that_its_encoding_needs_is_refused(
    box: Sandbox, shell: Shell, encoding: str
) -> None:
    async with await piped(box, shell, "--encoding", encoding) as process:
        _, err = await asyncio.wait_for(process.process.communicate(b"user_id\na1\n"), 60)
    assert process.process.returncode == 2
    assert f"standard input is no text in {encoding.upper()}: name its".encode() in err
    assert box.calls == []


async def test_what_turns_out_to_be_no_text_later_in_standard_input_is_a_bad_row(
    box: Sandbox, shell: Shell
) -> None:
    first, second, third = box.users[:3]
    blank = b",\n" * 40_000
    late = f"{second},".encode() + "联通".encode("gbk") + f"\n{third},x\n".encode()
    async with await piped(box, shell) as process:
        data = f"user_id,remark\n{first},x\n".encode() + blank + late
        await asyncio.wait_for(process.process.communicate(data), 60)
    assert process.process.returncode == 1
    assert {call.account for call in box.calls} == {Account(first), Account(third)}
    (failure,) = shell.failures()
    assert failure["error"]["line"] == 40_003
    assert "no text" in failure["error"]["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a named pipe")
async def test_a_cancelled_read_of_a_pipe_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writing = os.open(path, os.O_RDWR)
    os.write(writing, b"user_id\n")
    with TextFile(str(path), "utf-8") as file:
        reading = asyncio.create_task(file.read_more())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        os.write(writing, b"a1\n")
        async with asyncio.timeout(5):
            assert await file.read_more() == "a1\n"
    os.close(writing)


async def test_standard_input_is_served_before_it_ends(box: Sandbox, shell: Shell) -> None:
    async with await piped(box, shell) as process:
        stdin = process.process.stdin
        assert stdin is not None
        stdin.write(f"{box.users[0]}\n{box.users[1]}\n".encode())
        await box.wait_for_calls(2, timeout=60)
        stdin.write(f"{box.users[2]}".encode())
        stdin.close()
        assert (await process.ended()).status == 0
    assert len(shell.lines()) == 3


# --- separators, quotes, rows --------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("said", [False, True])
def test_separators_and_line_ends_are_found(separator: str, end: str, said: bool) -> None:
    rows = ["user_id,sub_user_id,备注", "a1,s1,x", '"b2" , ,"1;2,3\t4"', ",,", ""]
    marked = [row.replace(",", separator) for row in rows]
    marked[2] = f'"b2" {separator} {separator}"1;2,3\t4"'
    data = end.join(([f"sep={separator}"] if said else []) + marked).encode()
    assert read(data) == [Account(A, "s1"), Account(B)]


async def test_a_separator_that_is_none_is_refused(box: Sandbox, shell: Shell) -> None:
    source = shell.write_bytes("a.csv", b"sep=|\r\nuser_id|r\r\na1|x\r\n")
    assert "expected a comma, a semicolon or a tab" in one_line(await shell.fetch(source), 2)
    assert box.calls == []


def test_a_quoted_cell_may_hold_anything() -> None:
    remark = '""Zhang, said: \r\nc3,c3,c3\n\nd4;d4\n"",\n'
    data = f'user_id,remark,sub_user_id\r\na1,"{remark}",s1\r\nb2,"",\r\n'.encode()
    assert read(data) == [Account(A, "s1"), Account(B)]


async def test_a_quote_that_never_closes_is_one_bad_row_to_the_end_of_the_file(
    box: Sandbox, shell: Shell
) -> None:
    first, *others = box.users[:8]
    rows = ["user_id,remark", f"{first},x", f'{others[0]},"open']
    rows += [f"{user},y" for user in others[1:]]
    ended = await shell.fetch(shell.write("a.csv", *rows))
    assert ended == (1, "", "2 accounts: 1 answered, 1 BadRow\n")
    assert [call.account for call in box.calls] == [Account(first)]
    (failure,) = shell.failures()
    assert failure["error"]["line"] == 3
    assert "the quote of line 3 never closes" in failure["error"]["message"]


def test_quotes_of_later_rows_do_not_close_an_open_one() -> None:
    """Else what stands inside their quotes would look as if it stood outside."""
    data = b'user_id,remark\na1,x\nb2,"open\nc3,"one\nd4,d4\ntwo"\ne5,"y"\n'
    rows = read(data)
    assert accounts(rows) == [Account(A)]
    assert [line for line, _ in bad(rows)] == [3]


def test_a_stray_quote_spoils_its_row_and_leaves_only_whole_rows_certain() -> None:
    data = b'user_id,remark\na1,x\nc3,"he said "hi" to\nd4\nme",y\nb2,"z"\n'
    rows = read(data)
    assert accounts(rows) == [Account(A), Account(B)]
    assert [line for line, _ in bad(rows)] == [3, 4, 5]


def test_rows_between_two_with_quotes_in_wrong_places_are_bad_rows() -> None:
    """They look like rows, and may be the inside of a remark."""
    data = b'user_id,remark\na1,x\nc3,"he said "hi" to\nd4,d4\ne5,e5\nme",y\nb2,"z"\n'
    rows = read(data)
    assert accounts(rows) == [Account(A), Account(B)]
    assert [line for line, _ in bad(rows)] == [3, 4, 5, 6]


def test_rows_between_quotes_in_wrong_places_and_one_that_never_closes_are_bad_rows() -> None:
    data = b'user_id,remark\na1,x\nc3,"he said "hi"\nd4,d4\n"bye""\ne5,"z"\n'
    rows = read(data)
    assert accounts(rows) == [Account(A)]
    assert [line for line, _ in bad(rows)] == [3, 4, 5]


def test_a_row_of_another_width_below_quotes_in_wrong_places_may_end_their_cell() -> None:
    data = b'user_id,remark\na1,"x"\nc3,""hi""\n9,9\n""\ne5,z\n'
    rows = read(data)
    assert accounts(rows) == [Account(A), Account("e5")]
    assert [line for line, _ in bad(rows)] == [3, 4]


def test_a_row_with_a_pair_of_quotes_in_wrong_places_spoils_no_other() -> None:
    data = b'user_id,remark\nc3,"he said "hi""\na1,x\nd4,"1"2 3\nb2,7" x 9"\n'
    rows = read(data)
    assert accounts(rows) == [Account(A), Account(B)]
    assert [line for line, _ in bad(rows)] == [2, 4]


LOST_OPENING = b'user_id,remark\na1,"x"\nc3,he said\nd4,d4\nme"\nb2,z\n'


async def test_a_remark_that_has_lost_its_opening_quote_is_asked_for_by_no_line(
    box: Sandbox, shell: Shell
) -> None:
    first, lost, inside, last = box.users[:4]
    data = LOST_OPENING.decode()
    for name, user in (("a1", first), ("c3", lost), ("d4", inside), ("b2", last)):
        data = data.replace(name, user)
    ended = await shell.fetch(shell.write_bytes("a.csv", data.encode()))
    assert ended == (1, "", "5 accounts: 2 answered, 3 BadRow\n")
    assert [call.account for call in box.calls] == [Account(first), Account(last)]
    failures = [line["error"] for line in shell.failures()]
    assert [failure["line"] for failure in failures] == [3, 4, 5]
    assert (
        "the quotes of line 5 do not fit: add the quote that is missing" in failures[0]["message"]
    )


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        # nothing tells which row has lost the quote
        ('a1,x\nc3,he said\nd4,d4\nme"\nb2,z', [B]),
        # a cell in quotes that would not fit if one were missing above it
        ('a1,x\nb2,"x"\nc3,he said\nd4,d4\nme"', [A, B]),
        ('a1,x\nb2,"x\n"\nc3,he said\nd4,d4\nme"', [A, B]),
        ('a1,x\nb2,"\nx"\nc3,he said\nd4,d4\nme"', [A, B]),
        ('a1,x\nb2,""" ""x"\nc3,he said\nd4,d4\nme"', [A, B]),
        # this fits as well as the end of one cell and the beginning of another
        ('a1,x\nc3,"\n,"\nd4,d4\nme"\nb2,z', [B]),
        ('a1,x\nc3,""\nd4,d4\nme"\nb2,z', [B]),
        # the last quote of the remark stands behind a line break, as if it began a row
        ('a1,"x"\nc3,he said\nd4,d4\n"\ne5,z', [A]),
        ('a1,"x"\nc3,he said\nd4,d4\n"\ne5,"z"', [A]),
        ('a1,"x"\nc3,he said\nd4,d4\n"\ne5,"\nz"', [A]),
        # a quote too many, or too few of two, at the end of a line of the remark
        ('a1,x\nb2,"he said"\nd4,d4\nme"', [A, B]),
        ('a1,x\nb2,"""he said"\nd4,d4\nme"', [A, B]),
        ('a1,x\nb2,"he said"\nd4,d4\n"', [A, B]),
        # the quote that is missing is the last one
        ('a1,x\nb2,"he said\nd4,"\ne5,e5\nme"', [A, B]),
    ],
)
def test_what_may_be_the_inside_of_a_remark_is_no_account(rows: str, asked: list[str]) -> None:
    found = accounts(read(f"user_id,remark\n{rows}\n".encode()))
    assert found == [Account(user) for user in asked]


async def test_quotes_that_belong_to_a_text_cost_no_more_than_they_must(
    box: Sandbox, shell: Shell
) -> None:
    """Only one at the end of a cell can be the last quote of a remark that began above."""
    users = box.users[:6]
    remarks = ["x", '5" screen', 'O"Brien', '"z"', 'screen 5"', "y"]
    rows = [f"{user},{remark}" for user, remark in zip(users, remarks, strict=True)]
    ended = await shell.fetch(shell.write("a.csv", "user_id,remark", *rows))
    assert ended == (1, "", "6 accounts: 3 answered, 3 BadRow\n")
    assert {call.account.user_id for call in box.calls if call.account} == {
        users[0],
        users[3],
        users[5],
    }
    why = "a quote in a cell that is not in quotes"
    assert [line["error"]["line"] for line in shell.failures()] == [3, 4, 6]
    messages = [line["error"]["message"] for line in shell.failures()]
    assert all(why in each and 'as in "screen 5"""' in each for each in messages)


def test_a_file_without_quotes_loses_no_more_to_one_than_a_row_can_hold() -> None:
    rows = [f"user{number},x" for number in range(30)]
    rows[20] += ' 5"'
    data = "\n".join(["user_id,remark", *rows, ""]).encode()
    found = accounts(read(data, options=AccountsOptions(max_row=5 * len("user20,x\n"))))
    assert [int(account.user_id.removeprefix("user")) for account in found] == [
        *range(15),
        *range(21, 30),
    ]


async def test_rows_of_standard_input_are_asked_for_before_the_quote_below_them_is_known(
    box: Sandbox, shell: Shell
) -> None:
    first, lost, short, last = box.users[:4]
    text = f'user_id,remark\n{first},x\n{lost},he said\nme"\n{short}\n{last},z\n'
    async with await piped(box, shell) as process:
        await asyncio.wait_for(process.process.communicate(text.encode()), 60)
    assert process.process.returncode == 1
    assert {call.account for call in box.calls} == set(map(Account, (first, lost, last)))
    box.reset_calls()
    await shell.fetch(shell.write_bytes("a.csv", text.encode()), "--overwrite")
    assert {call.account for call in box.calls} == {Account(last)}


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("user_id,remark\na1,x\nb", [A]),
        ("user_id,sub_user_id,remark\na1,s1,x\nb2,s1", [Account(A, "s1")]),
        ("user_id,remark\na1,x\nb2,", [A, B]),
        ("user_id,remark\na1,x\nb2\n", [A, B]),
        ("user_id,remark\na1,x\nb2,y\n ", [A, B]),
        ("user_id\na1\nb2", [A, B]),
    ],
)
def test_a_last_row_that_may_be_cut_off_is_a_bad_row(text: str, asked: list[str | Account]) -> None:
    found = accounts(read(text.encode()))
    assert found == [each if isinstance(each, Account) else Account(each) for each in asked]


@pytest.mark.parametrize(
    "cell", [b"x" * 200, b'"' + b"x\n" * 90 + b'"', b'"' + b'""\nc3\n' * 40 + b'"', b"," * 200]
)
def test_a_row_above_the_limit_is_a_bad_row_and_reading_goes_on_behind_it(cell: bytes) -> None:
    data = b"user_id,remark\na1,x\nc3," + cell + b"\nb2,y\n"
    rows = read(data, options=AccountsOptions(max_row=100))
    assert accounts(rows) == [Account(A), Account(B)]
    ((line, why),) = bad(rows)
    assert line == 3
    assert "--max-row" in why


def test_the_limit_of_a_row_is_exact_and_counts_bytes() -> None:
    row = "a1," + "云" * 10
    for limit, is_good in ((33, True), (32, False)):
        rows = read(f"user_id,r\n{row}\r\n".encode(), options=AccountsOptions(max_row=limit))
        assert bool(accounts(rows)) is is_good


def test_a_long_row_is_not_kept() -> None:
    """The first one, too: then the others decide the columns, if there is only one."""
    rows = read(b"x" * 3_000_000 + b"\na1\n" + b"y1" * 3_000_000 + b"\nb2")
    assert accounts(rows) == [Account(A), Account(B)]
    assert [line for line, _ in bad(rows)] == [1, 3]
    assert all(len(row.text) <= 200 for row in rows if isinstance(row, BadRow))


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "user_id",
        "userId",
        "USER_ID",
        "User-Id",
        "用户id",
        "用户ID",
        "账户ID",
        "账号ID",
        "主账号",
        "主账户",
        "帐号id",
        "User ID",
        " user  id ",
        "用户 ID",
        "ｕｓｅｒ＿ｉｄ",
        "主账号ID",
    ],
)
def test_a_column_of_accounts_is_known_by_its_name(name: str) -> None:
    assert read(f"备注1,{name}\nx,a1\n".encode()) == [Account(A)]
    item = json.dumps({"remark": "x", name: A})
    assert read(item.encode(), "a.jsonl") == [Account(A)]


@pytest.mark.parametrize(
    "name",
    ["sub_user_id", "subUserId", "Sub User ID", "子账户id", "子账号ID", "子账号", "子用户ID"],
)
def test_a_column_of_sub_accounts_is_known_by_its_name(name: str) -> None:
    assert read(f"{name},user_id\ns1,a1\n,b2\n".encode()) == [Account(A, "s1"), Account(B)]
    item = json.dumps({name: "s1", "user_id": A})
    assert read(item.encode(), "a.jsonl") == [Account(A, "s1")]


def test_other_columns_are_named_by_options() -> None:
    options = AccountsOptions(user_column="客户 编号", sub_user_column="Team")
    assert read("team,客户编号,user_id\ns1,a1,c3\n".encode(), options=options) == [Account(A, "s1")]
    item = json.dumps({"客户编号": A, "team": "s1", "user_id": "c3"})
    assert read(item.encode(), "a.jsonl", options) == [Account(A, "s1")]


REFUSED: list[tuple[str, str]] = [
    (
        "姓名,电话\n张三,a1\n",
        "no column of accounts: the columns are 姓名, 电话: name it with --user-column",
    ),
    ("sub_user_id,备注\ns1,x\n", "--user-column"),
    ("a1,张三\nb2,李四\n", "--user-column"),
    ("账户导出 2025-11-25\nuser_id,r\na1,x\n", "line 1 stands above the header of line 2: remove"),
    ("客户名单\n\nuser_id,r\na1,x\n", "line 1 stands above the header of line 3: remove"),
    ("# made 2025\nuser_id\na1\n", "line 1 stands above the header of line 2: remove"),
    ("# made 2025\na1\n", "line 1 is a comment: remove it"),
    ("a1,b2,c3\n", "3 columns without a header: name them in a first row"),
    ("user_id,用户ID\na1,b2\n", "several columns of accounts (user_id, 用户ID)"),
    ('{"user_id":"a1"}\n', "looks like JSON Lines: say --format jsonl"),
    ('["a1","b2"]\n', "looks like JSON Lines: say --format jsonl"),
    ('"a1"x,b2\nc3,d4\n', "the first row names the columns, and is a bad one"),
    ('rema"rk\na1\nb2\n', "the first row names the columns, and is a bad one"),
    ('user_id,"sub_user_id\na1,"\nb2,x\n', "or add the quote that is missing"),
    ("user_id|备注\na1|x\n", "separate them by commas, semicolons or tabs"),
    ("user_id，备注\na1，x\n", "separate them by commas, semicolons or tabs"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
async def test_columns_that_are_not_certain_are_refused_and_nothing_is_asked(
    text: str, said: str, box: Sandbox, shell: Shell
) -> None:
    ended = await shell.fetch(shell.write_bytes("a.csv", text.encode()))
    assert said in one_line(ended, 2)
    assert box.calls == []
    assert not shell.out.exists()
    assert not shell.errors.exists()


async def test_a_column_that_is_not_there_is_refused(box: Sandbox, shell: Shell) -> None:
    for text in ("a1,b2\n", "user_id,sub\na1,b2\n"):
        ended = await shell.fetch(
            shell.write_bytes("a.csv", text.encode()), "--user-column", "编号"
        )
        assert "the columns are" in one_line(ended, 2)
    assert box.calls == []


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", []),
        ("\ufeff", []),
        ("a1", [Account(A)]),
        ("a1\nb2\n", [Account(A), Account(B)]),
        ("a1,s1\nb2,\nc3\n", [Account(A, "s1"), Account(B), Account("c3")]),
        ("a1,\nb2,s1\n", [Account(A), Account(B, "s1")]),
        ("\n , ,\n\na1;s1\n;\n", [Account(A, "s1")]),
        ("user_id\n", []),
    ],
)
def test_without_a_header_there_are_one_or_two_columns(text: str, asked: list[Account]) -> None:
    assert read(text.encode()) == asked


def test_rows_with_more_cells_than_the_first_are_bad_rows() -> None:
    """A separator outside of quotes moves the accounts to another column."""
    rows = read(b"name,user_id\nx,a1\nZhang, San,c3\ny,b2,,\n")
    assert accounts(rows) == [Account(A), Account(B)]
    assert bad(rows) == [(3, "expected at most 2 cells as in the first row, not 3")]
    assert [line for line, _ in bad(read(b"a1\nc3,s1\nb2\n"))] == [2]


# --- cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "a1",
        " a1 ",
        "\u00a0a1\u00a0",
        "\u00a0\ta1\t",
        '="a1"',
        '"=""a1"""',
        "'a1",
        '" a1\t"',
        "\u3000a1",
    ],
)
def test_what_stands_around_an_id_is_taken_away(cell: str) -> None:
    assert read(f"user_id,sub_user_id\n{cell},{cell}\n".encode()) == [Account(A, A)]
    if "\t" not in cell:  # which separates cells, where no name in the first row says otherwise
        assert read(f"{cell},\n".encode()) == [Account(A)]


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("1.23E+17", ROUNDED),
        ("1E+05", ROUNDED),
        ("1,23E+17", ROUNDED),
        ("12.0", ROUNDED),
        ("NULL", "stands for nothing"),
        ("null", "stands for nothing"),
        (r"\N", "stands for nothing"),
        ("None", "stands for nothing"),
        ("a1;b2", "expected one id in a cell"),
        ("a1|b2", "expected one id in a cell"),
        ('a1"', "a quote in a cell that is not in quotes"),
        ('"a1,b2"', "expected one id in a cell"),
        ('"a1\nb2"', "expected one id in a cell"),
        ("#a1", "is a comment, a formula or JSON"),
        ("=A1", "is a comment, a formula or JSON"),
        ("user_id", "a header again?"),
        ("../x1", "must hold no dot segment"),
        ("x1" * 200, "no id has above 256"),
        ("x\x001", "printable characters only"),
    ],
)
async def test_a_cell_that_is_no_id_makes_a_bad_row_that_says_why(
    cell: str, why: str, box: Sandbox, shell: Shell
) -> None:
    user = box.users[0]
    quoted = f'"{cell}"' if "," in cell and '"' not in cell else cell
    text = f"user_id,sub_user_id\n{quoted},\n{user},{quoted}\n{user},\n"
    ended = await shell.fetch(shell.write_bytes("a.csv", text.encode()))
    assert ended.status == 1
    assert [call.account for call in box.calls] == [Account(user)]
    failures = shell.failures()
    assert len(failures) == 2
    assert all(why in failure["error"]["message"] for failure in failures)
    assert [account_of(line) for line in shell.lines()] == [Account(user)]


# --- JSON Lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "account"),
    [
        ('"a1"', Account(A)),
        ("12345678901234567890123", Account("12345678901234567890123")),
        ('["a1"]', Account(A)),
        ('["a1","s1"]', Account(A, "s1")),
        ('["a1",null]', Account(A)),
        ('["a1",""]', Account(A)),
        ("[1,2]", Account("1", "2")),
        ('{"user_id":"a1"}', Account(A)),
        ('{"sub_user_id":"","user_id":"a1","more":{"user_id":"c3"}}', Account(A)),
        ('{"userId":7,"subUserId":null}', Account("7")),
        ('{"user_id":"a1","remark":"half of a pair: \\ud83d"}', Account(A)),
        ('{"user_id":" a1 ","sub_user_id":"\'s1"}', Account(A, "s1")),
    ],
)
def test_rows_of_json_lines_are_read_in_all_their_forms(row: str, account: Account) -> None:
    assert read(f"\ufeff\r\n{row}\r\n\n".encode(), "a.jsonl") == [account]


@pytest.mark.parametrize(
    "row",
    [
        "x",
        "true",
        "null",
        "-5",
        "1.5",
        "1e17",
        "NaN",
        "[]",
        '["a1","b2","c3"]',
        '[["a1"]]',
        "{}",
        '{"sub_user_id":"s1"}',
        '{"user_id":null}',
        '{"user_id":["a1"]}',
        '{"user_id":"a1","user_id":"b2"}',
        '{"user_id":"a1","userId":"b2"}',
        '{"user_id":"a1","sub_user_id":"NULL"}',
        '{"user_id":"a1"',
        '"a1" "b2"',
        '"user_id"',
        "[" * 100_000 + "1",
        '"\\ud800"',
        '{"user_id":"a1","user\\ud800id":"b2"}',
    ],
)
async def test_a_row_of_json_lines_that_is_no_account_is_not_asked_for(
    row: str, box: Sandbox, shell: Shell
) -> None:
    user = box.users[0]
    source = shell.write_bytes("a.jsonl", f'{row}\n"{user}"\n'.encode())
    assert (await shell.fetch(source)).status == 1
    assert [call.account for call in box.calls] == [Account(user)]
    (failure,) = shell.failures()
    assert failure["error"]["line"] == 1


async def test_a_row_of_an_encoding_that_has_halves_of_pairs_is_listed_as_a_bad_row(
    box: Sandbox, shell: Shell
) -> None:
    user = box.users[0]
    source = shell.write_bytes("a.csv", f"user_id\n+2AA-x\n{user}\n".encode())
    assert (await shell.fetch(source, "--encoding", "utf-7")).status == 1
    assert [call.account for call in box.calls] == [Account(user)]
    (failure,) = shell.failures()
    assert failure["error"]["row"] == "\ufffdx"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"user_id": "a1", "tags": ["x1", "x2"]}], indent=2),
        json.dumps({"user_id": "a1", "tags": [1, 2]}, indent=0),
        '[1,\n\n2\n,"x1"\n]\n"x2"',
        '{"user_id":"a1","tags":["x1",\n"x2"\n]}',
    ],
)
def test_json_that_is_written_over_lines_names_no_account(text: str) -> None:
    rows = read(text.encode(), "a.jsonl")
    assert accounts(rows) == []
    assert any("as jq -c writes them" in why for _, why in bad(rows))
    assert len(bad(rows)) == len([row for row in text.splitlines() if row])


def test_json_over_lines_spoils_no_row_above_it() -> None:
    assert accounts(read(b'"a1"\n{"user_id":"b2"},\n["b2"]\n[\n"x1"\n]\n', "a.jsonl")) == [
        Account(A),
        Account(B),
    ]


# --- whatever is in the file ---------------------------------------------------------------------

REMARKS = st.text(st.sampled_from("x9,;\"\n\r\t '=#|"), max_size=12)


COLUMNS = ("user_id", "sub_user_id", "remark", "more")


def written(rows: list[tuple[str, str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([("user_id", "remark", "more"), *((u, r, "z") for u, r in rows)])
    return out.getvalue()


@st.composite
def well_formed(draw: st.DrawFn) -> str:
    """Write a file with a header, whose remarks hold what looks like rows."""
    out = io.StringIO()
    # the one has quotes around all cells and LF, the other quotes where they must be, and CRLF
    rows = csv.writer(out, draw(st.sampled_from(["unix", "excel"])))
    columns = draw(st.permutations(COLUMNS[: draw(st.integers(2, 4))]))
    rows.writerow(columns)
    looks = st.sampled_from([*'x9,\n" ', "9,9", "\n9,9\n", "\n9,9,9\n", "\n9,9,9,9\n", '5" w'])
    for number in range(draw(st.integers(1, 5))):
        cells = dict.fromkeys(COLUMNS, "") | {"user_id": f"user{number}"}
        cells["sub_user_id"] = draw(st.sampled_from(["", "sub"]))
        for name in ("remark", "more"):
            cells[name] = "".join(draw(st.lists(looks, max_size=5)))
        rows.writerow([cells[name] for name in columns])
    return out.getvalue()


@given(well_formed(), st.data())
def test_one_damage_makes_nothing_an_account_that_was_none(text: str, data: st.DataObject) -> None:
    """A quote that is lost, or added, or the end of the file, wherever that is."""
    before = set(accounts(read(text.encode())))
    quotes = [at for at, char in enumerate(text) if char == '"']
    at = data.draw(st.integers(0, len(text)))
    damaged = [text[:at] + '"' + text[at:]]
    if not text.splitlines()[0].strip('"').endswith("user_id"):
        # where the account is the last cell, nothing tells that it is not whole
        damaged.append(text[:at])
    if quotes:
        at = data.draw(st.sampled_from(quotes))
        damaged.append(text[:at] + text[at + 1 :])
    for each in damaged:
        try:
            assert set(accounts(read(each.encode()))) <= before, each
        except RefusedError:
            continue


@given(st.lists(REMARKS, max_size=8))
def test_whatever_stands_in_a_remark_its_row_is_one_account(remarks: list[str]) -> None:
    rows = [(f"user{number}", remark) for number, remark in enumerate(remarks)]
    assert read(written(rows).encode()) == [Account(user) for user, _ in rows]


@given(st.lists(REMARKS, min_size=1, max_size=8), st.data())
def test_a_quote_that_is_lost_makes_no_remark_an_account(
    remarks: list[str], data: st.DataObject
) -> None:
    """Where a quoted remark holds line breaks, the quote that is lost is its last one."""
    rows = [(f"user{number}", f'{remark}"\n9,9,9') for number, remark in enumerate(remarks)]
    text = written(rows)
    ends = [at for at in range(len(text)) if text[at:].startswith('",z\r\n')]
    at = data.draw(st.sampled_from(ends))
    found = accounts(read((text[:at] + text[at + 1 :]).encode()))
    assert set(found) <= {Account(user) for user, _ in rows}


@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.jsonl"]))
def test_no_bytes_break_the_reader(data: bytes, name: str) -> None:
    try:
        rows = read(data, name)
    except RefusedError as refused:
        assert "\n" not in refused.message  # noqa: PT017 - it may be good, too
    else:
        assert all(isinstance(row, (Account, BadRow)) for row in rows)


def test_a_pipe_is_read_in_parts_wherever_they_end() -> None:
    data = '用户ID,备注\r\na1,"云\r\n蝠"\r\nb2,x'.encode()

    async def rows_of(fd: int) -> list[Account | BadRow]:
        os.dup2(fd, 0)
        with AccountsOptions("csv", "utf-8").open("-") as (_, rows):
            return [row async for row in rows]

    before = os.dup(0)
    try:
        for at in range(len(data)):
            reading, writing = os.pipe()
            os.write(writing, data[:at])
            os.write(writing, data[at:])
            os.close(writing)
            assert asyncio.run(rows_of(reading)) == [Account(A), Account(B)]
            os.close(reading)
    finally:
        os.dup2(before, 0)
        os.close(before)
