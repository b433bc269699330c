"""Vehicle identification numbers: which letters they are made of, and their check digit (49 CFR 565.15)."""

VIN_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
_VALUES = {str(digit): digit for digit in range(10)}
_VALUES |= dict(zip(VIN_LETTERS, (*range(1, 9), 1, 2, 3, 4, 5, 7, 9, *range(2, 10)), strict=True))
_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def with_check_digit(vin: str) -> str:
    """Return a number with its check digit in the ninth place, whatever stood there."""
    weighed = (_VALUES[letter] * weight for letter, weight in zip(vin, _WEIGHTS, strict=True))
    remainder = sum(weighed) % 11
    return f"{vin[:8]}{'X' if remainder == 10 else remainder}{vin[9:]}"
