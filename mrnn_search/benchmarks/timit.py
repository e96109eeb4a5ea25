"""`timit`: next-frame prediction of read speech, the paper's; and `timit:released`, the task that the paper's figures were measured on.

Facts about the corpus: LDC93S1's ``readme.doc`` (core test set) and Kaldi's ``egs/timit/s5/conf/dev_spk.list`` (development set).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from .._registry import InputError
from .audio import log_magnitude, padded, pieces, samples
from .base import Benchmark, benchmarks
from .data import MissingDataError, cached, data_folder, read_file
from .release import digest_of
from .sources import how_to_get
from .speech import VERSION, NextFrame, splits, standardised

RATE = 16_000  # Hz, of the corpus
SENTENCES = 8  # of each speaker, without the two dialect sentences (SA) that all speakers read

CORE_TEST = frozenset(
    """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0
    fdhc0 mjln0 mpam0 fmld0
    """.split()
)
DEVELOPMENT = frozenset(
    """
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0 mrtk0 mtaa0
    mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0 fjsj0 majc0
    mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
    """.split()
)

_UTTERANCE = re.compile(r"(?P<name>s[aix]\d+)(\.(wav|sph|nist|ph))+", re.IGNORECASE)


@benchmarks.register("timit")
class Timit(NextFrame):
    """TIMIT at 8 kHz, log-magnitude frames (129 bins): 3,640 / 192 / 400 utterances of up to 7.8 s, no speaker in two splits.

    The splits are those of the published figures: validation is the corpus's core test set, test is its development set. Of the 3,696
    training utterances, 3,640 count: the published script drops each whose path contains "sa", meant for the dialect sentences, and so
    loses seven speakers with these letters in their names.
    """

    name = "timit"
    description = "next frame of read speech (log-magnitude, 8 kHz; T up to 490, I 129); needs the licensed corpus"
    published = "3,640 / 192 / 400"
    parameter = "released"
    data_set = "timit"
    licence = "LDC User Agreement (LDC93S1): not to be passed on"
    source = "the user's TIMIT folder: NIST sphere or wav, 16 kHz"
    citation = "Garofolo et al., TIMIT acoustic-phonetic continuous speech corpus LDC93S1, Linguistic Data Consortium, 1993"
    training_speakers = 462
    lost_speakers = 7  # those whose names have "sa" in them

    @classmethod
    def check_argument(cls, argument: str | None) -> None:
        if argument not in (None, "released"):
            raise InputError(f'benchmark timit has one variant, found "timit:{argument}"; allowed: timit, timit:released')

    @classmethod
    def locate(cls, data_dir: Path | None) -> str:
        return str(_corpus(data_folder("timit", data_dir)))

    @classmethod
    def load(cls, data_dir: Path | None) -> Benchmark:
        return cls.load_with(None, data_dir)

    @classmethod
    def load_with(cls, argument: str | None, data_dir: Path | None) -> Benchmark:
        """`timit`; "released": in dB as they are, and inputs and targets change places: the frame before the newest is to be said again.

        So the published files of this task were written (docs/benchmarks-sequences.md), and only so are the paper's figures in reach.
        """
        cls.check_argument(argument)
        corpus = _corpus(data_folder("timit", data_dir))
        parts = cls._utterances(corpus)
        contents = {path: read_file(path, what="speech") for paths in parts.values() for path in paths}
        digest = digest_of(
            {f"{part}/{_speaker(path)}/{path.name.lower()}": contents[path] for part, paths in parts.items() for path in paths}
        )
        if argument == "released":
            raw = cached(["timit", argument, VERSION, digest], lambda: _frames(parts, contents))
            return cls(splits(raw, backwards=True), digest)
        arrays = cached(["timit", VERSION, digest], lambda: standardised(_frames(parts, contents)))
        return cls(splits(arrays), digest, float(arrays["unit"][0]))

    @classmethod
    def _utterances(cls, corpus: Path) -> dict[str, list[Path]]:
        """Part -> its files, one an utterance, sorted by speaker and sentence."""
        train, test = _speakers(_subfolder(corpus, "train")), _speakers(_subfolder(corpus, "test"))
        if len(train) != cls.training_speakers:
            raise InputError(
                f"has {len(train)} speakers; TIMIT's training part has {cls.training_speakers}", str(_subfolder(corpus, "train"))
            )
        both = sorted(train.keys() & test.keys())
        if both:
            raise InputError(f"speaker {both[0]} is in the training part and in the test part", str(corpus))
        parts = {"train": [speaker for speaker in train if "sa" not in speaker]}
        if len(train) - len(parts["train"]) != cls.lost_speakers:
            raise InputError(
                f'has {len(train) - len(parts["train"])} speakers with "sa" in their names; TIMIT has {cls.lost_speakers}', str(corpus)
            )
        for part, wanted in (("validation", CORE_TEST), ("test", DEVELOPMENT)):
            missing = sorted(wanted - test.keys())
            if missing:
                raise InputError(f"has no speaker {', '.join(missing)}, of the {part} split", str(_subfolder(corpus, "test")))
            parts[part] = sorted(wanted)
        everyone = train | test
        return {part: [path for speaker in speakers for path in _sentences(everyone[speaker])] for part, speakers in parts.items()}


def _corpus(folder: Path) -> Path:
    """The folder that has the parts TRAIN and TEST: ``folder`` itself, or TIMIT inside it."""
    for place in (folder, *_folders(folder, "timit")):
        if _folders(place, "train") and _folders(place, "test"):
            return place
    raise MissingDataError(f"has no folders TRAIN and TEST, nor a folder TIMIT with them; {how_to_get('timit')}", str(folder))


def _folders(folder: Path, name: str) -> list[Path]:
    return [path for path in _entries(folder) if path.name.lower() == name and path.is_dir()]


def _subfolder(corpus: Path, part: str) -> Path:
    return _folders(corpus, part)[0]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: (path.name.lower(), path.name))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(folder)) from None


def _speakers(part: Path) -> dict[str, Path]:
    """Speaker in small letters -> folder, sorted; PART/DR1/FCJF0, in any case."""
    found: dict[str, Path] = {}
    for region in _entries(part):
        if re.fullmatch(r"dr[1-8]", region.name.lower()) and region.is_dir():
            for speaker in _entries(region):
                if speaker.is_dir():
                    if speaker.name.lower() in found:
                        raise InputError(f"is there twice; the other one is {found[speaker.name.lower()]}", str(speaker))
                    found[speaker.name.lower()] = speaker
    return dict(sorted(found.items()))


def _speaker(path: Path) -> str:
    return path.parent.name.lower()


def _sentences(speaker: Path) -> list[Path]:
    """The speaker's eight files without the dialect sentences; of an utterance in two formats the shorter name's, the original."""
    found: dict[str, Path] = {}
    for path in sorted(_entries(speaker), key=lambda path: len(path.name)):
        match = _UTTERANCE.fullmatch(path.name)
        if match and not match["name"].lower().startswith("sa"):
            found.setdefault(match["name"].lower(), path)
    if len(found) != SENTENCES:
        names = ", ".join(sorted(found)) or "none"
        raise InputError(f"has {len(found)} utterances (SI and SX) where TIMIT has {SENTENCES}: {names}", str(speaker))
    return [found[name] for name in sorted(found)]


def _frames(parts: Mapping[str, Iterable[Path]], contents: Mapping[Path, bytes]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, paths in parts.items():
        arrays[f"{part}.frames"], arrays[f"{part}.lengths"] = padded(
            [piece for path in paths for piece in pieces(log_magnitude(samples(contents[path], path, RATE), RATE))]
        )
    return arrays
