#!/bin/sh
# LanceDB 0.40.0: a cosine search leaves out rows with a zero vector.
#
# A table of three rows, searched without an index for its three nearest rows, returns two by cosine and three by
# dot product or L2. The row with a zero vector, whose cosine is undefined, is missing without a message.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lancedb==0.40.0 pyarrow==26.0.1
cat > "$folder/seen" <<'EOF'
cosine: exact, near
dot: exact, near, none
l2: exact, near, none
EOF
cd "$folder"
"$folder/venv/bin/python" - > "$folder/output" <<'EOF'
import lancedb
import pyarrow

vectors = pyarrow.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 0]], pyarrow.list_(pyarrow.float32(), 3))
rows = pyarrow.table({"id": ["exact", "near", "none"], "vector": vectors})
table = lancedb.connect("database").create_table("items", rows)
for metric in ("cosine", "dot", "l2"):
    found = table.search([1.0, 0.0, 0.0]).distance_type(metric).limit(3).to_list()
    print(f"{metric}:", ", ".join(row["id"] for row in found))
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
