"""Start TensorBoard for as long as a command runs: ``python -m sor_sb3.callbacks.tensorboard_server LOGDIR``.

The server runs in a process of its own, so that it takes no time from training, and ends when its standard input
closes. The end of the command closes that input, whatever ends the command.
"""

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sor_sb3.errors import UserError


@contextmanager
def running_tensorboard(folder: Path) -> Iterator[str]:
    """TensorBoard of `folder` while the block runs; gives the server's address on this machine.

    Raises:
        UserError: the server did not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "sor_sb3.callbacks.tensorboard_server", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # an interrupt reaches the command alone, which ends the server
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise UserError(
                f"TensorBoard did not start; leave out --tensorboard, and try: {sys.executable} -m tensorboard.main "
                f"--logdir {folder}"
            )
        yield address
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def serve(folder: str) -> None:
    """Start TensorBoard on a free port, print the address, and stay until standard input closes."""
    from tensorboard import program

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    server = program.TensorBoard()
    server.configure(argv=[None, "--logdir", folder, "--host", "127.0.0.1", "--port", "0", "--load_fast", "false"])
    print(server.launch(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1])
