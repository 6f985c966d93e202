"""A search's trials in an Optuna storage: a journal file or a database, shared by workers, whole after any kill.

A worker that has a trial says every few seconds that it is alive. A trial whose worker has been silent for `LEASE_S` is
failed, and its parameters are queued again. Which trials count follows from their numbers, which a storage gives out
once each, so that workers need no other lock. What a trial does is not known here.
"""

from __future__ import annotations

import os
import re
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sor_sb3.errors import UserError
from sor_sb3.files import WriteError, make_folder

try:
    import optuna
except ImportError:
    raise UserError("tune needs Optuna; install it with: pip install 'sor-sb3[tune]'") from None

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, TrialPruned, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event

from sor_sb3.experiments.search_space import Choice, Range

# with this module's own, all of Optuna that the others need
__all__ = ["FrozenTrial", "Search", "Trial", "TrialPruned", "TrialState", "UpdateFinishedTrialError"]

BEAT_S, LEASE_S = 5.0, 30.0
_LOCK_GRACE_S = 10  # a journal's lock that a killed process left
_ALIVE, _CONFIG, _REPEATS = "alive", "config", "repeats"
STARTUP_TRIALS = 8  # at random, before the sampler learns from them

optuna.logging.set_verbosity(optuna.logging.WARNING)


class _Journal(JournalFileBackend):
    """A journal that outlives kills: a last line that a killed writer left unfinished is cut off before the next."""

    def __init__(self, path: Path) -> None:
        self._path, self._writing = path, JournalFileOpenLock(str(path), _LOCK_GRACE_S)
        super().__init__(str(path), self._writing)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, whole."""
        self._writing.acquire()
        try:
            with open(self._path, "r+b") as file:
                _cut_unfinished_line(file)
        finally:
            self._writing.release()
        super().append_logs(logs)


def _cut_unfinished_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    start, tail = end, b""
    while start > 0 and b"\n" not in tail:
        start = max(start - 65536, 0)
        file.seek(start)
        tail = file.read(end - start)
    whole = start + tail.rfind(b"\n") + 1
    if whole < end:
        file.truncate(whole)


def shown_storage(storage: str) -> str:
    """A storage's name without the password of its URL."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", storage)


def open_storage(storage: str) -> BaseStorage:
    """A storage by its name: ``x.log`` is a journal file, anything else a database URL such as ``sqlite:///x.db``.

    Raises:
        UserError: it is neither, or it cannot be read or written.
    """
    name = shown_storage(storage)
    if storage.endswith(".log"):
        try:
            make_folder(Path(storage).parent)
            return JournalStorage(_Journal(Path(storage)))
        except WriteError:
            raise
        except OSError as error:
            raise UserError(f"--storage {name} cannot be used ({error.strerror}); give another file") from None
        except Exception as error:
            why = f"it is no journal of Optuna, or is damaged ({type(error).__name__})"
            raise UserError(f"--storage {name} cannot be read: {why}; give another file") from None
    if "://" not in storage:
        expected = "expected a journal file, x.log, or a database URL such as sqlite:///x.db"
        raise UserError(f"--storage is {name}; {expected}")
    sqlite = storage.startswith("sqlite")
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if sqlite else {}
    for attempt in range(5):  # two workers that make the tables at once: one of them fails
        try:
            opened = RDBStorage(storage, engine_kwargs=options)
            if sqlite:
                _lock_before_reading(opened.engine)
            return opened
        except Exception as error:
            why = str(getattr(error, "orig", error)).splitlines()[0] if str(error) else type(error).__name__
            made_by_another = type(error).__name__ == "IntegrityError" or "exists" in why
            if attempt == 4 or not type(error).__module__.startswith("sqlalchemy") or not made_by_another:
                said = f"--storage {name} cannot be opened ({shown_storage(why)})"
                raise UserError(f"{said}; expected x.log, or a database URL such as sqlite:///x.db") from None
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError


def _lock_before_reading(engine: Any) -> None:
    """SQLite locks no row: a transaction of its own reads first, so that two workers could take one queued trial."""

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections of before


class _SeededByTrial(BaseSampler):
    """TPE whose random numbers are a function of the study and the trial's number: the same after a kill."""

    def __init__(self, seed: int) -> None:
        self._seed, self._tpe = seed, TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Start the trial's random numbers."""
        seed = (self._seed + 1_000_003 * trial.number) % 2**32
        self._tpe = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Any:
        """As TPE."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        """As TPE."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


class Search:
    """One study of a storage, and the trials in it that count.

    Raises UserError: the storage cannot be used, or the study holds a search of another config.
    """

    def __init__(self, storage: str, name: str, config: Mapping[str, Any], digest: str) -> None:
        self.where = f"study '{name}' in {shown_storage(storage)}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.05)
        sampler, opened = _SeededByTrial(int(digest[:8], 16)), open_storage(storage)
        try:
            self.study = optuna.create_study(
                storage=opened,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=sampler,
                pruner=pruner,
            )
            held = self.study.user_attrs.get(_CONFIG)
            if held is None:
                self.study.set_user_attr(_CONFIG, {"digest": digest, **config})
        except OSError as error:
            raise UserError(f"{self.where} cannot be written ({error.strerror}); give another --storage") from None
        if held is not None and held.get("digest") != digest:
            differ = ", ".join(key for key in config if held.get(key) != config[key]) or "what it holds"
            raise UserError(f"{self.where} is a search with other settings ({differ} differ); give another --name")

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials that count (all but the failed ones), or those in `states`."""
        found = self.study.get_trials(deepcopy=False, states=states or None)
        return found if states else [trial for trial in found if trial.state != TrialState.FAIL]

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that came to an end, pruned ones too."""
        return self.trials(TrialState.COMPLETE, TrialState.PRUNED)

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial of highest value, the first where several have it; None where none is complete."""
        complete = self.trials(TrialState.COMPLETE)
        return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)

    def enqueue(self, combinations: Sequence[Mapping[str, Any]]) -> None:
        """Have these parameters tried before anything is drawn, those that were not yet."""
        known = [_params_of(trial) for trial in self.trials()]
        for params in combinations:
            if not any(params.items() <= one.items() for one in known):
                self.study.enqueue_trial(dict(params))

    def next_trial(self, space: Mapping[str, Range | Choice], n_trials: int) -> Trial | None:
        """A trial that no other worker has or had; None once `n_trials` count and all of them are finished."""
        distributions = {key: _distribution(choices) for key, choices in space.items()}
        while True:
            self._fail_stale()
            counted = self.trials()
            open_states = [trial.state for trial in counted if not trial.state.is_finished()]
            if len(counted) >= n_trials and TrialState.WAITING not in open_states:
                if not open_states:
                    return None
                time.sleep(1.0)  # another worker's trial may yet be left behind
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a start may lie outside the range that is searched
                trial = self.study.ask(distributions)
            trial.set_user_attr(_ALIVE, time.time())
            if self._counts(trial, n_trials):
                return trial

    def _counts(self, trial: Trial, n_trials: int) -> bool:
        """Whether a new trial is neither one too many nor the same as one before; if it is, the trial is failed."""
        while True:
            before = [t for t in self.trials() if t.number < trial.number]
            drawing = [t for t in before if t.state == TrialState.RUNNING and len(t.params) < len(trial.params)]
            if not drawing:
                break
            self._fail_stale()
            time.sleep(0.05)
        same = [t for t in before if _params_of(t) == trial.params]
        if not same and len(before) < n_trials:
            return True
        if same:
            trial.set_user_attr(_REPEATS, same[0].number)
        self.study.tell(trial, state=TrialState.FAIL)
        return False

    def _fail_stale(self) -> None:
        for trial in self.trials(TrialState.RUNNING):
            started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            if time.time() - trial.user_attrs.get(_ALIVE, started) < LEASE_S:
                continue
            with suppress(UpdateFinishedTrialError, ValueError):  # another worker was faster
                self.study.tell(trial.number, state=TrialState.FAIL)
                if trial.params:
                    self.study.enqueue_trial(trial.params)

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Say every few seconds that the trial's worker is at work."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_S):
                with suppress(Exception):  # a storage that is busy now will hear the next one
                    trial.set_user_attr(_ALIVE, time.time())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def importance(self) -> dict[str, float]:
        """How much each parameter matters for being among the best quarter (PED-ANOVA); empty with too few trials."""
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        with suppress(ValueError, RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(self.study, evaluator=evaluator))
        return {}


def _params_of(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was given and has drawn."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _distribution(choices: Range | Choice) -> BaseDistribution:
    if isinstance(choices, Choice):
        return CategoricalDistribution(choices.ends)
    if isinstance(choices.low, int) and isinstance(choices.high, int):
        return IntDistribution(choices.low, choices.high, log=choices.log)
    return FloatDistribution(choices.low, choices.high, log=choices.log)
