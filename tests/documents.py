"""The code blocks of README, CONTRIBUTING and the pages under docs: found, run in order, compared with what they print.

The blocks of a page share their names. At the beginning of a page, ``model_f``, ``model_b``, ``image`` and so on are a
reader's own. A comment directly above a block changes how it is run: ``<!-- skip: reason -->`` and
``<!-- takes minutes -->`` leave it out, ``<!-- your models -->`` gives these names their first values again, and
``<!-- figures vary -->`` says that words with a digit are not compared, because a training is not the same everywhere.
"""

import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- (?:(?P<skip>(?:skip: |takes )[^\n]+)|(?P<own>your models)|(?P<vary>figures vary)) -->\n\n?)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$"
    r"(?:\n\n[^\n`]*\bprints:?\n\n```text\n(?P<printed>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
PROGRAMS = ("birnn-decode", "python")
SHELL = {"|", "||", "&", "&&", ";", "<", ">", ">>"}
SET_UP = ("cd", "git", "make", "pip")  # not run; the targets of make are looked up
SECONDS = 120  # a command that is not skipped takes less than a minute, on a machine half as fast too


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, why it is not run, whose models it uses, and the output that the page shows."""

    page: str
    line: int
    section: str
    language: str
    text: str
    skip: str | None
    own: bool
    vary: bool
    printed: str | None

    @property
    def is_python(self):
        return self.language in ("python", "pycon")

    @property
    def is_console(self):
        return self.language == "console" or (self.language == "text" and self.text.startswith("$ "))

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(page):
    """All blocks of Python and of commands on a page, in order."""
    source = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(source):
        before = source[: match.start("text")]
        headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", before, flags=re.DOTALL | re.MULTILINE), re.M)
        block = Block(
            page,
            before.count("\n"),
            headings[-1] if headings else "",
            match["language"],
            match["text"],
            match["skip"],
            match["own"] is not None,
            match["vary"] is not None,
            match["printed"],
        )
        if block.is_python or block.is_console:
            found.append(block)
    return found


def run_python(block, names):
    """Run a block with what the blocks before it have defined. Returns what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if block.text.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.text, names, str(block), block.page, block.line)
            test.globs = names
            assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0, block
        else:
            exec(compile("\n" * block.line + block.text, str(ROOT / block.page), "exec"), names)
    return printed.getvalue()


def commands_of(block):
    """The commands of a block, each with the lines that the page shows as its output."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            assert found, f"{block}: a block of commands begins with a line that begins with $"
            found[-1][1].append(line)
    return found


def run_command(command, folder):
    """Run what a reader would type, in a folder. Returns its output and its exit code, or None for set-up commands.

    The command ``birnn-decode`` runs in this process, because starting the program takes as long as most commands.
    `test_cli.py` starts it.
    """
    words = shlex.split(command, comments=True)
    program = Path(words[0]).name
    if program in SET_UP:
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        assert program != "make" or {word for word in words[1:] if "=" not in word} <= targets, command
        return None
    assert program in PROGRAMS, f"{command}: no program that pages are known to call"
    if program == "birnn-decode":
        from command import run_here  # here, because the command needs click

        assert not SHELL & {*words}, f"{command}: a command of a page runs without a shell"
        done = run_here(*words[1:], folder=folder)
        return done.stdout + done.stderr, done.returncode
    done = subprocess.run(
        shlex.join([sys.executable, "-W", "error"]) + command.removeprefix(words[0]),
        shell=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=folder,
        timeout=SECONDS,
    )
    return done.stdout, done.returncode


def same(printed, shown, vary=False):
    """Whether output is what a page shows: spaces and times aside; a line of three dots stands for any lines.

    If figures ``vary``, one or more words with digits are as good as others.
    """
    timed = any(line.rstrip().endswith(" ms") for line in shown.splitlines())

    def plain(text):
        lines = [" ".join(line.split()) for line in text.strip().splitlines()]
        lines = [re.sub(r"(?<=\d )\d+$", "#", line) if timed else line for line in lines]
        if vary:
            lines = [re.sub(r"\S*\d\S*( \S*\d\S*)*", "#", line) for line in lines]
        return [re.sub(r"\b\d+(\.\d+)?(?= ?(ms|s|seconds|minutes)\b)", "#", line) for line in lines]

    pattern = "\n".join(r"[^\0]*?" if line in ("...", "…") else re.escape(line) for line in plain(shown))
    return re.fullmatch(pattern, "\n".join(plain(printed))) is not None


def with_smaller(text, smaller):
    """A command, or the lines that it prints, with other numbers: ``smaller`` maps each one to the one to use."""
    return re.sub(r"\b\d+\b", lambda found: smaller.get(found[0], found[0]), text)


def run_page(page, folder, names, readers_own, smaller):
    """Run the blocks of a page in the folder that is the current one. What the page writes stays in it.

    ``smaller`` maps numbers in commands, and in what they print, to the numbers that the test uses in their place.
    """
    (folder / "examples").symlink_to(ROOT / "examples")
    names.update(readers_own())
    for block in blocks_of(page):
        if block.skip is not None:
            continue
        if block.own:
            names.update(readers_own())
        if block.is_python:
            printed = run_python(block, names)
            assert block.printed is None or same(printed, block.printed), f"{block} prints\n{printed}"
            continue
        for as_written, lines in commands_of(block):
            command, *shown = (with_smaller(one, smaller) for one in (as_written, *lines))
            done = run_command(command, folder)
            if done is not None:
                printed, code = done
                refused = bool(shown) and shown[0].startswith("birnn-decode: ")
                assert code == (2 if refused else 0), f"{block}: $ {command}\n{printed}"
                as_shown = not "".join(shown).strip() or same(printed, "\n".join(shown), block.vary)
                assert as_shown, f"{block}: $ {command}\n{printed}"
