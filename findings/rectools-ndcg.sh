#!/bin/sh
# RecTools 0.19.0: NDCG@10 of a perfect list is .36 for a user with two relevant items.
#
# By default the ideal list has k relevant items, even if the user has fewer: a list that puts both relevant items first
# reaches (1 + 1/log2 3) / (sum of 1/log2(i+1) for i to 10) = .36. Most libraries divide by the best list that the user
# allows, which gives 1; here that is divide_by_achievable=True. The mean over users with few test items is therefore
# far below that of other libraries on the same lists.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rectools==0.19.0
cat > "$folder/seen" <<'EOF'
by default: 0.359
divide_by_achievable=True: 1.0
EOF
"$folder/venv/bin/python" -W ignore - > "$folder/output" <<'EOF'
import pandas
from rectools.metrics import NDCG

lists = pandas.DataFrame({"user_id": [1] * 10, "item_id": range(10), "rank": range(1, 11)})
test = pandas.DataFrame({"user_id": [1, 1], "item_id": [0, 1]})
print("by default:", round(float(NDCG(k=10).calc(lists, test)), 3))
print("divide_by_achievable=True:", round(float(NDCG(k=10, divide_by_achievable=True).calc(lists, test)), 3))
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
