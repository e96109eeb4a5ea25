"""A miniature of the TIMIT corpus, written byte by byte in its formats."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

RATE = 16_000
TRAINING = ("fcjf0", "mdac0", "fsah0")  # the last one has "sa" in its name
CORE_TEST = ("mdab0",)
DEVELOPMENT = ("faks0",)
OTHERS = ("fadx0",)  # in the test part, and in no split
SENTENCES = ("sa1", "sa2", "si1027", "si1657", "si648", "sx115", "sx127", "sx217", "sx307", "sx37")
USED = SENTENCES[2:]


def wave(speaker: str, sentence: str) -> np.ndarray:
    """What the speaker says: noise, another one for each utterance, 700 to 1,100 samples."""
    random = np.random.RandomState(sum(map(ord, speaker + sentence)))
    return random.randint(-3000, 3000, 700 + random.randint(400)).astype("<i2")


def sphere(samples: np.ndarray, rate: int = RATE, count: int | None = None, extra: str = "", order: str = "01") -> bytes:
    """A NIST sphere file: 1,024 bytes of header, then the samples."""
    header = (
        "NIST_1A\n   1024\ndatabase_id -s5 TIMIT\ndatabase_version -s3 1.0\nutterance_id -s8 cjf0_sa1\nchannel_count -i 1\n"
        f"sample_count -i {len(samples) if count is None else count}\nsample_rate -i {rate}\nsample_min -i -3000\nsample_max -i 2999\n"
        f"sample_n_bytes -i 2\nsample_byte_format -s2 {order}\nsample_sig_bits -i 16\n{extra}end_head\n"
    )
    return header.encode().ljust(1024, b"\0") + samples.astype("<i2" if order == "01" else ">i2").tobytes()


def riff(samples: np.ndarray, rate: int = RATE, channels: int = 1, bits: int = 16, kind: int = 1, between: bytes = b"") -> bytes:
    """A RIFF wav file; ``between``: chunks before the data."""
    data, frame = samples.tobytes(), channels * bits // 8
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * frame, frame, bits)
    body = b"WAVE" + head + between + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def build(folder: Path, upper: bool = False, form: str = "sphere") -> Path:
    """The corpus under ``folder``; ``upper``: names in capitals, as on the CD."""
    for part, speakers in (("train", TRAINING), ("test", (*CORE_TEST, *DEVELOPMENT, *OTHERS))):
        for number, speaker in enumerate(speakers, 1):
            for sentence in SENTENCES:
                relative = f"{part}/dr{number}/{speaker}/{sentence}.wav"
                path = folder / (relative.upper() if upper else relative)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((sphere if form == "sphere" else riff)(wave(speaker, sentence)))
                path.with_suffix(".TXT" if upper else ".txt").write_text("0 1000 She had your dark suit.\n")
    return folder
