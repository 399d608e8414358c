"""``recommend`` and ``similar``: vectors alone, no LLM."""

from __future__ import annotations

from typing import Annotated

import typer

from enhancer.cli import tables
from enhancer.cli.session import JsonFlag, Session, print_json, with_session

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
    with session.opened() as project:
        ranker = project.ranker()
        results = [each.to_json() for each in ranker.recommend(users, k=k)]
        for item in (item for result in results for item in result["items"]):
            if title := ranker.title(item["item_id"]):
                item["title"] = title
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
    with session.opened() as project:
        result = project.similar(item, k).to_json()
    if as_json:
        print_json(result)
    else:
        typer.echo(tables.ranking(result, f"like item {result['item_id']}"))
