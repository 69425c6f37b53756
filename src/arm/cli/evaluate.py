"""`arm eval`: the world's benchmarks, comparisons on them, and the published benchmarks."""

from pathlib import Path
from typing import Annotated

import typer

from arm.cli.options import (
    Decoder,
    JsonFile,
    Model,
    Seed,
    load,
    quiet,
    write_json_file,
)
from arm.errors import InputError, did_you_mean
from arm.files import write_picture

OWN = ("world", "decoders", "sweep", "guidance", "tokenizer")
PAINTING = ("decoders", "guidance", "tokenizer")
"""Those that write a sheet of pictures to --out."""


def evaluate(
    benchmark: Annotated[
        str,
        typer.Argument(
            help="world, decoders, sweep, guidance, tokenizer, or a published one; 'list' shows all."
        ),
    ],
    model: Model = "micro",
    decoder: Decoder = None,
    json_file: JsonFile = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures and replies.")] = Path("eval"),
    into: Annotated[
        list[Path] | None,
        typer.Option(help="Fill the block <!-- scores --> or <!-- decoders --> of this file."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small sample, with wide intervals.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with a published benchmark's files; tokenizer: of pictures."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder with the benchmark's own pictures (default: --data)."),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Score this folder of another system's pictures.")
    ] = None,
    judge_url: Annotated[str | None, typer.Option(help="As http://127.0.0.1:8000/v1.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge's pinned model.")] = None,
    judge_answers_as: Annotated[
        str | None,
        typer.Option(help="The model's name in the judge's replies, where it is another."),
    ] = None,
    judge_max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="The longest answer of the judge (default: its authors')."),
    ] = None,
    judge_tokens_field: Annotated[
        str | None,
        typer.Option(help="max_tokens or max_completion_tokens (default: learned by asking)."),
    ] = None,
    judge_temperature: Annotated[
        str | None,
        typer.Option(help="The judge's; 'none' leaves it out (default: its authors')."),
    ] = None,
    judge_thinking: Annotated[
        bool | None,
        typer.Option(
            "--judge-thinking/--no-judge-thinking",
            help="Whether a judge that can think does (default: its authors').",
        ),
    ] = None,
    logprobs: Annotated[
        bool,
        typer.Option("--logprobs", help="Ask for the judge's probability of yes; not all give it."),
    ] = False,
    ask_again: Annotated[
        bool, typer.Option("--ask-again", help="Ask again what the judge answered unreadably.")
    ] = False,
    detector: Annotated[
        str | None,
        typer.Option(help="geneval: a Mask2Former, OWLv2 or Grounding DINO, folder or hub id."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="geneval: a CLIP that names colours, folder or hub id.")
    ] = None,
    extractor: Annotated[
        str | None, typer.Option(help="tokenizer: vision model for rFID, folder or hub id.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The first items alone, as a trial.")
    ] = None,
    known_words: Annotated[
        bool, typer.Option("--known-words", help="Leave out words that the model does not know.")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="A published one: pictures or answers made together.")
    ] = 1,
    shard: Annotated[
        str | None, typer.Option(help="I/N: make the items of one of N processes; score none.")
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(help="Of a million tokens that the judge reads.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="Of a million tokens that the judge writes.")
    ] = None,
    tokens_per_image: Annotated[
        int | None, typer.Option(min=1, help="Instead of the rule of 512-pixel tiles.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a judge is paid.")] = False,
    seed: Seed = 2026,
) -> None:
    """Score a model; prints a table with 95 % intervals."""
    with quiet():
        from arm.evals.benchmarks.registry import BENCHMARKS

        published = tuple(BENCHMARKS)
    if benchmark == "list":
        for name in (*OWN, *published):
            typer.echo(name)
        return
    known = (*OWN, *published)
    if benchmark not in known:
        raise InputError(
            f"there is no benchmark '{benchmark}'; there are {', '.join(known)}.{did_you_mean(benchmark, known)}"
        )
    if benchmark in published:
        if data is None:
            raise InputError(f"{benchmark} needs its authors' files: name their folder with --data")
        if quick or into:
            raise InputError(
                f"--quick and --into belong to the world's benchmarks; a sample of {benchmark} is --limit N"
            )
        from arm.cli.judged import JudgeOptions, judge_config, judge_prices
        from arm.cli.published import Wanted, run
        from arm.evals.making import Settings, parse_shard

        wanted = Wanted(
            model, decoder, data, images or data, pictures, out,
            Settings(seed, limit, known_words, batch),
            None if shard is None else parse_shard(shard),
            judge_config(
                JudgeOptions(
                    judge_url, judge_model, judge_answers_as, judge_max_tokens, judge_tokens_field,
                    judge_temperature, judge_thinking, logprobs, ask_again,
                ),
                BENCHMARKS[benchmark].asking,
                out,
            ),
            judge_prices(price_in, price_out),
            tokens_per_image, yes, json_file, detector, clip,
        )  # fmt: skip
        run(benchmark, wanted)
        return
    with quiet():
        from arm.evals import report as report_tables
        from arm.files import make_folder

    # What cannot be written is said before an hour of work, not after it.
    for path in into or []:
        report_tables.check_block(path, benchmark)
    if benchmark in PAINTING:
        make_folder(out)
    if benchmark == "tokenizer":
        _tokenizer(model, decoder, data, extractor, limit, known_words, out, json_file)
        return
    arm = load(model, decoder)
    with quiet():
        from dataclasses import replace

        from arm.evals import decoders, guidance, sweep, world

        size = world.quick(seed) if quick else replace(world.Size(), seed=seed)

        def report(part: str) -> None:
            typer.echo(f"{part} ...", err=True)

        if benchmark == "world":
            result = world.evaluate(arm, size, report)
        elif benchmark == "sweep":
            result = sweep.sweep(arm, size, report)
        elif benchmark == "guidance":
            result = guidance.measure(arm, out, size, report)
        else:
            result = decoders.compare(arm, out, count=32 if quick else 128, seed=seed)
        report_tables.print_scores(result)
    write_json_file(result, json_file)
    for path in into or []:
        report_tables.fill_scores(path, benchmark, result)


def _tokenizer(
    model: str,
    decoder: str | None,
    data: Path | None,
    extractor: str | None,
    limit: int | None,
    known_words: bool,
    out: Path,
    json_file: Path | None,
) -> None:
    """What survives of the pictures of a folder, and a sheet of some of them."""
    if data is None:
        raise InputError("tokenizer needs a folder of pictures: name it with --data")
    with quiet():
        from arm.evals import report as report_tables
        from arm.evals import tokenizer_metrics

        features = None if extractor is None else tokenizer_metrics.load_extractor(extractor)
        arm = load(model, decoder)
        result = tokenizer_metrics.evaluate(
            arm, data, features, limit, known_words, lambda line: typer.echo(line, err=True)
        )
    result["decoder"] = decoder or arm.defaults.detokenizer
    broken = result["passed_over"]
    for why in list(broken.values())[:1]:
        typer.echo(f"{len(broken):,} pictures passed over, as {why}", err=True)
    report_tables.print_scores({k: v for k, v in result.items() if k != "passed_over"})
    if extractor is not None:
        typer.echo(tokenizer_metrics.RFID_NOTE)
    write_json_file(result, json_file)
    with quiet():
        drawn = tokenizer_metrics.reconstruction_sheet(arm, data)
    write_picture(drawn, out / "reconstructions.png")
    typer.echo(f"{out / 'reconstructions.png'} written", err=True)
