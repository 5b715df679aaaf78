"""The SQL of Callboard: migrations in `migrations/`, named queries in `queries/`.

`queries = load("claims")` reads `queries/claims.sql` once per process. A query begins with a line
`-- name: claim_steps`; the comment lines right beneath it are its docs and stay in the file.
"""

import re
from functools import cache
from pathlib import Path

QUERIES = Path(__file__).parent / "queries"
MIGRATIONS = Path(__file__).parent / "migrations"

_NAME_LINE = re.compile(r"^--[ \t]*name:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_DOCS = re.compile(r"\A(?:[ \t]*(?:--[^\n]*)?\n)*")


class Queries:
    """The named queries of one file; `queries.claim_steps` is the SQL text.

    Each text begins with a comment `/* claims.claim_steps */`, so that pg_stat_activity and the
    server's log say which query it is. An unknown name is an AttributeError that names the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts: dict[str, str] = {}
        head, *rest = _NAME_LINE.split(path.read_text(encoding="utf-8"))
        if _DOCS.sub("", head + "\n").strip():
            raise ValueError(f"{path.name}: SQL stands before the first '-- name:' line")
        for name, body in zip(rest[::2], rest[1::2], strict=True):
            if not name.isidentifier() or name.startswith("_"):
                raise ValueError(f"{path.name}: {name!r} is no name for a query")
            if name in self._texts:
                raise ValueError(f"{path.name}: two queries are named {name}")
            text = _DOCS.sub("", body + "\n").strip().removesuffix(";")
            self._texts[name] = f"/* {path.stem}.{name} */ {text}"

    def __getattr__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            known = ", ".join(self._texts) or "none"
            raise AttributeError(f"{self._path} has no query {name!r} (it has: {known})") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._texts]


@cache
def load(name: str) -> Queries:
    """Read `queries/<name>.sql` once; a missing file is a FileNotFoundError."""
    return Queries(QUERIES / f"{name}.sql")
