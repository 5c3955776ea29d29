"""`python -m pellucid` is `pellucid`."""

import sys


def main() -> None:
    """The command line; Ctrl-C while it is still being imported ends it in words as well."""
    try:
        from .cli import main as command

        command()
    except KeyboardInterrupt:
        print("pellucid: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
