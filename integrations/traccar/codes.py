"""The fault codes that a position brings: `dtcs`, codes separated by blanks.

Source: github.com/traccar/traccar at 9e5c458, helper/ObdDecoder.java, read 2026-11: the codes of OBD-II as a rule; some
protocols pass on what the vehicle says in its own words.
"""

import re
from datetime import datetime

import msgspec

from integrations.aside import rejected
from integrations.telematics import FaultCode, FaultReport, Rejected

_OBD = re.compile(r"[PCBU][0-9A-F]{4}(-[0-9A-F]{2})?")
_OTHER = re.compile(r"[0-9A-Za-z._:/#-]{1,32}")
_SEPARATORS = re.compile(r"[\s,;|]+")
_MOST = 64


def read_codes(dtcs: str, device_id: str, at: datetime) -> tuple[FaultReport, list[Rejected]]:
    """Return the report of a position, and what in it is no code. A position that names codes names all there are."""
    words = dict.fromkeys(word.upper() for word in _SEPARATORS.split(dtcs) if word)
    codes = [_code(word) for word in words if _OTHER.fullmatch(word)][:_MOST]
    is_whole = len(codes) == len(words)
    report = FaultReport(device_id, at, tuple(codes), is_complete=is_whole)
    if is_whole:
        return report, []
    return report, [rejected("code_unreadable", "attributes.dtcs", msgspec.json.encode(dtcs), device_id)]


def _code(word: str) -> FaultCode:
    return FaultCode("obdii" if _OBD.fullmatch(word) else "other", word, "medium")
