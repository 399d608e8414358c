#!/bin/sh
# FlagEmbedding 1.4.2: `FlagModel.encode` passes the first batch through the model twice.
#
# The first pass finds out whether a batch fits into memory, and its vectors are thrown away. With as many texts as a
# batch holds, or fewer, every text is computed twice: a caller that hands over one batch at a time waits twice as long.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check FlagEmbedding==1.4.2 transformers==5.23.0 torch==2.13.0
cat > "$folder/seen" <<'EOF'
10 texts in batches of 32: 20 texts computed
40 texts in batches of 10: 50 texts computed
EOF
"$folder/venv/bin/python" -W ignore - "$folder/model" > "$folder/output" 2> "$folder/errors" <<'EOF' || cat "$folder/errors"
import sys

from FlagEmbedding import FlagModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

folder = sys.argv[1]
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "tea"]
tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
config = BertConfig(
    vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
)
BertModel(config).save_pretrained(folder)

model = FlagModel(folder, use_fp16=False, devices=["cpu"])
seen = []
model.model.register_forward_pre_hook(lambda _, __, given: seen.append(len(given["input_ids"])), with_kwargs=True)
for texts, batch_size in ((10, 32), (40, 10)):
    seen.clear()
    model.encode(["film tea"] * texts, batch_size=batch_size)
    print(f"{texts} texts in batches of {batch_size}: {sum(seen)} texts computed")
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
