"""``python -m sor_sb3.cli``."""

from sor_sb3.cli import main

main()
