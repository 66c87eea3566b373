"""``llmserving-lab``: simulated device, virtual-time bench, embedded cluster and demo in one command."""

import typer

app = typer.Typer(
    name="llmserving-lab",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Try, measure and demonstrate LLMServing on a machine without a GPU.",
)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
