from __future__ import annotations

import pytest

from enhancer.config import ColumnsConfig
from enhancer.data import read_entities
from enhancer.errors import ConfigError, DataError


@pytest.fixture
def read(tmp_path):
    def read(content, kind="item", name="items.csv", max_text=4000, **columns):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return list(read_entities(path, kind, ColumnsConfig(**columns), max_text))

    return read


def test_text_is_every_other_column_with_its_name(read):
    (one,) = read("item_id,title,year,note\n 7 ,Heat,1995,\n")
    assert (one.kind, one.id, one.title) == ("item", "7", "Heat")
    assert one.text == "title: Heat\nyear: 1995"
    assert one.fields == {"title": "Heat", "year": "1995", "note": ""}


def test_text_columns_may_be_chosen(read):
    (one,) = read("sku,name,price,about\nA1,Lamp,9,bright\n", item_id="sku", item_text=["about", "name"])
    assert one.text == "about: bright\nname: Lamp"
    assert one.title == "Lamp"
    assert one.fields["price"] == "9"


def test_users_have_their_own_columns(read):
    (one,) = read("user_id,age,bio\nu1,33,likes tea\n", kind="user", user_text=["bio"])
    assert (one.kind, one.id, one.text) == ("user", "u1", "bio: likes tea")


def test_recbole_items_need_no_mapping(read):
    head = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    (one,) = read(head + "1\tToy Story\t1995\tAnimation Children's\n", name="ml.item")
    assert one.title == "Toy Story"
    assert one.text == "movie_title: Toy Story\nrelease_year: 1995\nclass: Animation Children's"


def test_long_text_is_cut_and_line_breaks_are_spaces(read):
    (one,) = read(f'item_id,text\n1,"a\n\n  b {"x" * 10_000_000}"\n', max_text=50)
    assert one.text.startswith("text: a b xxx")
    assert len(one.text) == 50
    assert len(one.fields["text"]) == 50


def test_an_id_may_come_again_with_the_same_text(read):
    assert [e.id for e in read("item_id,title\n1,A\n2,B\n1,A\n1, A \n")] == ["1", "2"]


def test_an_id_may_not_come_again_with_other_text(read):
    with pytest.raises(DataError, match=r"items.csv, line 4, column 'item_id': '1' occurs again") as caught:
        read("item_id,title\n1,A\n2,B\n1,C\n")
    assert caught.value.exit_code == 1


def test_the_id_may_be_part_of_the_text(read):
    (one,) = read("item_id,title\n1,A\n", item_text=["item_id", "title"])
    assert one.text == "item_id: 1\ntitle: A"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": "itemid"}, r"no column 'itemid'.*item_id.*did you mean 'item_id'"),
        ({"item_text": ["titel"]}, r"no column 'titel'.*item_text.*did you mean 'title'"),
        ({"title": "nam"}, r"no column 'nam'"),
        ({"item_id": ""}, r"item_id is empty"),
        ({"item_text": []}, r"item_text names no column"),
    ],
)
def test_a_column_mapped_to_nothing(read, columns, message):
    with pytest.raises(ConfigError, match=message):
        read("item_id,title\n1,A\n", **columns)


def test_a_table_of_ids_alone(read):
    with pytest.raises(ConfigError, match="no column besides 'item_id'"):
        read("item_id\n1\n")


def test_reading_is_a_stream(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\n" + "".join(f"{n},T{n}\n" for n in range(5000)) + "1,other\n")
    stream = read_entities(path, "item", ColumnsConfig(), 100)
    assert next(stream).id == "0"  # although the last line is invalid
    with pytest.raises(DataError, match="line 5002"):
        list(stream)
