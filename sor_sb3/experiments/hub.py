"""Publish a trained run, and take a published one in: a folder in the zoo's layout, for the Hugging Face hub or a disk.

FOLDER/README.md  config.yaml  market.yaml  hyperparams/ALGO.yml  args.yml  config.yml  env_kwargs.yml
FOLDER/ALGO-ENV.safetensors  [ALGO-ENV.onnx]  results.json  comparison.png  train_eval_metrics.zip  done.json

No file of it is a pickle: weights are numbers, all else is text or pictures. The zoo's ALGO-ENV.zip, which is one, is
made anew where a run is taken in.
"""

import io
import json
import shlex
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sor_sb3.algorithms.onnx_policy import OnnxPolicy
from sor_sb3.algorithms.safe_weights import INSTALL, set_weights, weights_bytes
from sor_sb3.callbacks.checkpoint import write_policy
from sor_sb3.errors import UserError, WorkFailed
from sor_sb3.experiments.config import TEST_SEED, CompareConfig, Learner, TrainConfig
from sor_sb3.experiments.folder import (
    CONFIG_FILE,
    DONE_FILE,
    RESULTS_FILE,
    any_config,
    check_finished,
    new_run_folder,
    path_component,
)
from sor_sb3.experiments.reopen import evaluate_runs, export_run, run_config
from sor_sb3.experiments.run import load_policy, make_model, make_training_env, validation_evaluator
from sor_sb3.files import make_folder, remove_empty, write_bytes, write_json, write_text, write_yaml
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.spec import MarketSpec, ReplayMarket
from sor_sb3.reports.card import render_card
from sor_sb3.reports.figures import comparison_figure

METRICS_FILE, MARKET_FILE, CARD_FILE = "train_eval_metrics.zip", "market.yaml", "README.md"
_CHECKED = 64  # observations on which a published policy must answer as the run's
_DOWNLOADED = ["*.md", "*.yaml", "*.yml", "*.json", "*.safetensors", "*.onnx", "*.png", METRICS_FILE]
_ONNX_TOLERANCE = 1e-4


def file_stem(config: TrainConfig) -> str:
    """``ALGO-ENV``, as the zoo names a model and its repository."""
    return path_component(f"{config.algo}-{config.env}")


@dataclass(frozen=True)
class Scores:
    """Test results that a card shows, and what made them: a comparison around the run, or the run alone."""

    results: dict[str, Any]
    comparison: CompareConfig | None

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The algorithms of the comparison."""
        return () if self.comparison is None else self.comparison.learners


def _scores(config: TrainConfig, run: Path, scenarios: int, market: MarketSpec | None) -> Scores:
    """Of the finished comparison that the run belongs to; else the run is scored now."""
    around = run.absolute().parents[1]
    if market is None and (around / RESULTS_FILE).is_file() and (around / CONFIG_FILE).is_file():
        held = any_config(around)
        if isinstance(held, CompareConfig) and config.digest() in {c.digest() for c in held.runs}:
            return Scores(json.loads((around / RESULTS_FILE).read_text(encoding="utf-8")), held)
    return Scores(evaluate_runs([run], scenarios, TEST_SEED, extras=(), market=market), None)


def write_published(
    run: Path, out: Path, repository: str | None = None, scenarios: int = 1000, market: MarketSpec | None = None
) -> Path:
    """Write a finished run as a folder for the hub; returns it.

    The policy is the run's best on validation scenarios. The card's table is the one of the comparison that the run
    belongs to; of a run by itself it is made now, on `scenarios` test scenarios, which are those of `market` where one
    is given. Raises UserError: the folder is no finished run, `out` is not empty, or safetensors is not installed; and
    WorkFailed: what was written does not answer as the run does.
    """
    config = run_config(run)
    check_finished(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; give another --out, or delete it")
    policy, scores = load_policy(config, run), _scores(config, run, scenarios, market)
    beside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    made = make_folder(beside)
    try:
        write_bytes(beside / f"{file_stem(config)}.safetensors", weights_bytes(policy))
        onnx = _write_onnx(run, beside / f"{file_stem(config)}.onnx", market)
        _write_settings(_portable(config), run, beside, scores)
        comparison_figure(scores.results, beside / "comparison.png")
        write_text(beside / CARD_FILE, render_card(_card(config, run, beside, scores, repository, onnx)))
        _check_same(config, policy, beside, market)
        if out.is_dir():
            out.rmdir()
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        remove_empty(made)
        raise
    return out


def _write_onnx(run: Path, file: Path, market: MarketSpec | None) -> str:
    """Why there is no ONNX file; nothing where there is one."""
    try:
        export_run(run, file, market=market)
    except UserError as error:
        return str(error)
    return ""


def _portable(config: TrainConfig) -> TrainConfig:
    """The config without folders of this machine: of recorded data the files' names."""
    if not isinstance(config.market, ReplayMarket):
        return config
    named = {"quotes_file": Path(config.market.quotes_file.name)}
    if config.market.trades_file is not None:
        named["trades_file"] = Path(config.market.trades_file.name)
    return config.model_copy(update={"market": config.market.model_copy(update=named)})


def _without_paths(data: Any) -> Any:
    """Results without folders of this machine."""
    if isinstance(data, Mapping):
        cut = {key: Path(v).name for key, v in data.items() if key in ("quotes_file", "trades_file") and v}
        return {key: cut.get(key, _without_paths(value)) for key, value in data.items()}
    return [_without_paths(value) for value in data] if isinstance(data, list) else data


def _hyperparameters(learner: Learner) -> dict[str, Any]:
    """What ``--hyperparams`` reads."""
    return {**learner.hyperparameters, "variance_reduction": learner.variance_reduction}


def _write_settings(config: TrainConfig, run: Path, out: Path, scores: Scores) -> None:
    data = config.canonical()
    write_yaml(out / CONFIG_FILE, {"digest": config.digest(), "config": data})
    write_yaml(out / MARKET_FILE, data["market"])
    for learner in scores.learners or (config,):
        file = out / "hyperparams" / f"{path_component(learner.algo)}.yml"
        write_yaml(file, {config.env: _hyperparameters(learner)})
    for name in ("args.yml", "config.yml"):
        write_bytes(out / name, (run / config.env / name).read_bytes())
    write_yaml(out / "env_kwargs.yml", {"market": config.market.name})
    write_json(out / RESULTS_FILE, _without_paths(scores.results))
    write_bytes(out / DONE_FILE, (run / DONE_FILE).read_bytes())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as held:  # a fixed time: the same run gives the same bytes
        held.writestr(zipfile.ZipInfo("evaluations.npz"), (run / "evaluations.npz").read_bytes())
    write_bytes(out / METRICS_FILE, packed.getvalue())


def _command(config: TrainConfig, scores: Scores) -> str:
    """The command that makes the results again, in the published folder."""
    common = ["--env", config.env, "--market", MARKET_FILE]
    files = {
        learner.algo: f"hyperparams/{path_component(learner.algo)}.yml" for learner in scores.learners or (config,)
    }
    if scores.comparison is None:
        seed = ["--seed", str(config.seed), "--hyperparams", files[config.algo]]
        return shlex.join(["sor-sb3", "train", "--algo", config.algo, *common, *seed])
    of = scores.comparison
    given = [word for algo, file in files.items() for word in ("--hyperparams", f"{algo}={file}")]
    size = ["--seeds", str(len(of.seeds)), "--scenarios", str(of.scenarios)]
    return shlex.join(["sor-sb3", "compare", "--algos", ",".join(files), *common, *size, *given])


def _card(
    config: TrainConfig, run: Path, out: Path, scores: Scores, repository: str | None, onnx: str
) -> dict[str, Any]:
    """What the model card says."""
    done, market = json.loads((run / DONE_FILE).read_text(encoding="utf-8")), config.market
    is_replay = isinstance(market, ReplayMarket)
    return {
        "config": config.canonical(),
        "stem": file_stem(config),
        "repository": repository,
        "results": scores.results,
        "market": market.name,
        "description": " ".join(market.description.split()),
        "market_digest": market.digest() if hasattr(market, "digest") else "",
        "quotes": {"file": market.quotes_file.name, "sha256": market.quotes_sha256} if is_replay else None,  # type: ignore[union-attr]
        "digest": config.digest(),
        "done": done,
        "training_run": None if scores.comparison is None else scores.comparison.seeds.index(config.seed) + 1,
        "training_runs": None if scores.comparison is None else len(scores.comparison.seeds),
        "command": _command(config, scores),
        "no_onnx": onnx,
        "files": sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()),
    }


def _check_same(config: TrainConfig, policy: Any, published: Path, market: MarketSpec | None) -> None:
    """What is about to be published answers as the run's policy, which nobody would notice otherwise."""
    of = market or config.market
    if isinstance(of, MarketFamily):
        return
    rows = validation_evaluator(config.env, of, _CHECKED).start()
    wanted, recorded = policy.predict(rows, deterministic=True)[0], config.market
    files = (recorded.quotes_file, recorded.trades_file) if isinstance(recorded, ReplayMarket) else (None, None)
    if not np.array_equal(load_published(published, of, *files).predict(rows, deterministic=True)[0], wanted):
        raise WorkFailed(f"{file_stem(config)}.safetensors does not answer as the run's policy; nothing is published")
    onnx = published / f"{file_stem(config)}.onnx"
    if onnx.is_file() and not np.allclose(OnnxPolicy.load(onnx).predict(rows)[0], wanted, atol=_ONNX_TOLERANCE):
        raise WorkFailed(f"{onnx.name} does not answer as the run's policy; nothing is published")


def push_folder(published: Path, repository: str, private: bool = False) -> str:
    """Put a published folder on the hub; returns its address.

    Raises UserError: huggingface_hub is not installed, or the repository cannot be reached or written.
    """
    hub = _hub()
    try:
        api = hub.HfApi()
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        api.upload_folder(repo_id=repository, folder_path=str(published), commit_message="sor-sb3 push")
    except Exception as error:  # the client raises its own, requests' and the system's
        said = " ".join(str(error).split())[:300]
        remedy = "log in with: hf auth login; or write the folder alone with --dry-run"
        raise UserError(f"--repo {repository} cannot be written ({said}); {remedy}") from None
    return address


def fetch_published(source: str, revision: str | None = None) -> Path:
    """A published folder: `source` itself where it is one, else a repository of the hub, downloaded.

    Raises UserError: there is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        return Path(_hub().snapshot_download(source, revision=revision, allow_patterns=_DOWNLOADED))
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(f"{source} is no folder here, and no repository that can be read ({said})") from None


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"huggingface_hub cannot be imported ({error}); install it with: {INSTALL}") from None
    return huggingface_hub


def published_config(published: Path, quotes: Path | None = None, trades: Path | None = None) -> TrainConfig:
    """The config of a published folder, with recorded data where they lie on this machine.

    Raises UserError: the folder holds none, its algorithm is somebody's own code, or recorded data are missing.
    """
    config = run_config(published)
    if ":" in config.algo:
        said = f"{published} was trained by {config.algo}, code that is not in this package, and is not run"
        raise UserError(f"{said}; use its .onnx file with sor_sb3.OnnxPolicy")
    if not isinstance(config.market, ReplayMarket):
        if quotes is not None or trades is not None:
            raise UserError(f"{published} was trained on {config.market.name}, no recording; leave --quotes out")
        return config
    files = {"quotes_file": quotes or published / config.market.quotes_file.name}
    if config.market.trades_file is not None:
        files["trades_file"] = trades or published / config.market.trades_file.name
    for flag, file in zip(("--quotes", "--trades"), files.values(), strict=False):
        if not file.is_file():
            needs = f"was trained on the recording {file.name}, which is not published with it"
            raise UserError(f"{published} {needs}; give the file with {flag}")
    absolute = {name: file.absolute() for name, file in files.items()}
    return config.model_copy(update={"market": config.market.model_copy(update=absolute)})


def _model(config: TrainConfig, published: Path) -> Any:
    """The model of a published folder with its env, built from the config and given the weights."""
    file = published / f"{file_stem(config)}.safetensors"
    if not file.is_file():
        raise UserError(f"{published} has no {file.name}; give a folder that sor-sb3 push wrote, or its repository")
    model = make_model(config, make_training_env(config))
    try:
        set_weights(model, file.read_bytes())
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return model


def load_published(
    published: Path, market: MarketSpec | None = None, quotes: Path | None = None, trades: Path | None = None
) -> Any:
    """The policy of a published folder; as :func:`sor_sb3.experiments.run.load_policy` gives that of a run.

    It is asked on `market`, by default the one that it was trained on. Raises UserError: the folder is damaged, needs
    recorded data, or its policy does not fit the market.
    """
    with TemporaryDirectory() as beside:
        folder = take_in(published, Path(beside), str(published), quotes, trades)
        return load_policy(run_config(folder), folder, market=market)


def take_in(
    published: Path, log_dir: Path, source: str, quotes: Path | None = None, trades: Path | None = None
) -> Path:
    """Make a run folder, ``LOG_DIR/ALGO/ENV_k``, of a published one; returns it.

    Every command takes it as a run that was trained here: its best and its last policy are the published one. Raises
    UserError as `load_published`; nothing is left then.
    """
    config = published_config(published, quotes, trades)
    model, zoo = _model(config, published), config.env
    parent = log_dir / path_component(config.algo)
    made = make_folder(parent)
    folder = new_run_folder(parent, zoo)
    try:
        write_policy(model, folder / "best_model.zip", folder / "best_vecnormalize.pkl")
        write_policy(model, folder / f"{zoo}.zip", folder / zoo / "vecnormalize.pkl")
        write_yaml(folder / CONFIG_FILE, {"digest": config.digest(), "config": config.canonical()})
        for name in ("args.yml", "config.yml"):
            write_bytes(folder / zoo / name, (published / name).read_bytes())
        write_text(folder / zoo / "command.txt", shlex.join(["sor-sb3", "load", source]) + "\n")
        with zipfile.ZipFile(published / METRICS_FILE) as packed:
            write_bytes(folder / "evaluations.npz", packed.read("evaluations.npz"))
        done = json.loads((published / DONE_FILE).read_text(encoding="utf-8"))
        write_json(folder / DONE_FILE, {**done, "digest": config.digest()})
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        shutil.rmtree(folder, ignore_errors=True)
        remove_empty(made)
        if isinstance(error, UserError):
            raise
        raise UserError(f"{published} is not whole ({error}); push it again, or get it again") from None
    return folder
