"""``recommend`` and ``similar``: vectors alone, no LLM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import tables
from enhancer.cli.session import JsonFlag, Session, print_json, with_session

if TYPE_CHECKING:
    from collections.abc import Sequence

CountFlag = Annotated[int, typer.Option("-k", "--count", min=1, help="How many.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("recommend")(with_session(recommend))
    app.command("similar")(with_session(similar))


def recommend(
    session: Session,
    users: Annotated[list[str], typer.Argument(metavar="USER...", help="User ids.")],
    k: CountFlag = 10,
    as_json: JsonFlag = False,
) -> None:
    """Show the best items for users, from the artifact.

    JSON: an object for one user, a list of them for several.
    """
    results = [_dictionary(each) for each in _each(session.project().recommend(users, k))]
    if as_json:
        print_json(results[0] if len(users) == 1 else results)
    else:
        typer.echo("\n\n".join(tables.ranking(each, f"for user {each['user_id']}") for each in results))


def similar(
    session: Session,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Item id.")],
    k: CountFlag = 10,
    as_json: JsonFlag = False,
) -> None:
    """Show the items nearest to one."""
    result = _dictionary(session.project().similar(item, k))
    if as_json:
        print_json(result)
    else:
        typer.echo(tables.ranking(result, f"like item {result['item_id']}"))


def _each(results: Any) -> Sequence[Any]:
    return results if isinstance(results, list | tuple) else [results]


def _dictionary(result: Any) -> dict[str, Any]:
    return dict(result.to_json()) if hasattr(result, "to_json") else dict(result)
