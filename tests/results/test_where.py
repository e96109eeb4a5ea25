"""Rows by an expression: what pandas' own query keeps, and nothing that it could be made to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mrnn_search as ms
from mrnn_search.results.where import LONGEST, matching

FRAME = pd.DataFrame(
    {
        "base": pd.Series(["lstm", "gru", "rnn", "lstm", None], dtype="str"),
        "lr": pd.Series([0.1, np.nan, 0.3, -1.0, 0.0], dtype="float64"),
        "epochs": pd.Series([3, 8, 8, 1, 0], dtype="int64"),
        "params": pd.Series([100, 200, None, 300, 100], dtype="Int64"),
        "is_baseline": pd.Series([True, False, False, True, False], dtype="bool"),
        "started": pd.to_datetime(pd.Series(["2026-01-01 00:00", "2026-02-01 12:00", None, "2026-03-01 00:00", "2025-12-31 00:00"])).astype(
            "datetime64[us]"
        ),
    }
)

NUMBERS = st.sampled_from(["0", "8", "100", "0.1", "-1", "+3", "1e2", "250.5"])
NUMERIC = st.sampled_from(["lr", "epochs", "params"])
ORDERS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
TEXTS = st.sampled_from(["'lstm'", '"gru"', "'x y'", "''"])
LEAVES = st.one_of(
    st.builds("{} {} {}".format, NUMERIC, ORDERS, st.one_of(NUMBERS, NUMERIC)),
    st.builds("{} {} {}".format, NUMBERS, ORDERS, NUMERIC),
    st.builds("base {} {}".format, st.sampled_from(["==", "!="]), TEXTS),
    st.builds("base {} [{}]".format, st.sampled_from(["in", "not in"]), st.lists(TEXTS, min_size=1, max_size=3).map(", ".join)),
    st.builds("epochs {} [{}]".format, st.sampled_from(["in", "not in"]), st.lists(NUMBERS, min_size=1, max_size=3).map(", ".join)),
    st.builds("{} < {} <= {}".format, NUMBERS, st.sampled_from(["lr", "epochs"]), NUMBERS),
    st.sampled_from(["is_baseline", "is_baseline == True", "started > '2026-01-15'", "lr == lr"]),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("not ({})".format, inner),
        st.builds("{} and {} or {}".format, LEAVES, LEAVES, LEAVES),
    ),
    max_leaves=5,
)


@settings(max_examples=150)
@given(EXPRESSIONS)
@example("base == 'lstm' and epochs < 8")
@example("not (params > 100)")
@example("not is_baseline and lr != 0.3")
def test_it_keeps_the_rows_that_pandas_keeps(where: str) -> None:
    pd.testing.assert_frame_equal(matching(FRAME, where), FRAME.query(where, engine="python"))


def test_missing_values_are_neither_smaller_nor_larger() -> None:
    assert matching(FRAME, "lr < 1 or lr >= 1").index.tolist() == [0, 2, 3, 4]
    assert matching(FRAME, "lr == lr").index.tolist() == [0, 2, 3, 4]
    assert matching(FRAME, "params == params").index.tolist() == [0, 1, 3, 4]
    assert matching(FRAME.iloc[:0], "lr < 1 and is_baseline").empty


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("bas == 'lstm'", 'unknown column "bas"; allowed: .*; did you mean "base"'),
        ("base == lstm", 'unknown column "lstm"'),
        ("base == ", "invalid syntax"),
        ("", "invalid syntax"),
        ("1", "neither true nor false of a row"),
        ("lr", "neither true nor false of a row"),
        ("[1, 2]", "neither true nor false of a row"),
        ("1 < 2", "it names no column"),
        ("base < 3", "compares a text with a number"),
        ("lr == 'a'", "compares a number with a text"),
        ("is_baseline > False", "neither truth value is the larger one"),
        ("lr + 1 > 2", "it is none of these"),
        ("base == 'a' & lr > 1", 'write "and" and "or"'),
        ("(base == 'a') | (lr > 1)", 'write "and" and "or"'),
        ("base is 'a'", 'write "==" and "!="'),
        ("base in 'lstm'", "in takes a column and a list"),
        ("base in [1]", "a text is looked for among what is not"),
        ("base.str.len() > 3", "nothing is called or looked up here"),
        ("len(base) > 3", "nothing is called or looked up here"),
        ("started > 'soon'", "'soon' is no time"),
        ("@pd.eval('1')", "cannot read"),
        ("lr := 3", "cannot read"),
        ("lr > 1; import os", "cannot read"),
        ("(lambda: 1)() == lr", "nothing is called"),
        ("lr == None", "it is none of these"),
        ("lr == 3j", "it is none of these"),
        ("-base == 'a'", "it is none of these"),
        ("lr > 1\0", "cannot read"),
        ("lr == " + "(" * 500 + "1" + ")" * 500, "cannot read"),
        ("not " * 2000 + "is_baseline", "nested too deep"),
        ("lr > 0 or " * 2000 + "lr > 0", f"allowed {LONGEST}"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(where: str, told: str) -> None:
    with pytest.raises(ms.InputError, match=told) as caught:
        matching(FRAME, where, "--where")
    assert str(caught.value).startswith("--where: ") and len(str(caught.value)) < 1000


@settings(max_examples=200)
@given(st.text(alphabet="abeslrtumi_pch ()[]'\"=<>!.,:@`~&|+-*/%0123\n", max_size=40))
def test_any_text_is_an_expression_or_an_input_error(where: str) -> None:
    try:
        kept = matching(FRAME, where)
    except ms.InputError:
        return
    assert set(kept.index) <= set(FRAME.index)


@pytest.mark.parametrize(
    "where", ["__import__('os').system('touch pwned')", "[base for base in [open('pwned', 'w')]]", "f\"{open('pwned', 'w')}\" == base"]
)
def test_no_code_is_run(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ms.InputError):
        matching(FRAME, where)
    assert list(tmp_path.iterdir()) == []


def test_the_tables_of_a_study_take_it(fake_study: ms.Study) -> None:
    board = fake_study.leaderboard(where="not is_baseline and hidden_size >= 32")
    assert len(board) and not board["is_baseline"].any() and list(board.columns) == list(fake_study.leaderboard().columns)
    trials = fake_study.trials(where="base == 'lstm' and state in ['COMPLETE', 'PRUNED']")
    assert set(trials["base"]) == {"lstm"} and set(trials["state"]) <= {"COMPLETE", "PRUNED"}
    assert set(fake_study.curves(where="metric == 'train_loss'")["metric"]) == {"train_loss"}
    with pytest.raises(ms.InputError, match='where: unknown column "bse".*did you mean "base"'):
        fake_study.trials(where="bse == 'lstm'")
