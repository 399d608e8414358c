#!/bin/sh
# MLflow 3.17.2: "@" in the name of a metric is refused.
#
# "ndcg@10" and "recall@20" are how the field writes metrics with a cut-off. MLflow accepts letters, digits,
# underscores, dashes, periods, spaces, colons and slashes, and raises an exception for the rest.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlflow-skinny==3.17.2 sqlalchemy alembic
cat > "$folder/seen" <<'EOF'
ndcg_at_10: accepted
ndcg/10: accepted
ndcg@10: MlflowException
EOF
cd "$folder"
"$folder/venv/bin/python" -W ignore - > "$folder/output" 2> "$folder/log" <<'EOF'
import mlflow

mlflow.set_tracking_uri("sqlite:///runs.db")
with mlflow.start_run():
    for name in ("ndcg_at_10", "ndcg/10", "ndcg@10"):
        try:
            mlflow.log_metric(name, 0.5)
            print(f"{name}: accepted")
        except mlflow.MlflowException as error:
            print(f"{name}: {type(error).__name__}")
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
