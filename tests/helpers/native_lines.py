"""Made-up data sets whose files have a row a line."""

from __future__ import annotations

import json
from pathlib import Path

from native_files import write
from native_plan import (
    ITEMS,
    PLAIN_TAGS,
    START,
    TAGS,
    TITLES,
    TOUCHES,
    USERS,
    iso,
    rows_of,
    touches,
)

# --- films ------------------------------------------------------------------------------------------------------------


def movielens(folder: Path) -> None:
    films = [f"{i + 1}::{TITLES[i]}::{'|'.join(PLAIN_TAGS[i]) or '(no genres listed)'}\n" for i in range(ITEMS)]
    write(folder / "movies.dat", "".join(films), "latin-1")
    write(folder / "users.dat", "".join(f"{u + 1}::F::25::{7 * u % 5}::0000{u}\n" for u in range(USERS)))
    write(folder / "ratings.dat", rows_of(lambda u, i, t: f"{u + 1}::{i + 1}::4::{t}"))
    write(folder / "README", "Of no table.\n")


def in_order(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(tags))


def flags(i: int) -> str:
    names = ("Calm", "Fishing", "Grey", "Sequels")
    return "|".join(str(int(n < len(names) and names[n] in PLAIN_TAGS[i])) for n in range(19))


def ml_100k(folder: Path) -> None:
    films = [f"{i + 1}|{TITLES[i]}|01-Jan-199{i}||http://films/{i}|{flags(i)}\n" for i in range(ITEMS)]
    write(folder / "u.item", "".join(films), "latin-1")
    kinds = ["Calm", "Fishing", "Grey", "Sequels", *(f"kind {n}" for n in range(4, 19))]
    write(folder / "u.genre", "".join(f"{kind}|{n}\n" for n, kind in enumerate(kinds)) + "\n")
    write(folder / "u.user", "".join(f"{u + 1}|2{u}|F|other|0000{u}\n" for u in range(USERS)))
    write(folder / "u.data", rows_of(lambda u, i, t: f"{u + 1}\t{i + 1}\t4\t{t}"))
    for name, part in (("ua.base", slice(USERS, None)), ("ua.test", slice(USERS))):
        rows = rows_of(lambda u, i, t: f"{u + 1}\t{i + 1}\t4\t{t}").splitlines(keepends=True)[part]
        write(folder / name, "".join(rows))


def netflix(folder: Path) -> None:
    titles = [f"{i + 1},{f'199{i}' if i else 'NULL'},{TITLES[i]}\n" for i in range(ITEMS)]
    write(folder / "movie_titles.csv", "".join(titles), "latin-1")
    blocks = []
    for i in range(ITEMS):
        days = [(u, t) for u, item, t in touches() if item == i]
        days = [(u, iso(START + 24 * (t - START), "%Y-%m-%d")) for u, t in days]
        blocks.append(f"{i + 1}:\n" + "".join(f"{u + 1},4,{day}\n" for u, day in days))
    write(folder / "combined_data_1.txt", "".join(blocks))


def hetrec(folder: Path) -> None:
    films = [f"{i + 1}\t{TITLES[i]}\t00{i}\tEs {i}\t199{i}\thttp://x/{i}\t\\N\n" for i in range(ITEMS)]
    header = "id\ttitle\timdbID\tspanishTitle\tyear\timdbPictureURL\trtAllCriticsRating\n"
    write(folder / "movies.dat", header + "".join(films), "latin-1")
    genres = [f"{i + 1}\t{tag}\n" for i in range(ITEMS) for tag in TAGS[i]]
    write(folder / "movie_genres.dat", "movieID\tgenre\n" + "".join(genres))
    rated = rows_of(lambda u, i, t: f"{u + 1}\t{i + 1}\t4.5\t{iso(t, '%d	%m	%Y	%H	%M	%S')}")
    days = "\t".join(f"date_{part}" for part in ("day", "month", "year", "hour", "minute", "second"))
    write(folder / "user_ratedmovies.dat", f"userID\tmovieID\trating\t{days}\n{rated}")


def isbn(i: int) -> str:
    return f"00000000{i}X"


def quoted(*fields: str) -> str:
    return ";".join('"' + field.replace('"', '\\"') + '"' for field in fields) + "\r\n"


def book_crossing(folder: Path) -> None:
    names = ("ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Publisher", "Image-URL-S")
    books = [quoted(isbn(i), TITLES[i], "Nobody", "0", "Rust; Sons", f"http://x/{i}") for i in range(ITEMS)]
    write(folder / "BX-Books.csv", quoted(*names) + "".join(books), "latin-1")
    rated = [quoted(str(u + 1), isbn(i), "0") for u, i, _ in reversed(list(touches()))]
    write(folder / "BX-Book-Ratings.csv", quoted("User-ID", "ISBN", "Book-Rating") + "".join(rated), "latin-1")
    people = [f'"{u + 1}";"nowhere, fog, none";NULL\r\n' for u in range(USERS)]
    write(folder / "BX-Users.csv", quoted("User-ID", "Location", "Age") + "".join(people), "latin-1")


# --- news, videos, music ----------------------------------------------------------------------------------------------


def mind(folder: Path) -> None:
    entities = [json.dumps([{"Label": tag, "Type": "X", "WikidataId": "Q1"} for tag in TAGS[i]]) for i in range(ITEMS)]
    news = [f"N{i}\tnews\tlocal\t{TITLES[i]}\t\thttps://x/{i}\t{entities[i]}\t[]\n" for i in range(ITEMS)]
    write(folder / "news.tsv", "".join(news))
    log = []
    for u in range(USERS):
        read = [(u + step) % ITEMS for step in range(TOUCHES)]
        history = " ".join(f"N{i}" for i in read[:2])
        other = next(i for i in range(ITEMS) if i not in read)
        for step in (3, 2):
            moment = iso(START + 3600 * step, "%m/%d/%Y %I:%M:%S %p")
            log.append(f"{len(log) + 1}\tU{u}\t{moment}\t{history}\tN{other}-0 N{read[step]}-1\n")
    write(folder / "behaviors.tsv", "".join(log))


def kuairec(folder: Path) -> None:
    names = "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name\n"
    videos = []
    for i in range(ITEMS):
        caption = TITLES[i].replace('"', '""')
        videos.append(f'{i},UNKNOWN,"{caption}","[{", ".join(PLAIN_TAGS[i])}]",8,Weather\n')
    write(folder / "kuairec_caption_category.csv", names + "".join(videos))
    names = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    form = "%Y-%m-%d %H:%M:%S.008"
    watched = rows_of(lambda u, i, t: f"{u},{i},9,3,{iso(t, form)},20170714.0,{t}.00{8 - i % 2},3.0")
    again = rows_of(lambda u, i, t: f"{u},{i},1,3,{iso(t, form)},20170714.0,{t}.001,0.3").splitlines(keepends=True)
    write(folder / "big_matrix.csv", names + watched + "".join(again[:5]))


def lastfm(folder: Path) -> None:
    artists = [(f"mb-{i}" if i % 2 else "", TITLES[i]) for i in range(ITEMS)]
    listened = []
    for u, i, t in touches():
        mbid, name = artists[i]
        listened.append(f"user_{u}\t{iso(t, '%Y-%m-%dT%H:%M:%SZ')}\t{mbid}\t{name}\t\tA track\n")
    write(folder / "userid-timestamp-artid-artname-traid-traname.tsv", "".join(listened))


# --- numbers alone ----------------------------------------------------------------------------------------------------


def lightgcn(folder: Path) -> None:
    touched = [[(u + step) % ITEMS for step in range(TOUCHES)] for u in range(USERS)]
    train = [f"{u} {' '.join(map(str, items[:3]))}\n" for u, items in enumerate(touched)]
    write(folder / "train.txt", "".join(train) + f"{USERS}\n")
    test = [f"{u} {items[3]} \n" for u, items in enumerate(touched)]
    write(folder / "test.txt", "".join(test) + f"{USERS} \n")
    write(folder / "item_list.txt", "org_id remap_id\n" + "".join(f"B{i} {i}\n" for i in range(ITEMS)))
    write(folder / "items.csv", "item_id,title\n" + "".join(f'{i},"{csv(TITLES[i])}"\n' for i in range(ITEMS)))


def csv(text: str) -> str:
    return text.replace('"', '""')


def recbole(folder: Path) -> None:
    films = "item_id:token\ttitle:token_seq\ttags:token_seq\n"
    for i in range(ITEMS):
        title = f'"{csv(TITLES[i])}"' if '"' in TITLES[i] else TITLES[i]
        films += f"{i + 1}\t{title}\t{' '.join(PLAIN_TAGS[i])}\n"
    write(folder / "made-up.item", films)
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    write(folder / "made-up.inter", header + rows_of(lambda u, i, t: f"{u + 1}\t{i + 1}\t4.0\t{t}.0"))
