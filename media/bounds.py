"""The range checks that settings share. Nothing heavy is imported here."""


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Refuses a value outside [low, high].

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} {value} is out of range; use {low}–{high}")


def check_at_least(name: str, value: float, low: float) -> None:
    """Refuses a value below `low`.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    if not value >= low:
        raise ValueError(f"{name} is {value}; it must be {low} or more")


def check_positive(name: str, value: float) -> None:
    """Refuses what is not a finite number above 0.

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value}; it must be above 0")
