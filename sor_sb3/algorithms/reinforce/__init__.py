"""REINFORCE (Williams, 1992) as a Stable-Baselines3 algorithm."""

from stable_baselines3.a2c import CnnPolicy, MlpPolicy, MultiInputPolicy

from sor_sb3.algorithms.reinforce.buffers import DictEpisodicRolloutBuffer, EpisodicRolloutBuffer
from sor_sb3.algorithms.reinforce.reinforce import REINFORCE

__all__ = [
    "REINFORCE",
    "CnnPolicy",
    "DictEpisodicRolloutBuffer",
    "EpisodicRolloutBuffer",
    "MlpPolicy",
    "MultiInputPolicy",
]
