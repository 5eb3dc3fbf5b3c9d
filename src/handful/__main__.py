"""``python -m handful``, which torchrun starts processes by: the command ``handful``."""

from handful.cli.main import main

if __name__ == "__main__":
    main()
