import shutil
from pathlib import Path

import pytest

_ATTENTION = """prefill_chunk,kv_prefill,n_decode,kv_decode,time_us
16,0,0,0,8
16,1024,0,0,30
2048,0,0,0,170
2048,1024,0,0,300
0,0,1,16,8
0,0,1,1024,15
0,0,64,16,23
0,0,64,1024,220
16,0,1,16,8
16,0,1,1024,28
16,0,64,16,52
16,0,64,1024,310
2048,0,1,16,175
2048,0,1,1024,180
2048,0,64,16,336
2048,0,64,1024,570
"""

_DENSE = "layer,tokens,time_us\n" + "".join(
    f"{layer},{tokens},{time}\n"
    for layer, base in (("mlp", 200), ("layernorm", 2), ("embedding", 3))
    for tokens, time in ((1, base), (1024, 3 * base), (2032, 5.8 * base), (2048, 6 * base))
)

_HEAD = "layer,sequences,time_us\nlm_head,1,700\nlm_head,256,830\nsampler,1,25\nsampler,256,164\n"

_META = "gpu: NVIDIA H200\nmodel: meta-llama/Llama-3.1-8B\n"


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A small profile folder that is as it should be."""
    folder = tmp_path / "h200-llama"
    folder.mkdir()
    (folder / "attention.csv").write_text(_ATTENTION)
    (folder / "dense.csv").write_text(_DENSE)
    (folder / "per_sequence.csv").write_text(_HEAD)
    (folder / "meta.yaml").write_text(_META)
    yield folder
    shutil.rmtree(folder)
