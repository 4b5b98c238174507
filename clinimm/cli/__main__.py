"""``python -m clinimm.cli``."""

from clinimm.cli.app import main

main()
