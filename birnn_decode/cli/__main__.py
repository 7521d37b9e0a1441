"""``python -m birnn_decode.cli``."""

from birnn_decode.cli import main

if __name__ == "__main__":
    main()
