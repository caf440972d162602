"""Settings of the engine beneath a job; its profiles `spark`, `flink` and `dataflow` lie in this package's configs."""

from dataclasses import dataclass, field

Flag = str | int | float | bool | list[str]


@dataclass(frozen=True)
class EngineSettings:
    """Where a job runs. Nothing of it shapes the output, so it is not kept in the run.

    Args:
        flags: flags of Apache Beam by name, e.g. {runner: SparkRunner}; a list repeats the flag. Those on the command
            line come after them.
        accelerator: GPU that the model stages ask for where an engine places steps by need (Dataflow), e.g.
            `type:nvidia-l4;count:1;install-nvidia-driver`; null asks for none.
        min_ram: memory of the workers that run model stages, likewise, e.g. `16GB`; null leaves it to the engine.
    """

    flags: dict[str, Flag] = field(default_factory=dict)
    accelerator: str | None = None
    min_ram: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.flags.items():
            if name.startswith("-") or "=" in name:
                raise ValueError(f"engine.flags has {name!r}; write the name alone, as in {{runner: SparkRunner}}")
            if value is False:
                raise ValueError(f"engine.flags.{name} is false; leave it out: a flag of Beam is given or not")
        if self.accelerator is not None and not self.accelerator.startswith("type:"):
            raise ValueError(
                f"engine.accelerator {self.accelerator!r} must begin with its type, as in type:nvidia-l4;count:1"
            )

    def as_flags(self) -> list[str]:
        """The flags as they stand on a command line."""
        given = [(name, each) for name, value in self.flags.items() for each in _each(value)]
        return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given]

    def hints(self) -> dict[str, str]:
        """Beam's resource hints of a model stage."""
        wanted = {"accelerator": self.accelerator, "min_ram": self.min_ram}
        return {name: value for name, value in wanted.items() if value is not None}


def _each(value: Flag) -> list[Flag]:
    return list(value) if isinstance(value, list) else [value]
