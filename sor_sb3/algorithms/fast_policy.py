"""A trained policy without its learner: a compiled function from observations to actions, kept in one file.

It imports neither torch nor SB3, so that a live process needs neither; `sor_sb3.algorithms.translation` makes one of a
trained model, and the arithmetic is in `sor_sb3.algorithms.fast_kernels`.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sor_sb3.algorithms import fast_kernels as kernels
from sor_sb3.algorithms.fast_kernels import HEADER, decide
from sor_sb3.errors import UserError

ACTIVATIONS = {
    "tanh": kernels.TANH,
    "relu": kernels.RELU,
    "leaky_relu": kernels.LEAKY_RELU,
    "elu": kernels.ELU,
    "silu": kernels.SILU,
    "gelu": kernels.GELU,
    "gelu_tanh": kernels.GELU_TANH,
    "sigmoid": kernels.SIGMOID,
    "hardtanh": kernels.HARDTANH,
}
_FORMAT, _VERSION = "sor_sb3 fast policy", 1
_LARGEST = 2**24  # whole numbers up to it are exact in float32, in which headers are written
_FLOAT32, _INT64 = np.dtype(np.float32), np.dtype(np.int64)  # made once: NumPy takes them sooner than their names
_NONE = np.zeros(0, dtype=np.float32)
_NO_CHOICES = np.zeros(0, dtype=np.int64)
_UNREADABLE = (  # what reading a damaged .npz file can raise
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Layer:
    """A step of a decision.

    Attributes:
        kind: "dense" (weight (I, O), bias (O,)), "activate" (function, a, b), "standardise" (mean, scale, shift, all
            float64 (I,); limit), "lstm" (weight (I + H, 4H), bias (4H,)), "venues" (the shared network),
            "proportions" or "simplex" (n_venues); and last "clip" or "scale" (low, high (A,)), or "argmax".
        settings: numbers and names, as JSON has them.
        arrays: by name.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def array(self, name: str, *shape: int | None, dtype: type = np.float32, finite: bool = True) -> np.ndarray:
        """An array of this shape, in which None stands for any size.

        Raises:
            ValueError: it is missing or another.
        """
        array = self.arrays.get(name)
        if array is None or array.dtype != dtype or array.ndim != len(shape):
            raise ValueError(f"{self.kind}: no array {name} of {len(shape)} dimensions")
        if any(wanted not in (None, size) for wanted, size in zip(shape, array.shape, strict=True)) or not array.size:
            raise ValueError(f"{self.kind}: {name} is {array.shape}")
        if np.isnan(array).any() or (finite and np.isinf(array).any()):
            raise ValueError(f"{self.kind}: {name} is not finite")
        return array

    def number(self, name: str, low: float = -np.inf, high: float = np.inf) -> float:
        """A setting within bounds.

        Raises:
            ValueError: it is missing or out of them.
        """
        value = self.settings.get(name)
        if not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"{self.kind}: {name} is {value}")
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        """A setting that is a whole number within bounds.

        Raises:
            ValueError: it is missing, out of them or not whole.
        """
        value = self.number(name, low, high)
        if value != int(value):
            raise ValueError(f"{self.kind}: {name} is {value}")
        return int(value)

    def function(self) -> list[float]:
        """Code and settings of an activation.

        Raises:
            ValueError: there is no such one.
        """
        name = self.settings.get("function")
        if name not in ACTIVATIONS:
            raise ValueError(f"{self.kind}: function is {name}")
        return [ACTIVATIONS[str(name)], self.number("a"), self.number("b")]


@dataclass(frozen=True)
class _Written:
    """A layer as the tape has it; `scratch` are numbers that it needs at once, and for each row of a block."""

    code: int
    width: int
    numbers: Sequence[float] = ()
    arrays: Sequence[np.ndarray] = ()
    scratch: tuple[int, int] = (0, 0)


def _dense(layer: Layer, width: int) -> _Written:
    weight = layer.array("weight", width, None)
    return _Written(kernels.DENSE, weight.shape[1], arrays=(layer.array("bias", weight.shape[1]), weight))


def _activate(layer: Layer, width: int) -> _Written:
    return _Written(kernels.ACTIVATE, width, layer.function())


def _standardise(layer: Layer, width: int) -> _Written:
    arrays = [layer.array(name, width, dtype=np.float64) for name in ("mean", "scale", "shift")]
    as_float32 = np.concatenate(arrays).view(np.float32)  # their bytes: the kernel reads them as float64 again
    return _Written(kernels.STANDARDISE, width, [layer.number("limit", 0.0)], [as_float32])


def _lstm(layer: Layer, width: int) -> _Written:
    weight = layer.array("weight", None, None)
    size = len(weight) - width
    arrays = layer.array("bias", 4 * size), layer.array("weight", width + size, 4 * size)
    return _Written(kernels.LSTM, size, arrays=arrays, scratch=(0, width + 5 * size))


def _venues(layer: Layer, width: int) -> _Written:
    n_venues, hidden = layer.array("mark", None, None).shape
    market = layer.array("market", None, hidden)
    features = layer.array("venue", None, hidden).shape[0]
    if len(market) + n_venues * features != width:
        raise ValueError(f"venues: {len(market)} + {n_venues} * {features} numbers of {width}")
    places = [layer.whole(name, -1, features - 1) for name in ("share", "dark", "open")]
    time_left = layer.whole("time_left", 0, len(market) - 1)
    if places[0] >= 0 and places[1] < 0:
        raise ValueError("venues: a share without darkness")
    arrays = [
        layer.array("market_bias", hidden),
        market,
        layer.array("venue", features, hidden),
        layer.array("mark", n_venues, hidden),
        layer.array("second_bias", hidden),
        layer.array("second", hidden, hidden),
        layer.array("pooled", hidden, hidden),
        layer.array("score", hidden + 1),
    ]
    has_pace = "pace" in layer.arrays
    if has_pace:
        arrays.append(layer.array("pace", hidden + 1))
    numbers = [n_venues, len(market), features, hidden, *layer.function(), *places, time_left]
    return _Written(kernels.VENUES, n_venues + has_pace, numbers, arrays, (2 * (n_venues + 1) * hidden, 0))


def _of_venues(code: int) -> Callable[[Layer, int], _Written]:
    return lambda layer, width: _Written(code, width, [layer.whole("n_venues", max(width - 1, 1), width)])


def _bounds(code: int) -> Callable[[Layer, int], _Written]:
    def write(layer: Layer, width: int) -> _Written:
        finite = code == kernels.SCALE
        return _Written(code, width, arrays=[layer.array(name, width, finite=finite) for name in ("low", "high")])

    return write


_WRITERS: dict[str, Callable[[Layer, int], _Written]] = {
    "dense": _dense,
    "activate": _activate,
    "standardise": _standardise,
    "lstm": _lstm,
    "venues": _venues,
    "proportions": _of_venues(kernels.PROPORTIONS),
    "simplex": _of_venues(kernels.SIMPLEX),
    "clip": _bounds(kernels.CLIP),
    "scale": _bounds(kernels.SCALE),
    "argmax": lambda layer, width: _Written(kernels.ARGMAX, width),
}
_LAST = ("clip", "scale", "argmax")


def _tape(layers: Sequence[Layer], width: int) -> tuple[np.ndarray, int]:
    """The kernel's tape, and how many numbers come out at its end.

    Raises:
        ValueError: the layers do not fit each other; the kernel does not look.
    """
    if not layers or [layer.kind in _LAST for layer in layers] != [False] * (len(layers) - 1) + [True]:
        raise ValueError(f"expected one of {_LAST} at the end")
    parts, widest, once, a_row = [np.zeros(HEADER, dtype=np.float32)], width, 0, 0
    for layer in layers:
        if layer.kind not in _WRITERS:
            raise ValueError(f"no layer is called {layer.kind}")
        written = _WRITERS[layer.kind](layer, width)
        arrays = [_padded(array) for array in written.arrays]
        head = np.zeros(HEADER, dtype=np.float32)
        head[: 3 + len(written.numbers)] = [written.code, width, written.width, *written.numbers]
        head[-1] = sum(len(array) for array in arrays)
        if head[-1] >= _LARGEST:
            raise ValueError(f"{layer.kind}: larger than {_LARGEST} numbers")
        parts += [head, *arrays]
        width, widest = written.width, max(widest, written.width)
        once, a_row = max(once, written.scratch[0]), max(a_row, written.scratch[1])
    parts[0][:3] = widest, once, a_row
    return _aligned(np.concatenate(parts)), width


def _padded(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return np.concatenate((flat, np.zeros(-flat.size % HEADER, dtype=flat.dtype)))


def _aligned(values: np.ndarray) -> np.ndarray:
    """A copy that begins where a cache line does."""
    room = np.zeros(values.size + HEADER, dtype=values.dtype)
    first = -room.ctypes.data // values.itemsize % HEADER
    room[first : first + values.size] = values
    return room[first : first + values.size]


class FastPolicy:
    """The most likely actions of a trained policy, in microseconds, with no learner behind it.

    Made by :func:`sor_sb3.fast_policy` or :meth:`load`. It answers ``predict`` as SB3's models do, to 1e-6 for actions
    in [-1, 1], so that it can be evaluated like them. Observations are raw where the model's normalisation was given
    when it was made: it is inside. Threads may share one.

    A live process needs this class and a file:

        >>> import numpy as np, tempfile, sor_sb3
        >>> from stable_baselines3 import PPO
        >>> venv = sor_sb3.make_vec_env("OrderSplit-v0", market="notebook", n_envs=1, seed=0)
        >>> model = PPO("MlpPolicy", venv, device="cpu", seed=0)  # .learn(...), beforehand and elsewhere
        >>> file = tempfile.mkdtemp() + "/router.npz"
        >>> sor_sb3.fast_policy(model).save(file)
        >>> policy = sor_sb3.FastPolicy.load(file)  # live: neither torch nor SB3 is imported
        >>> observation = venv.reset()[0]
        >>> action, _ = policy.predict(observation)
        >>> bool(np.allclose(action, model.predict(observation, deterministic=True)[0], atol=1e-6))
        True

    Args:
        layers: what is done to an observation, in turn.
        n_features: numbers in an observation.
        takes_masks: whether ``predict`` heeds action masks.
        source: what it was made from, in words.

    Raises:
        ValueError: the layers do not fit each other, or hold what is not finite.

    Attributes:
        n_features: numbers in an observation, D.
        n_actions: numbers in an action, A, or how many actions there are to choose from.
        is_discrete: whether actions are chosen.
        takes_masks: whether ``predict`` heeds action masks.
        source: what it was made from, in words.
    """

    def __init__(self, layers: Sequence[Layer], n_features: int, takes_masks: bool = False, source: str = "") -> None:
        self._layers = tuple(layers)
        self._tape, self.n_actions = _tape(self._layers, n_features)
        self.n_features, self.takes_masks, self.source = n_features, takes_masks, source
        self.is_discrete = self._layers[-1].kind == "argmax"
        self._row_shape = (n_features,)
        recurrent = [layer.arrays["bias"].size // 4 for layer in self._layers if layer.kind == "lstm"]
        if len(set(recurrent)) > 1:
            raise ValueError(f"lstm: layers of different sizes {recurrent}")
        self._state_shape = (len(recurrent), recurrent[0]) if recurrent else None
        self.predict(np.zeros(n_features, dtype=np.float32))  # compiles now, rather than in the first decision

    def __repr__(self) -> str:
        return f"FastPolicy({self.source}: {self.n_features} features, {self.n_actions} actions)"

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Most likely actions, as SB3's ``predict(..., deterministic=True)`` gives them.

        Args:
            observation: one row (D,) or a batch (n, D), taken as float32.
            state: hidden and cell states, two arrays (layers, n, H) of a recurrent policy; others hand it back.
            episode_start: bool (n,), where a recurrent policy begins anew.
            deterministic: True.
            action_masks: bool (n, A), what is allowed; heeded only by a policy that was trained with masks.

        Returns:
            Actions: float32 (A,) or (n, A), int64 () or (n,) where they are chosen; and the next state.

        Raises:
            UserError: something has a wrong shape, is not finite, or `deterministic` is False.
        """
        if not deterministic:
            raise UserError(
                "deterministic is False; a fast policy has the most likely actions only: expected True, or use the "
                "model's own predict to draw actions"
            )
        try:
            rows = np.array(observation, _FLOAT32)
        except (TypeError, ValueError):
            self._refuse_observation(type(observation).__name__)
        shape, n, extra = rows.shape, 1, _NONE
        if shape != self._row_shape:
            if shape[1:] != self._row_shape:
                self._refuse_observation(f"an array of shape {shape}")
            n, rows = shape[0], rows.reshape(-1)
        if self._state_shape is not None:
            held = self._copy_of_state(state, episode_start, n)
            state, extra = (held[0], held[1]), held.reshape(-1)
        elif action_masks is not None and self.takes_masks:
            extra = self._checked_masks(action_masks, n)
        if self.is_discrete:
            actions = np.empty(n, _INT64)
            done = decide(rows, self._tape, extra, _NONE, actions)
        else:
            actions = np.empty(n * self.n_actions, _FLOAT32)
            done = decide(rows, self._tape, extra, actions, _NO_CHOICES)
        if not done:
            self._refuse_numbers(rows)
        if len(shape) == 2:
            return (actions if self.is_discrete else actions.reshape(n, self.n_actions)), state
        return (actions.reshape(()) if self.is_discrete else actions), state

    def _copy_of_state(self, state: Any, episode_start: Any, n: int) -> np.ndarray:
        layers, size = self._state_shape or (0, 0)
        held = np.zeros((2, layers, n, size), dtype=np.float32)
        if state is not None:
            if len(state) != 2 or any(np.shape(part) != held.shape[1:] for part in state):
                shapes = [np.shape(part) for part in state]
                raise UserError(
                    f"state has shapes {shapes}; expected two arrays {held.shape[1:]}, as predict gave them"
                )
            held[0], held[1] = state
        if episode_start is not None:
            starts = np.asarray(episode_start, dtype=bool).reshape(-1)
            if starts.size != n:
                raise UserError(f"episode_start has {starts.size} numbers; expected one for each of {n} observations")
            held[:, :, starts] = 0.0
        return held

    def _checked_masks(self, action_masks: Any, n: int) -> np.ndarray:
        masks = np.array(action_masks, _FLOAT32)
        if masks.shape != (n, self.n_actions) and (n, *masks.shape) != (1, self.n_actions):
            raise UserError(f"action_masks have shape {masks.shape}; expected ({n}, {self.n_actions})")
        return masks.reshape(-1)

    def _refuse_observation(self, what: str) -> NoReturn:
        raise UserError(
            f"observation is {what}; expected numbers of shape ({self.n_features},) or (n, {self.n_features}), the row "
            "that the policy was trained on"
        )

    def _refuse_numbers(self, rows: np.ndarray) -> NoReturn:
        bad = np.flatnonzero(~np.isfinite(rows))
        if len(bad):
            row, column = divmod(int(bad[0]), self.n_features)
            raise UserError(
                f"observation holds {rows[bad[0]]} at row {row}, feature {column}; expected finite numbers: look where "
                "the row is made"
            )
        raise UserError(
            "the policy's result is not finite, though the observation is; expected features of order one: check them"
        )

    def save(self, path: str | Path) -> None:
        """Write everything into one .npz file, without pickle; a kill leaves the old file or the new one."""
        path = Path(path)
        about = {
            "format": _FORMAT,
            "version": _VERSION,
            "source": self.source,
            "n_features": self.n_features,
            "takes_masks": self.takes_masks,
            "layers": [{"kind": layer.kind, "settings": dict(layer.settings)} for layer in self._layers],
        }
        arrays = {f"{i}.{name}": a for i, layer in enumerate(self._layers) for name, a in layer.arrays.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with beside.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        os.replace(beside, path)

    @classmethod
    def load(cls, path: str | Path) -> FastPolicy:
        """Read what :meth:`save` wrote; neither torch nor SB3 is imported.

        Raises:
            UserError: the file is not there, is damaged, or is another kind of file.
        """
        if not Path(path).is_file():
            raise UserError(f"{path} is no file; expected one that FastPolicy.save or sor-sb3 export wrote")
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                arrays = {name: file[name] for name in file.files if name != "about"}
            if (about["format"], about["version"]) != (_FORMAT, _VERSION):
                raise ValueError(f"it is {about['format']} {about['version']}, not {_FORMAT} {_VERSION}")
            layers = [
                Layer(str(held["kind"]), dict(held["settings"]), _arrays_of(i, arrays))
                for i, held in enumerate(about["layers"])
            ]
            return cls(layers, int(about["n_features"]), bool(about["takes_masks"]), str(about["source"]))
        except _UNREADABLE as error:
            raise UserError(
                f"{path} is no fast policy, or damaged ({error or type(error).__name__}); write it again with "
                "FastPolicy.save or sor-sb3 export"
            ) from None


def _arrays_of(layer: int, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"{layer}."
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
