"""The package as a whole: cheap to import, typed, public names that exist, examples that run."""

from __future__ import annotations

import doctest
import subprocess
import sys
from importlib import import_module, resources
from pathlib import Path

import pytest

import sor_sb3

WITH_EXAMPLES = (
    "sor_sb3.algorithms.onnx_policy",
    "sor_sb3.algorithms.reinforce.buffers",
    "sor_sb3.calibration.comparison",
    "sor_sb3.calibration.intervals",
    "sor_sb3.calibration.latent",
    "sor_sb3.calibration.observed",
    "sor_sb3.calibration.price_estimators",
    "sor_sb3.calibration.quote_estimators",
    "sor_sb3.calibration.trade_estimators",
    "sor_sb3.callbacks.paired_critic",
    "sor_sb3.envs.checks",
    "sor_sb3.envs.gym_env",
    "sor_sb3.envs.sb3_vec_env",
    "sor_sb3.evaluation.aggregates",
    "sor_sb3.evaluation.evaluator",
    "sor_sb3.evaluation.formats",
    "sor_sb3.evaluation.prints",
    "sor_sb3.evaluation.risk",
    "sor_sb3.evaluation.rule_tables",
    "sor_sb3.evaluation.statistics",
    "sor_sb3.evaluation.tca",
    "sor_sb3.simulator.random",
    "sor_sb3.simulator.views",
)


def test_importing_loads_neither_torch_nor_numba():
    code = "import sys, sor_sb3; print([m for m in ('torch', 'numba', 'stable_baselines3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_typed():
    assert (resources.files("sor_sb3") / "py.typed").is_file()


@pytest.mark.parametrize("name", sor_sb3.__all__)
def test_public_names_resolve(name):
    assert getattr(sor_sb3, name) is not None
    assert name in dir(sor_sb3)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sor_sb3.nonsense


def test_presets_and_hyperparameters_are_in_the_package():
    assert (resources.files("sor_sb3.market") / "presets" / "us_equity.yaml").is_file()
    assert (resources.files("sor_sb3.reports") / "templates" / "report.html.j2").is_file()
    assert (resources.files("sor_sb3.algorithms") / "hyperparams" / "ppo.yml").is_file()


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings_run(module):
    result = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert result.attempted > 0


def test_every_module_with_examples_is_run():
    package = Path(sor_sb3.__file__).parent
    found = {
        "sor_sb3." + ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if ">>> " in path.read_text(encoding="utf-8")
    }
    assert found == set(WITH_EXAMPLES)
