"""The range check that settings share. Nothing heavy is imported here."""


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Refuses a value outside [low, high].

    Raises:
        ValueError: names the setting, its value and what is allowed.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} {value} is out of range; use {low}–{high}")
