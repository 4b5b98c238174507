"""``python -m clinimm`` is the command ``clinimm``."""

from clinimm.cli import main

if __name__ == "__main__":
    main()
