#!/bin/sh
# DuckDB 2.0.1: a zero vector tops a descending ranking by cosine.
#
# The cosine of a zero vector is undefined, and array_cosine_similarity returns NaN for it. NaN sorts above every
# number, so ORDER BY similarity DESC puts the row without a meaning first. Sorted by distance, ascending, it is last.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1
cat > "$folder/seen" <<'EOF'
similarity, descending: none nan, exact 1.0, near 0.6
distance, ascending: exact 0.0, near 0.4, none nan
EOF
"$folder/venv/bin/python" - > "$folder/output" <<'EOF'
import duckdb

connection = duckdb.connect()
connection.execute("CREATE TABLE items (id TEXT, vector FLOAT[3])")
connection.execute("INSERT INTO items VALUES ('exact', [1, 0, 0]), ('near', [0.6, 0.8, 0]), ('none', [0, 0, 0])")
for name, function, order in (("similarity", "similarity", "DESC"), ("distance", "distance", "ASC")):
    rows = connection.execute(
        f"SELECT id, array_cosine_{function}(vector, [1, 0, 0]::FLOAT[3]) AS score FROM items ORDER BY score {order}"
    ).fetchall()
    print(f"{name}, {order.lower()}ending:", ", ".join(f"{id} {round(score, 3)}" for id, score in rows))
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
