"""What a host's processors did meanwhile, by ``/proc/stat`` (Linux, ``man 5 proc_stat``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class HostLoad:
    """Jiffies of all processors since the start of the host."""

    busy: int
    """Without those of the idle process, of waiting and of other guests."""
    stolen: int
    """In which another guest of the same machine ran."""
    total: int

    @classmethod
    def now(cls, stat: Path = STAT) -> HostLoad | None:
        """None on a system that does not tell."""
        try:
            words = stat.read_text(encoding="ascii").splitlines()[0].split()
        except (OSError, IndexError):
            return None
        user, nice, system, idle, waiting, irq, softirq, stolen = map(int, words[1:9])
        busy = user + nice + system + irq + softirq
        return cls(busy, stolen, busy + idle + waiting + stolen)

    def shares_since(self, before: HostLoad) -> tuple[float, float]:
        """Busy and stolen parts of the time since then."""
        span = max(1, self.total - before.total)
        return (self.busy - before.busy) / span, (self.stolen - before.stolen) / span
