#!/bin/sh
# torchmetrics 1.9.0: RetrievalMAP(top_k=5) of a list that finds one of ten relevant items is 1.
#
# Precision is averaged over the relevant items within the first k, not over all that the user has. A list with one of
# ten relevant items, at rank 1, therefore scores as high as one with five of them, and a list that finds a second one
# further down scores lower. Without top_k all relevant items are found, and the value is the usual one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0
cat > "$folder/seen" <<'EOF'
relevant at ranks 1 to 5: 1.0
relevant at rank 1: 1.0
relevant at ranks 1 and 5: 0.7
EOF
"$folder/venv/bin/python" -W ignore - > "$folder/output" <<'EOF'
import torch
from torchmetrics.retrieval import RetrievalMAP

scores, user = torch.linspace(1, 0, 20), torch.zeros(20, dtype=torch.long)
for name, found in (("s 1 to 5", [0, 1, 2, 3, 4]), (" 1", [0]), ("s 1 and 5", [0, 4])):
    relevant = torch.zeros(20, dtype=torch.bool)
    relevant[found] = True
    relevant[10 : 20 - len(found)] = True  # ten in all, the others behind rank 10
    assert relevant.sum() == 10
    value = float(RetrievalMAP(top_k=5)(scores, relevant, indexes=user))
    print(f"relevant at rank{name}:", round(value, 3))
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
