"""The zoo's own command with REINFORCE registered: ``python -m sor_sb3.zoo train --algo reinforce ...``."""

import sys

from sor_sb3.errors import UserError
from sor_sb3.zoo import register_with_rl_zoo3


def main() -> None:
    """Register, then run the zoo's command; a user's mistake is one sentence and exit status 2."""
    try:
        register_with_rl_zoo3()
        if len(sys.argv) < 2:
            raise UserError("expected train, enjoy, plot_train, plot_from_file or all_plots")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    from rl_zoo3.cli import main as zoo

    zoo()


if __name__ == "__main__":
    main()
