"""Train a tokenizer of subwords (byte pair encoding) on files of lines, with Hugging Face's package tokenizers."""

from pathlib import Path

import click
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--pieces", type=click.IntRange(min=100), default=8000, show_default=True, help="Number of subwords.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="tokenizer.json", show_default=True)
def main(files, pieces, out):
    """Train a tokenizer on FILES. Case and symbols are kept; a space belongs to the word after it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=pieces, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train([str(file) for file in files], trainer)
    tokenizer.save(str(out))
    click.echo(f"{out}: {tokenizer.get_vocab_size()} subwords")


if __name__ == "__main__":
    main()
