"""TensorBoard beside scalars: grouped charts, histograms, figures; and a server that ends with the command."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from sor_sb3.callbacks.evaluation import FIGURE_EVERY
from sor_sb3.callbacks.tensorboard import layout, log_pictures, tensorboard_writer
from sor_sb3.callbacks.tensorboard_server import running_tensorboard
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market
from tests.conftest import Finished, run_command


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "histograms": 0})
    found.Reload()
    return found


def test_a_learners_run_has_charts_histograms_and_figures(comparison: Finished):
    found = events(comparison.folder / "ppo" / "OrderSplit-v1_1" / "tensorboard")
    steps = [e.step for e in found.Scalars("eval/cost")]
    for tag in ("eval_distribution/cost", "eval_distribution/latency_ms"):
        assert [e.step for e in found.Histograms(tag)] == steps
    assert [e.step for e in found.Images("eval_figure/cost_and_flow")] == steps[::FIGURE_EVERY]
    held = layout_pb2.Layout()
    held.ParseFromString(found.Tensors(metadata.CONFIG_SUMMARY_TAG)[0].tensor_proto.string_val[0])
    assert [c.title for c in held.category] == ["1 cost", "4 latency", "5 venue shares"]


@pytest.mark.parametrize("market", ["us_equity", "notebook"])
def test_every_chart_names_tags_that_are_logged(market, tmp_path):
    import re

    from sor_sb3.callbacks.evaluation import cost_tag, scalars

    evaluator = Evaluator("OrderSplit-v1", market, 5)
    scores = evaluator.score("p", "pro_rata")
    logged = scalars(evaluator.market, scores, {"eval/gap_closed": 0.5, "eval/gap_closed_from_best_rule": 0.1})
    for charts in layout(evaluator.market, cost_tag(evaluator.market)).values():
        for kind, patterns in charts.values():
            assert kind == "Multiline"
            for pattern in patterns:
                assert any(re.match(pattern, tag) for tag in logged), pattern


def test_nothing_is_drawn_where_nothing_is_logged(tmp_path):
    evaluator = Evaluator("OrderSplit-v1", "notebook", 3)
    logger = configure(str(tmp_path), ["csv"])
    assert tensorboard_writer(logger) is None
    log_pictures(logger, load_market("notebook"), evaluator.score("p", "pro_rata"))
    logger.dump(0)
    assert [p.name for p in tmp_path.iterdir()] == ["progress.csv"]


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address + "data/environment", timeout=10) as reply:
            return reply.status == 200
    except OSError:
        return False


def test_the_board_serves_while_the_block_runs(comparison: Finished):
    with running_tensorboard(comparison.folder / "tensorboard") as address:
        assert address.startswith("http://127.0.0.1:")
        assert answers(address)
    assert not answers(address)


def test_the_board_ends_with_a_command_that_is_killed(tmp_path):
    code = (
        "import time; from pathlib import Path\n"
        "from sor_sb3.callbacks.tensorboard_server import running_tensorboard\n"
        f"with running_tensorboard(Path({str(tmp_path)!r})) as a:\n    print(a, flush=True); time.sleep(600)"
    )
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    address = command.stdout.readline().strip()
    assert answers(address)
    command.kill()
    command.wait()
    deadline = time.monotonic() + 20
    while answers(address) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not answers(address)


def test_train_prints_the_address(tmp_path):
    options = "train --market notebook --algo ppo --timesteps 400 --n-envs 4 --set n_steps=50 --tensorboard".split()
    done = run_command(*options, "--log-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    address = next(line for line in done.stderr.splitlines() if line.startswith("TensorBoard: ")).split()[1]
    assert not answers(address)
