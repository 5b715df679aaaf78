"""Scripts of users in V8: mini-racer, in processes that may be killed.

mini-racer is the continuation of py-mini-racer, whose last release carries a V8 of 2021.
"""

from runtime.javascript.modules import MODULES
from runtime.javascript.pool import (
    LONGEST_MS,
    MOST_MEMORY_MB,
    JavaScript,
    Ran,
    Script,
    ScriptError,
    open_javascript,
)

__all__ = [
    "LONGEST_MS",
    "MODULES",
    "MOST_MEMORY_MB",
    "JavaScript",
    "Ran",
    "Script",
    "ScriptError",
    "open_javascript",
]
