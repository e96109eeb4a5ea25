"""How a verb ends: one clear message on stderr and an exit code, never a traceback for wrong input."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

from .._registry import InputError, StudyError

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
DEBUG = "MRNN_SEARCH_DEBUG"  # set to anything: errors come with their traceback

P = ParamSpec("P")
R = TypeVar("R")


def say(message: str) -> None:
    """One line for the reader, on stderr: stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def guarded(verb: Callable[P, R]) -> Callable[P, R]:
    """Decorator of every verb: turns what it raises into a message and an exit code."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except InputError as error:
            say(f"error: {error}")
            raise typer.Exit(WRONG_INPUT) from None
        except StudyError as error:
            say(f"failed: {error}")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                raise typer.Exit(DONE) from None
            wrong = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError, FileNotFoundError)
            if isinstance(error, wrong) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                say(f"error: {error.filename}: {error.strerror}")
                raise typer.Exit(WRONG_INPUT) from None
            return failed(error)
        except Exception as error:
            if isinstance(error, RuntimeError) and type(error).__module__.startswith(("typer", "click")):
                raise  # typer's own way out
            return failed(error)

    return run


def failed(error: Exception) -> NoReturn:
    """The work failed, and not for what the user gave."""
    if os.environ.get(DEBUG):
        raise error
    say(f"failed: {type(error).__name__}: {error}\n(for the traceback: {DEBUG}=1 mrnn-search …)")
    raise typer.Exit(FAILED) from None


def _nobody_reads() -> bool:
    """Has the reader of stdout (head, less) had enough? What is left to write then goes nowhere."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
