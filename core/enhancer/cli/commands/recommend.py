"""``recommend`` and ``similar``: rank items by the artifact's factors, and by stored vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from enhancer.cli import results
from enhancer.cli.session import JsonFlag, Session, print_json, with_session

CountFlag = Annotated[int, typer.Option("-k", "--count", min=1, help="Number of items.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("recommend")(with_session(recommend))
    app.command("similar")(with_session(similar))


def recommend(
    session: Session,
    users: Annotated[list[str], typer.Argument(metavar="USER...", help="User ids.")],
    k: CountFlag = 10,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Name the nearest item of the user's history, and by what it is."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Recommend items to users, from the serving artifact.

    With --json, prints an object for one user and a list of objects for several.
    """
    with session.opened() as project:
        ranker = project.ranker()
        rankings = [each.to_json() for each in ranker.recommend(users, k=k)]
        for ranking in rankings if explain else ():
            known = [item["item_id"] for item in ranking["items"]]
            found = project.explain(ranking["user_id"], known, ranker=ranker)
            for item, reason in zip(ranking["items"], found, strict=True):
                item["beside"] = None if reason is None else reason.to_json()
        for item in (item for ranking in rankings for item in ranking["items"]):
            if title := ranker.title(item["item_id"]):
                item["title"] = title
            if ranker.new_items.share.active and ranker.is_new(item["item_id"]):
                item["new"] = True
    if as_json:
        print_json(rankings[0] if len(users) == 1 else rankings)
    else:
        typer.echo("\n\n".join(results.ranking(each, f"for user {each['user_id']}") for each in rankings))


def similar(
    session: Session,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Item id.")],
    k: CountFlag = 10,
    by: Annotated[
        str | None, typer.Option("--by", help="Compare by one note, such as mood; by default by all inputs.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the items whose stored vectors are nearest to an item's."""
    with session.opened() as project:
        result = project.similar(item, k, by=by).to_json()
    if as_json:
        print_json(result)
    else:
        named = "" if by is None else f" by {by}"
        typer.echo(results.ranking(result, f"similar to item {result['item_id']}{named}"))
