"""The command and its groups; a module of this package adds its commands to one of them."""

import typer

app = typer.Typer(
    name="sor-sb3",
    help="Smart order routing: train routers, compare them with the industry's, watch it in TensorBoard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
markets_app = typer.Typer(help="List, show and check markets.", no_args_is_help=True)
app.add_typer(markets_app, name="markets")
