#!/bin/sh
# LensKit 2025.8.1: a hit at rank 2 is worth as much as one at rank 1 in NDCG.
#
# The discount is 1 / max(log2 rank, 1), as in Järvelin & Kekäläinen 2002, so ranks 1 and 2 both count in full. Most
# libraries of recommenders discount by 1 / log2(rank + 1). With one relevant item (leave-one-out), NDCG@5 of a list
# that has it second is 1 instead of .63, and swapping the first two items changes nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lenskit==2025.8.1
cat > "$folder/seen" <<'EOF'
relevant item at rank 1: 1.0
relevant item at rank 2: 1.0
relevant item at rank 3: 0.631
EOF
"$folder/venv/bin/python" -W ignore - > "$folder/output" <<'EOF'
from lenskit.data import ItemList
from lenskit.metrics import NDCG

test = ItemList(item_ids=[7])
for rank, items in enumerate([[7, 1, 2, 3, 4], [1, 7, 2, 3, 4], [1, 2, 7, 3, 4]], start=1):
    found = NDCG(5).measure_list(ItemList(item_ids=items, ordered=True), test)
    print(f"relevant item at rank {rank}:", round(float(found), 3))
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
