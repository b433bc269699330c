"""The typed arguments of every job, derived from its signature: checked at each door, and always before it runs.

Arguments are ids, ISO dates, small numbers and words: the row may have changed meanwhile, so a job reads it.
"""

import inspect
import re
from collections.abc import Callable
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from jobs.outcomes import InvalidArguments

_WORDS: dict[Any, str] = {
    UUID: "uuid",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    date: "date",
    datetime: "datetime",
}


class Contract:
    """What a job takes beside its run."""

    def __init__(self, job: str, function: Callable[..., Any]) -> None:
        hints = get_type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        self.job = job
        self.parameters = {
            p.name: {"type": _word(job, p.name, hints[p.name]), "required": p.default is inspect.Parameter.empty}
            for p in parameters
        }
        fields = [
            (p.name, hints[p.name]) if p.default is inspect.Parameter.empty else (p.name, hints[p.name], p.default)
            for p in parameters
        ]
        self._struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)

    def parse(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with their types; null is as good as not given, as at the door.

        Raises:
            InvalidArguments: the first field that is missing, unknown or of the wrong shape.
        """
        if not self.parameters and not args:
            return {}
        try:
            parsed = msgspec.convert({name: value for name, value in args.items() if value is not None}, self._struct)
        except msgspec.ValidationError as error:
            raise InvalidArguments(f"{self.job}: {_readable(str(error))}") from None
        return {name: getattr(parsed, name) for name in self.parameters}


def _word(job: str, name: str, hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not NoneType)
    if hint not in _WORDS:
        raise TypeError(f"{job}: {name}: an argument is one of {sorted(_WORDS.values())}")
    return _WORDS[hint]


_SHAPES = {
    re.compile(r"Object missing required field `(.*)`"): r"\1: missing",
    re.compile(r"Object contains unknown field `(.*)`"): r"\1: not an argument of this job",
    re.compile(r"(.*) - at `\$\.(.*)`"): r"\2: \1",
}


def _readable(message: str) -> str:
    """Say it in the words of the database's door."""
    for shape, ours in _SHAPES.items():
        if found := shape.fullmatch(message):
            return found.expand(ours)
    return message
