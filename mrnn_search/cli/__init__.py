"""The command line (layer 6): verbs, progress, tables, exit codes. It calls the layers below and decides nothing itself."""


def main() -> None:
    """Entry point of ``mrnn-search``; ends the process with 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    from .app import app

    app()


__all__ = ["main"]
