"""The report of `check_scorer`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

OK, FAULT, SKIPPED = "ok", "FAULT", "skipped"

CURES = {
    "vocabulary": "use the same words with the same ids in both models and in the vocabulary",
    "shapes": "return one row of vocab_size scores for each row of tokens; see birnn_decode.Scorer",
    "finite": "look in the model for a division by 0, the log of a negative number, or -inf minus -inf",
    "randomness": "pass model= (the module that contains all others) to the wrapper, so that it is put in eval mode; "
    "functional dropout needs training=self.training",
    "batch": "put all modules in eval mode (pass model= to the wrapper; BatchNorm in training mode mixes the images of "
    "a batch), and check that each row uses only the features, the padding and the masks of its image",
    "padding": "give the encoder and the cross-attention the attention_mask of the sources. Words that follow a prompt "
    'need padding on the left (padding_side="left")',
    "mutation": "let step create new tensors (no append, +=, copy_ or out=) or copy the state first, and keep nothing "
    "in the model between steps",
    "batch axis": "for each tensor of the state, declare the axis that has one entry per row as batch_axis, or gather "
    "on that axis in select (an LSTM has its layers on axis 0 and its rows on axis 1)",
    "features": "put the features of the images into the state that start returns, with one entry per row, let select "
    "gather them like the rest of the state (TorchScorer: declare a batch_axis for them, not None), and keep none in "
    "the model",
    "select": "let select gather the given rows of every part of the state, in the given order",
    "views": "let select return new arrays: no reused buffer, no view, no change in place",
    "scores": "return new scores from every step, or a copy of the buffer",
    "steps": "let steps read each row of tokens as step does, one token after another, from the state that it is given",
    "score": "let score return, for each sentence, the log-probabilities in nats of its words in reading order, then "
    "that of the end",
    "reference": "compare the parts of the wrapper with the model's own forward pass",
    "alignment": "let step return the scores of the token after the one it reads; START must be read by the first "
    "step, not by start",
    "length": "pass max_tokens= (the most tokens that the model can read) to the wrapper, or let the model read more",
}
"""The most likely cure of each fault, for the checks that know no better one."""


@dataclass(frozen=True)
class Finding:
    """Hold the result of one check.

    Attributes:
        check: Name of the check.
        status: "ok", "FAULT" or "skipped".
        fault: Name of the fault; empty if there is none. It may differ from the name of the check that found it.
        message: What is wrong, or why the check was skipped.
        cure: The most likely way to correct the fault.

    Example:
        >>> from birnn_decode.scorers.check import Finding
        >>> Finding("join", "skipped", message="the scorer has no join").fault
        ''
    """

    check: str
    status: str
    fault: str = ""
    message: str = ""
    cure: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """Hold what `check_scorer` found.

    A report is true if there are no faults. Print it to see one line per check, then each fault with its likely cure.
    Checks that were skipped because another one failed share a line.

    Attributes:
        name: Name of the scorer, such as "forward scorer".
        findings: One `Finding` per check, in the order of the checks.

    Example:
        >>> from birnn_decode.scorers.check import Finding, Report
        >>> fault = Finding("select", "FAULT", "select", "select drops a row", "keep every row")
        >>> report = Report("forward scorer", (Finding("batch", "ok"), fault))
        >>> report.ok
        False
        >>> print(report)
        forward scorer: 1 fault
          batch          ok
          select         FAULT    select
        <BLANKLINE>
        select: select drops a row
          likely cure: keep every row
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """Return the findings that are faults, in the order of the checks.

        The first fault is often the cause of the others.
        """
        return tuple(finding for finding in self.findings if finding.status == FAULT)

    @property
    def ok(self) -> bool:
        """Tell whether there are no faults. Skipped checks do not count as faults."""
        return not self.faults

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        faults = "; ".join(f"{finding.fault}: {finding.message} -> {finding.cure}" for finding in self.faults)
        return f"<{self.name}: {faults or 'no fault found'}>"

    def __str__(self) -> str:
        count = len(self.faults)
        lines = [f"{self.name}: {f'{count} fault' + 's' * (count > 1) if count else 'no fault found'}"]
        blocked = Counter(finding.message for finding in self.findings if finding.message.startswith("because "))
        for finding in self.findings:
            if finding.message not in blocked:
                about = finding.message if finding.status == SKIPPED else finding.fault
                lines.append(f"  {finding.check:14} {finding.status:8} {about}".rstrip())
        lines += [f"  {f'{times} more':14} {SKIPPED:8} {why}" for why, times in blocked.items()]
        for finding in self.faults:
            lines += ["", f"{finding.fault}: {finding.message}", f"  likely cure: {finding.cure}"]
        return "\n".join(lines)
