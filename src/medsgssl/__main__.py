"""Run the command line with ``python -m medsgssl``."""

from medsgssl.cli.app import main

if __name__ == "__main__":
    main()
