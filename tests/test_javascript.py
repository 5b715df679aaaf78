"""The sandbox: whatever a script does, it ends in its time and space, and others go on."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.javascript import (
    MODULES,
    JavaScript,
    Ran,
    Script,
    ScriptError,
    modules,
    open_javascript,
    pool,
)

NOBODY: dict[str, Any] = {"contact": {}, "workflow": {}, "steps": {}, "trigger": {}, "account": {}}


@pytest.fixture
async def sandbox() -> AsyncIterator[JavaScript]:
    async with open_javascript(1) as sandbox:
        yield sandbox


async def ran(sandbox: JavaScript, code: str, **limits: Any) -> Ran:
    return await sandbox.run(Script(code, NOBODY, **limits))


async def code_of(sandbox: JavaScript, code: str, **limits: Any) -> str:
    error = (await ran(sandbox, code, **limits)).error
    assert error is not None
    return error.code


async def is_well(sandbox: JavaScript) -> bool:
    return bool((await ran(sandbox, "return 1 + 1")).output == 2)


async def test_a_script_is_given_contact_and_results_and_returns_json(sandbox: JavaScript) -> None:
    given = {**NOBODY, "contact": {"n": 1.5, "name": "Adä"}, "steps": {"shop": {"id": 7}}}
    code = "const x = await steps.shop.id; return {x, n: contact.n, s: contact.name}"
    done = await sandbox.run(Script(code, given, measures_memory=True))
    assert done.error is None
    assert done.output == {"x": 7, "n": 1.5, "s": "Adä"}
    assert done.duration_ms < 5000
    assert done.memory_bytes > 0


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("", None),
        ("return undefined", None),
        ("return [undefined, () => 1, NaN]", [None, None, None]),
        ("return new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("return new Promise(r => setTimeout(() => r('later'), 1))", "later"),
        ("const id = setTimeout(() => { throw 1 }, 0); clearTimeout(id); return 2", 2),
        ("let n = 0; for await (const x of [1, 2]) n += x; return n", 3),
        ("return new Intl.NumberFormat('de').format(1234.5)", "1.234,5"),
    ],
)
async def test_what_scripts_return(sandbox: JavaScript, code: str, output: Any) -> None:
    done = await ran(sandbox, code)
    assert (done.error, done.output) == (None, output)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("let y = ;", ScriptError("script_syntax", "SyntaxError: Unexpected token ';'", 1, 9)),
        ("}); (function () { return 5", ScriptError(
            "script_syntax", "SyntaxError: missing ) after argument list", 1, 2)),
        ("}), (function () { return 5", ScriptError(
            "script_syntax", "SyntaxError: unbalanced braces")),
        ("\n\n  null.x", ScriptError(
            "script_failed", "TypeError: Cannot read properties of null (reading 'x')", 3, 8)),
        ("const f = () => {\n  throw new RangeError('far')\n}\nf()",
         ScriptError("script_failed", "RangeError: far", 2, 9)),
        ("throw {a: 1}", ScriptError("script_failed", '{"a":1}')),
        ("throw null", ScriptError("script_failed", "null")),
        ("throw {get a() { throw 1 }}", ScriptError("script_failed", "(cannot be shown)")),
        ("return require('fs')",
         ScriptError("script_failed", "Error: module not permitted: fs", 1, 8)),
        ("await fetch('https://example.com/')",
         ScriptError("script_failed", "TypeError: fetch is not available here")),
        ("return 1n",
         ScriptError("script_failed", "TypeError: Do not know how to serialize a BigInt")),
        ("return () => 1", ScriptError("script_output_unusable", "the returned value is no JSON")),
        ("return 'x'.repeat(300000)",
         ScriptError("script_output_too_large", "the returned value is over 256 KB")),
    ],
)  # fmt: skip
async def test_errors_speak_of_the_user_s_code_and_nothing_of_ours(
    sandbox: JavaScript, code: str, error: ScriptError
) -> None:
    assert (await ran(sandbox, code)).error == error


async def test_a_promise_that_nobody_can_settle_is_not_waited_for(sandbox: JavaScript) -> None:
    assert await code_of(sandbox, "await new Promise(() => {})") == "script_never_settles"


FOR_EVER = [
    "while (true) {}",
    "await null; while (true) {}",
    "return {toJSON() { while (true) {} }}",
    "throw {get a() { while (true) {} }}",
    "return new Proxy({}, {ownKeys() { while (true) {} }})",
    "throw new Proxy(new Error('x'), {get() { while (true) {} }})",
    "/(a+)+$/.test('a'.repeat(40) + 'b')",
    "await new Promise(r => setTimeout(r, 1e9))",
    "const f = () => setTimeout(f, 0); f(); await new Promise(() => {})",
    "Promise.prototype.then = function () { while (true) {} }; return 1",
]


@pytest.mark.parametrize("code", FOR_EVER)
async def test_what_goes_on_for_ever_is_ended_and_replaced(sandbox: JavaScript, code: str) -> None:
    assert await code_of(sandbox, code, timeout_ms=100) == "script_timeout"
    assert await is_well(sandbox)


TOO_LARGE = [
    "const a = []; for (;;) a.push({x: [1, 2, 3]})",
    "const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1))",
    "return new Array(6e7).fill(1.5).length",
    "let s = 'x'; for (;;) s += s + Math.random()",
    "const m = new Map(); for (let n = 0; ; n++) m.set(n, [n])",
]


@pytest.mark.parametrize("code", TOO_LARGE)
async def test_what_takes_too_much_memory_is_ended_and_replaced(
    sandbox: JavaScript, code: str
) -> None:
    error = (await ran(sandbox, code, memory_limit_mb=16)).error
    assert error is not None
    # Buffers and strings that are too large are refused inside the script, as a RangeError.
    assert error.code == "script_memory" or "RangeError" in error.message
    assert await is_well(sandbox)


async def test_buffers_count_against_the_limit(sandbox: JavaScript) -> None:
    code = """
    const held = []
    try { for (;;) held.push(new Uint8Array(1e6).fill(1)) } catch { return held.length }
    """
    held = (await ran(sandbox, code, memory_limit_mb=64)).output
    assert 32 <= held <= 64 + 40  # the limit, and the slack that V8 itself works in


@pytest.mark.parametrize(
    "code",
    [
        "JSON.stringify = JSON.parse = null; return {a: 1}",
        "Promise.prototype.then = null; return 1",
        "Object.prototype.toJSON = () => { throw 1 }; return {a: 1}",
        "Array.prototype.toJSON = () => 5; console.log(1); return 1",
        "Array.prototype.toJSON = () => ['a', [[1, 2]]]; console.log(1); return 1",
        "Array.prototype.toJSON = () => { while (true) {} }; console.log(1); return 1",
        "Array.prototype[0] = 1; Object.defineProperty(Array.prototype, 'length', {}); return 1",
        "Object.defineProperty(Object.prototype, 'error', {get() { throw 1 }}); return 1",
        "console.log.call = null; globalThis.console = null; return 1",
        "Symbol.iterator = null; delete globalThis.Promise; return 1",
    ],
)
async def test_a_script_that_spoils_its_isolate_spoils_its_own_run_only(
    sandbox: JavaScript, code: str
) -> None:
    done = await ran(sandbox, code, timeout_ms=1000)
    assert done.error is None or done.error.code in {"script_failed", "script_timeout"}
    assert "prelude" not in str(done.error)
    assert await is_well(sandbox)


async def test_nothing_is_left_for_the_next_script(sandbox: JavaScript) -> None:
    await ran(sandbox, "globalThis.left = 1; Array.prototype.left = 1; console.log('left')")
    done = await ran(sandbox, "return [typeof left, [].left ?? null]")
    assert (done.output, list(done.logs)) == (["undefined", None], [])


async def test_there_is_nothing_to_reach_the_machine_by(sandbox: JavaScript) -> None:
    code = """
    const names = ['process', 'Deno', 'Bun', 'module', 'exports', 'XMLHttpRequest', 'WebSocket',
      'Worker', 'importScripts', 'Atomics', 'SharedArrayBuffer', 'WebAssembly', 'setInterval']
    return names.filter(name => typeof globalThis[name] !== 'undefined')
    """
    assert (await ran(sandbox, code)).output == []
    assert await code_of(sandbox, "return await import('fs')") == "script_failed"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
async def test_the_process_has_no_secrets_no_network_and_no_rights(
    sandbox: JavaScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBOARD_SECRET_KEYS", "hunter2")
    assert await is_well(sandbox)
    (process,) = sandbox._idle
    folder = Path(f"/proc/{process._process.pid}")
    status = (folder / "status").read_text()
    assert "NoNewPrivs:\t1" in status
    if os.geteuid() == 0:
        assert f"Uid:\t{65534}" in status
        assert (folder / "environ").read_bytes() == b""
        own = Path("/proc/self/ns/net").readlink()
        assert (folder / "ns" / "net").readlink() != own or not process.off_network
        limits = (folder / "limits").read_text()
        assert "Max file size             0" in limits


async def test_the_console_is_kept_up_to_a_bound(sandbox: JavaScript) -> None:
    code = "console.log('a', {b: [1]}); console.error(new Error('x')); console.warn(undefined)"
    assert (await ran(sandbox, code)).logs == [
        ("log", 'a {"b":[1]}'),
        ("error", "Error: x"),
        ("warn", "undefined"),
    ]
    flood = await ran(sandbox, "for (let n = 0; n < 1e4; n++) console.log('x'.repeat(1e4))")
    assert flood.error is None
    assert sum(len(text) for _, text in flood.logs) <= 32_768 + 2_000
    assert len(flood.logs) + flood.logs_dropped == 10_000


async def test_an_error_keeps_what_was_logged_before_it(sandbox: JavaScript) -> None:
    done = await ran(sandbox, "console.log('here'); throw new Error('x')")
    assert list(done.logs) == [("log", "here")]


@pytest.mark.parametrize(
    ("name", "code", "output"),
    [
        ("lodash", "return require('lodash').chunk([1, 2, 3], 2)", [[1, 2], [3]]),
        ("dayjs", "return require('dayjs')('2026-01-31').add(1, 'day').format('D.M.')", "1.2."),
        ("validator", "return require('validator').isEmail('a@example.com')", True),
        ("currency.js", "return require('currency.js')(0.1).add(0.2).value", 0.3),
    ],
)
async def test_permitted_modules_can_be_required(
    sandbox: JavaScript, name: str, code: str, output: Any
) -> None:
    assert (await ran(sandbox, code, modules=[name])).output == output
    assert await code_of(sandbox, code) == "script_failed"


def test_modules_are_what_their_publishers_published() -> None:
    folder = Path(modules.__file__).parent
    for name, origin in MODULES.items():
        source = (folder / f"{name}.js").read_bytes()
        assert hashlib.sha256(source).hexdigest() == origin["sha256"]
        assert "Permission is hereby granted" in (folder / f"{name}.LICENSE").read_text()
    files = {path.stem for path in folder.glob("*.js")}
    assert files == set(MODULES)


async def test_a_script_is_checked_without_being_run(sandbox: JavaScript) -> None:
    assert await sandbox.check("while (true) {}") is None
    assert await sandbox.check("x(") == ScriptError(
        "script_syntax", "SyntaxError: unexpected end of the script", 1, 3
    )


async def test_fetch_goes_through_whoever_runs_the_script(sandbox: JavaScript) -> None:
    asked: list[Mapping[str, Any]] = []

    async def fetch(call: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(call)
        if call["url"].endswith("/bad"):
            return {"error": "fetch: refused"}
        headers = {"content-type": "application/json"}
        return {"status": 201, "headers": headers, "body": '{"n":1}', "url": call["url"]}

    code = """
    const [a, b] = await Promise.all([
      fetch('https://x.test/a', {method: 'post', headers: {'X-A': 1}, body: 'data'}),
      fetch('https://x.test/b'),
    ])
    const refused = await fetch('https://x.test/bad').catch(error => String(error))
    return [a.ok, a.status, a.headers.get('Content-Type'), await a.json(), await b.text(), refused]
    """
    done = await sandbox.run(Script(code, NOBODY), fetch)
    assert done.output == [
        True, 201, "application/json", {"n": 1}, '{"n":1}', "TypeError: fetch: refused",
    ]  # fmt: skip
    assert {k: v for k, v in asked[0].items() if k != "id"} == {
        "url": "https://x.test/a", "method": "POST", "headers": {"X-A": "1"}, "body": "data",
    }  # fmt: skip


async def test_fetches_have_a_number_and_end_with_the_run(sandbox: JavaScript) -> None:
    cancelled = asyncio.Event()

    async def hang(_call: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    done = await sandbox.run(Script("await fetch('https://x.test/')", NOBODY, timeout_ms=50), hang)
    assert done.error is not None
    assert done.error.code == "script_timeout"
    await cancelled.wait()

    async def fine(_call: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"status": 200, "headers": {}, "body": "", "url": ""}

    code = "for (let n = 0; n < 100; n++) await fetch('https://x.test/' + n)"
    done = await sandbox.run(Script(code, NOBODY), fine)
    assert done.error is not None
    assert f"{pool.MOST_FETCHES} times" in done.error.message


async def test_other_work_goes_on_beside_a_script_that_hangs() -> None:
    async with open_javascript(2) as sandbox:
        hanging = asyncio.create_task(ran(sandbox, "while (true) {}", timeout_ms=500))
        for _ in range(5):
            assert await is_well(sandbox)
        assert not hanging.done()
        assert (await hanging).error is not None


async def test_a_process_that_has_died_is_replaced_and_no_script_blamed(
    sandbox: JavaScript,
) -> None:
    assert await is_well(sandbox)
    (process,) = sandbox._idle
    process._process.kill()
    await process._process.wait()
    assert await is_well(sandbox)
    assert process not in sandbox._idle


async def test_answers_that_come_too_late_harm_no_later_script(sandbox: JavaScript) -> None:
    """Of six fetches the first answer settles the script; the others are on their way still."""

    async def answer(_call: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"error": "no"}

    racing = "return await Promise.race([1, 2, 3, 4, 5, 6].map(() => fetch('x').catch(() => 7)))"
    asking = "const seen = await fetch('y').catch(() => 8); return seen"
    for _ in range(10):
        assert (await sandbox.run(Script(racing, NOBODY), answer)).output == 7
        assert await is_well(sandbox)
        assert (await sandbox.run(Script(racing, NOBODY), answer)).output == 7
        assert (await sandbox.run(Script(asking, NOBODY), answer)).output == 8
    (process,) = sandbox._idle
    assert process._runs == 40


async def test_a_process_that_ends_between_two_scripts_is_none_s_fault(
    sandbox: JavaScript,
) -> None:
    assert await is_well(sandbox)
    (process,) = sandbox._idle
    process._process.kill()  # and nobody has heard of it
    assert await is_well(sandbox)
    assert process not in sandbox._idle


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("setTimeout(() => 0, Infinity); return 1", 1),
        ("setTimeout(() => 0, Infinity); await new Promise(r => setTimeout(r, 1)); return 2", 2),
    ],
)
async def test_odd_timers_trip_nothing(sandbox: JavaScript, code: str, output: int) -> None:
    assert (await ran(sandbox, code)).output == output


async def test_who_spoils_the_clock_waits_for_their_own_time(sandbox: JavaScript) -> None:
    code = "__step('next_timer', NaN); await new Promise(r => setTimeout(r, 5))"
    assert await code_of(sandbox, code, timeout_ms=200) == "script_timeout"
    assert await is_well(sandbox)


async def test_what_is_checked_is_what_is_run(sandbox: JavaScript) -> None:
    for code in ("}), (function () {", "}); (function () {", "let y = ;"):
        error = await sandbox.check(code)
        assert error is not None
        assert error.code == "script_syntax"
    assert await sandbox.check("return 1") is None


async def test_a_script_whose_process_is_killed_is_told_as_crashed(sandbox: JavaScript) -> None:
    assert await is_well(sandbox)
    (process,) = sandbox._idle

    async def kill(_call: Mapping[str, Any]) -> Mapping[str, Any]:
        process._process.kill()
        return {"error": "never heard"}

    ran = await sandbox.run(Script("await fetch('https://x.test/')", NOBODY), kill)
    assert ran.error is not None
    assert ran.error.code == "script_crashed"
    assert await is_well(sandbox)


async def test_a_run_that_is_given_up_leaves_no_process_behind(sandbox: JavaScript) -> None:
    started = asyncio.Event()

    async def hang(_call: Mapping[str, Any]) -> Mapping[str, Any]:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    run = asyncio.create_task(sandbox.run(Script("await fetch('https://x.test/')", NOBODY), hang))
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert sandbox._idle == []
    assert await is_well(sandbox)


async def test_processes_are_renewed_after_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RUNS_PER_PROCESS", 2)
    async with open_javascript(1) as sandbox:
        pids = set()
        for _ in range(4):
            assert await is_well(sandbox)
            pids |= {process._process.pid for process in sandbox._idle}
        assert len(pids) == 2
