"""What the checks of a scorer found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

OK, FAULT, SKIPPED = "ok", "FAULT", "skipped"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        status: "ok", "FAULT" or "skipped".
        fault: the name of the fault; empty where there is none.
        message: what is wrong, or why the check was skipped.
        cure: what most likely mends it.
    """

    check: str
    status: str
    fault: str = ""
    message: str = ""
    cure: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """What `check_scorer` found; printed, it is one line a check that was made. It is true where there are no faults.

    Attributes:
        name: of the scorer.
        findings: one of every check, in the order of the checks.
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are faults, the likely root of the others first."""
        return tuple(finding for finding in self.findings if finding.status == FAULT)

    @property
    def ok(self) -> bool:
        """Whether there is no fault; what was skipped is none."""
        return not self.faults

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        told = "; ".join(f"{finding.fault}: {finding.message} -> {finding.cure}" for finding in self.faults)
        return f"<{self.name}: {told or 'no fault found'}>"

    def __str__(self) -> str:
        count = len(self.faults)
        lines = [f"{self.name}: {f'{count} fault' + 's' * (count > 1) if count else 'no fault found'}"]
        not_made = Counter(finding.message for finding in self.findings if finding.message.startswith("because "))
        for finding in self.findings:
            if not_made[finding.message] and finding.status == SKIPPED:
                continue
            about = finding.message if finding.status == SKIPPED else finding.fault
            lines.append(f"  {finding.check:14} {finding.status:8} {about}".rstrip())
        lines += [f"  {f'{times} more':14} {SKIPPED:8} {why}" for why, times in not_made.items()]
        for finding in self.faults:
            lines += ["", f"{finding.fault}: {finding.message}", f"  likely cure: {finding.cure}"]
        return "\n".join(lines)
