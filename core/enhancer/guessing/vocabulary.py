"""Words that names of columns consist of."""

from __future__ import annotations


def in_order(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return tuple(text.split())


def words(text: str) -> frozenset[str]:
    """Return the set of words of a text."""
    return frozenset(in_order(text))


PEOPLE = words(
    "user customer reviewer member account visitor reader profile person client player listener viewer student "
    "learner patient subscriber shopper buyer patron consumer rater voter borrower guest household uid login "
    "nick nickname people msno users traveler traveller commenter follower"
)
"""Words for who interacts."""
MAKERS = words(
    "author authors seller creator owner publisher uploader vendor writer director actor editor artist "
    "developer host maker manufacturer brand teacher instructor chef"
)
"""Words for who makes or offers an item: a column of theirs does not name users."""
STAND_INS = words("session device cookie visit author host owner")
"""Words for what stands for a person where no column names one."""
THINGS = in_order(
    "item movie film product article book track song video business listing game anime news recipe title app "
    "course artist album show content post job ad place venue restaurant hotel poi location paper document doc "
    "story series music podcast episode event store shop offer goods beer wine dish joke photo image toy sku "
    "manga lesson lecture program station brand creative work original clip"
)
"""Words for what is recommended; earlier ones take precedence."""
EVENTS = words(
    "review rating order transaction interaction row log record click impression request purchase invoice "
    "basket comment checkin vote tip query search line index"
)
"""Words for the interaction itself: the ids of these are neither of users nor of items."""
MARKS = words("id ids uuid guid asin isbn sku ean upc gtin barcode issn gtin13")
"""Words that end the name of an identifier."""
NAMES_OF_PEOPLE = words("name login handle key hash")
NO_IDS = words(
    "paid unpaid prepaid grid valid invalid void avoid said solid liquid rapid hybrid android fluid acid kid "
    "lid raid braid maid squid covid druid vivid humid orchid pyramid asteroid timid candid splendid rigid "
    "lucid arid plaid did bid amid eyelid steroid morbid stupid placid mermaid polaroid euclid"
)
"""English words that end in *id* and name no identifier."""
COUNTS = words("count counts cnt num number n nb no total amount sum")
AVERAGES = words("average avg mean median bayes bayesian weighted overall")
OPINIONS = words("rating ratings stars star score scores scored rate rated vote votes voted review reviews")
"""Words for opinions, which people give to items."""
MEANS = words("rating stars star score rate vote")
"""Words for opinions that are not of one person in a table of items: their mean."""
USES = words(
    "interactions interaction views view viewed plays play played listens listeners scrobbles clicks click "
    "clicked downloads download purchases purchase purchased orders sales sale sold likes like liked dislikes "
    "favorites favourites favorite favourite bookmarks installs install installed subscribers subscriptions "
    "owners owned owning wishlisted wishing checkins checkin comments comment recommendations recommends "
    "watchers watches watched members followers fans customers students enrolled enrollments hits enrolments "
    "visits shares reads buyers bought users user readers raters impressions voters reviewers borrowed loans "
    "rentals retweets upvotes downvotes helpful tips watch wishlist wishlists wanting wanted wants trading buy "
    "buying viewing"
)
"""Words for uses of items, whose number is a popularity."""
POPULARITY = words("popularity popular rank ranking ranked bestseller bestsellers trending hotness")
FILLERS = words(
    "all user users total positive negative recent text work works of the per by daily weekly monthly lifetime "
    "unique global overall percent ratio share item log movie book product game video anime app song track in "
    "for up down estimated people number"
)
TOGETHER = words("also after together related similar alike neighbors neighbours")
"""Words for lists of items that were chosen together, such as ``also_bought``."""
DATES = words(
    "year years date month day time released release published publication since created updated birth born "
    "timestamp ts datetime week hour"
)
"""Words for years and dates."""
