"""Collect what benchmarks/results.sh has measured in the CSV files of docs/results: results_csv.py OUT.

OUT is the folder of ``benchmarks/results.sh``. Every run there has a file NAME.run with its date and its command. Rows
of runs that are not in OUT stay as they are.
"""

import csv
import json
import re
import sys
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "docs" / "results"
COLUMNS = ["run", "data", "split", "blank", "setting", "method", "minus", "metric", "value", "low", "high", "questions"]
DATA = {
    "ucm": "UCM-Captions",
    "flickr": "Flickr8k text",
    "molecules": "ChEMBL molecules",
    "multi30k": "Multi30k German to English",
    "digits": "handwritten digits",
}
SETTINGS = {  # how the name of a run tells the setting that is not the default
    r"-exact-[^-]+-(\d+)$": "beam size {}",
    r"-(?:rerank|beams|whole|scores)-(\d+)$": "beam size {}",
    r"-length-[^-]+-([^-]+)$": "length {}",
    r"-diversity-(\d+-[\d.]+)$": "diversity {}",
}
NOTES = {  # figures that the notes of a report tell
    r"left out of the split: (?P<value>\d+) (?P<metric>.*)": "left out: ",
    r"exact: .* proved of (?P<best>[\d.]+)% .* sentences of (?P<all>[\d.]+)%; (?P<median>\d+) rows .*": "",
}
PROOFS = {"best": "best sentence proved", "all": "all sentences proved", "median": "median rows"}
CYCLES = re.compile(
    r"cycles at (\w+): (\d+), .* mean ([\d.]+), quartiles ([\d.]+), ([\d.]+), ([\d.]+), .* nat ([\d.]+)"
)
GAPS = ("mean gap", "lower quartile of the gap", "median gap", "upper quartile of the gap", "share of gaps above 1 nat")
SCOPES = re.compile(r" *[\d.]+ words missing, scope (\w+) *: ([\d.]+) of (\d+) exactly right")


def main(folder):
    runs = {}
    figures = []
    for path in sorted(folder.glob("*.run")):
        name = path.stem
        date, command = path.read_text().rstrip("\n").split("\t")
        runs[name] = {"run": name, "date": date, "command": command, "note": ""}
        if (folder / name / "figures.json").exists():
            found = of_reports(name, json.loads((folder / name / "figures.json").read_text())["reports"])
        elif (folder / name / "curves.csv").exists():
            found = of_curves(folder / name / "curves.csv", command)
        elif name.endswith("-train"):
            found = of_training(folder / f"{name.removesuffix('-train')}.safetensors.csv")
        elif name.endswith("-pictures"):
            (RESULTS / "pictures.csv").write_text((folder / f"{name}.txt").read_text())
            found = []
        elif name.endswith("-compatibility"):
            found = of_compatibility(name, (folder / f"{name}.txt").read_text())
        else:
            found = list(csv.DictReader((folder / f"{name}.txt").read_text().splitlines()))
        split = (
            "train" if name.endswith("-train") else "val" if "--split val" in command or "compatib" in name else "test"
        )
        blank = (re.findall(r"--blank (\S+)", command) or [""])[0]
        about = {"run": name, "data": DATA[name.split("-")[0]], "split": split, "blank": blank}
        figures += [{**about, **{key: text(value) for key, value in row.items()}} for row in found]
    merge(RESULTS / "runs.csv", list(runs.values()), runs, ["run", "date", "command", "note"])
    merge(RESULTS / "figures.csv", figures, runs, COLUMNS)


def of_reports(name, reports):
    """The figures, differences, times and notes of ``birnn-decode evaluate``."""
    setting = ""
    for pattern, form in SETTINGS.items():
        if found := re.search(pattern, name):
            setting = form.format(found[1].replace("-", ":"))
    for one in reports:
        share = re.match(r"([\d.]+)%", one["name"])
        about = {
            "blank": f"{float(share[1]) / 100:g}" if share else "whole",
            "setting": setting,
            "questions": one["questions"],
        }
        for method, figures in one["figures"].items():
            for metric, figure in figures.items():
                yield {**about, "method": method, "metric": metric, **figure}
            yield {**about, "method": method, "metric": "milliseconds", "value": one["milliseconds"][method]}
        for method, figures in one["differences"].items():
            for metric, figure in figures.items():
                yield {**about, "method": one["against"], "minus": method, "metric": metric, **figure}
        for note in one["notes"]:
            for pattern, prefix in NOTES.items():
                found = re.fullmatch(pattern, note)
                if found and prefix:
                    yield {**about, "metric": prefix + found["metric"], "value": found["value"]}
                elif found:
                    for key, metric in PROOFS.items():
                        value = float(found[key]) / (1 if key == "median" else 100)
                        yield {**about, "method": "exact", "metric": metric, "value": value}


def of_curves(path, command):
    questions = re.findall(r"--limit (\d+)", command)[0]
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield {**row, "setting": f"{row['along']} {row['setting']}", "questions": questions}


def of_training(path):
    """The epoch that was kept, its validation loss (of a pair the mean of both), and the time of all epochs."""
    with path.open(newline="") as file:
        epochs = list(csv.DictReader(file))
    names = [name for name in epochs[0] if name.startswith("validation")]
    losses = [sum(float(epoch[name]) for name in names) / len(names) for epoch in epochs]
    method = "pair" if len(names) > 1 else "birnn"
    for metric, value in {
        "epochs": len(epochs),
        "epoch kept": 1 + losses.index(min(losses)),
        "validation loss": min(losses),
        "training seconds": sum(float(epoch["seconds"]) for epoch in epochs),
    }.items():
        yield {"method": method, "metric": metric, "value": value}


def of_compatibility(name, printed):
    method = "birnn" if "birnn" in name else "pair"
    for positions, count, *gaps in CYCLES.findall(printed):
        for metric, value in zip(("cycles", *GAPS), (count, *gaps), strict=True):
            about = {"setting": f"positions {positions}", "method": method, "questions": 200}
            yield {**about, "metric": metric, "value": value}
    blanks = ("0.01", "0.01", "0.25", "0.25", "0.5", "0.5", "0.75", "0.75")
    for blank, (scope, right, questions) in zip(blanks, SCOPES.findall(printed), strict=False):
        about = {"blank": blank, "setting": f"scope {scope}", "method": "birnn-bscd", "questions": questions}
        yield {**about, "metric": "exactly right", "value": right}


def text(value):
    """Numbers with at most four decimals; nothing for None."""
    try:
        # Adding zero makes a plain 0 of -0.
        return f"{round(float(value), 4) + 0.0:.4f}".rstrip("0").rstrip(".") if value not in (None, "") else ""
    except ValueError:
        return value


def merge(path, rows, measured, columns):
    """Replace the rows of the measured runs."""
    with path.open(newline="", encoding="utf-8") as file:
        kept = [row for row in csv.DictReader(file) if row["run"] not in measured]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda row: row["run"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
