"""``recommend`` and ``similar``: rank items by the artifact's factors, and by stored vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import results
from enhancer.cli.formatting import counted
from enhancer.cli.session import JsonFlag, Session, print_json, with_session
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from enhancer.serving import Ranker

_SOMEBODY = "(somebody)"
"""Id of the user that --liked stands for."""
_SHOWN = 5
"""Items of a history that are shown."""
CountFlag = Annotated[int, typer.Option("-k", "--count", min=1, help="Number of items.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("recommend")(with_session(recommend))
    app.command("similar")(with_session(similar))


def recommend(
    session: Session,
    users: Annotated[list[str] | None, typer.Argument(metavar="[USER...]", help="User ids.")] = None,
    k: CountFlag = 10,
    liked: Annotated[
        list[str] | None,
        typer.Option(
            "--liked", metavar="ITEM", help="Instead: recommend to somebody who likes these items, by id or title."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Name the nearest item of the user's history, and by what it is."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Recommend items to users, from the serving artifact, beside what they have.

    With --json, prints an object for one user and a list of objects for several.
    """
    if bool(users) == bool(liked):
        raise ConfigError(
            "recommend takes the ids of users, or --liked ITEM",
            hint='such as: enhancer recommend 42, or: enhancer recommend --liked "Toy Story" --liked "Heat (1995)"',
        )
    with session.opened() as project:
        ranker = project.ranker()
        if liked:
            from enhancer.project.inspecting.titles import item_called

            users = [_SOMEBODY]
            ranker, _ = ranker.with_users({_SOMEBODY: [item_called(item, project.titles) for item in liked]})
        users = users or []
        rankings = [each.to_json() for each in ranker.recommend(users, k=k)]
        for ranking in rankings:
            ranking["history"] = _history(ranker, ranking["user_id"])
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
        typer.echo("\n\n".join(results.ranking(each, _heading(each)) for each in rankings))


def _history(ranker: Ranker, user: str) -> dict[str, Any]:
    """Return the number of items that a user has, and those of them that the model ranks first."""
    seen = ranker.seen(user)
    best = ranker.recommend([user], k=_SHOWN, exclude_seen=False, candidates=seen)[0].items if seen else []
    titled = [(item, ranker.title(item)) for item, _ in best]
    return {
        "count": len(seen),
        "items": [{"item_id": item, **({"title": title} if title else {})} for item, title in titled],
    }


def _heading(ranking: dict[str, Any]) -> str:
    history = ranking["history"]
    told = "; ".join(item.get("title") or item["item_id"] for item in history["items"])
    count = counted(history["count"], "item")
    has = f"who has {count}{', such as' if history['count'] > len(history['items']) else ':'} {told}" if told else ""
    if ranking["user_id"] == _SOMEBODY:
        return f"for somebody {has}"
    return f"for user {ranking['user_id']}{has and ', '}{has}"


def similar(
    session: Session,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Id or title of an item.")],
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
        title = f": {result['title']}" if result.get("title") else ""
        typer.echo(results.ranking(result, f"similar to item {result['item_id']}{title}{named}"))
