"""REINFORCE, the Monte-Carlo policy gradient; ``buffers.py`` says how steps become episodes."""

from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import explained_variance
from torch.nn import functional as F

from sor_sb3.algorithms.policies import leave_critic_idle
from sor_sb3.algorithms.reinforce.buffers import Baseline, EpisodicRolloutBuffer, episodic_buffer_class

SelfREINFORCE = TypeVar("SelfREINFORCE", bound="REINFORCE")


class REINFORCE(A2C):
    r"""The Monte-Carlo policy gradient; by default with a value baseline and advantages scaled to variance 1.

    One gradient step per rollout, along the estimate

    .. math:: \hat g = \frac1M \sum_{i} \sum_{t=0}^{T_i - 1}
        \nabla_\theta \log \pi_\theta(a_{i,t} \mid s_{i,t}) \, (G_{i,t} - b_{i,t}),
        \qquad G_{i,t} = \sum_{k=t}^{T_i - 1} \gamma^{k-t} r_{i,k},

    where i runs over the episodes that ended in the rollout, :math:`T_i` is the length of episode i and
    :math:`M = \sum_i T_i`. With ``gamma=1``, ``normalize_advantage=False`` and a baseline b that does not depend on the
    action, the sum is an unbiased estimate of the gradient of the expected return, times the number of episodes. (With
    ``gamma < 1`` the weight :math:`\gamma^t` of step t is left out, as everywhere in Stable-Baselines3.)

    R. J. Williams (1992), Simple statistical gradient-following algorithms for connectionist reinforcement learning,
    Machine Learning 8, 229-256.

    The settings and the network are those of A2C. In contrast to A2C, the return is the sum of the rewards up to the
    end of the episode. The return is bootstrapped neither where the rollout is cut nor where a time limit truncates the
    episode. A critic is trained only for ``baseline="value"``. An update uses every step of the episodes that ended
    since the last update; see :mod:`~sor_sb3.algorithms.reinforce.buffers` for how to choose ``n_steps``.

    Parameters that are not named here mean what they mean in :class:`~stable_baselines3.a2c.a2c.A2C`.

    :param n_steps: steps per environment and rollout, best a multiple of the episodes' length
    :param gamma: discount factor
    :param baseline: b in the formula: ``"none"`` 0; ``"mean"`` the mean return of the update's *other* episodes
        at the same step of theirs (unbiased where lengths do not depend on actions; needs many episodes);
        ``"value"`` a state-value function, fitted to the returns by mean squared error; ``"scenario"`` the mean of
        the others in the same scenario, where ``rollout_buffer_kwargs`` give ``envs_per_scenario``
    :param vf_coef: weight of the value loss, if ``baseline="value"``; the gradient is clipped as a whole, so
        that where returns are large a large weight leaves little of it to the policy
    :param rollout_buffer_class: a subclass of :class:`EpisodicRolloutBuffer`; ``None`` chooses one
    :param normalize_advantage: whether to scale a rollout's advantages to mean 0 and standard deviation 1
    :raises ValueError: if ``baseline`` is none of the three
    :raises TypeError: if ``rollout_buffer_class`` is not episodic
    """

    rollout_buffer: EpisodicRolloutBuffer

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 7e-4,
        n_steps: int = 100,
        gamma: float = 1.0,
        baseline: Baseline = "value",
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        rms_prop_eps: float = 1e-5,
        use_rms_prop: bool = True,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[EpisodicRolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        normalize_advantage: bool = True,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            rms_prop_eps=rms_prop_eps,
            use_rms_prop=use_rms_prop,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            normalize_advantage=normalize_advantage,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.baseline: Baseline = baseline
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self.rollout_buffer_class = episodic_buffer_class(self.observation_space, self.rollout_buffer_class)
        self.rollout_buffer_kwargs = {**self.rollout_buffer_kwargs, "baseline": self.baseline}
        super()._setup_model()
        if self.baseline != "value":
            leave_critic_idle(self.policy)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        # collect_rollouts calls this after the callbacks and before it bootstraps truncated episodes.
        super()._update_info_buffer(infos, dones)
        if dones is not None:
            self.rollout_buffer.hide_truncations(infos, dones)

    def train(self) -> None:
        """Take one gradient step on all the episodes that ended in the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)

        buffer = self.rollout_buffer
        self.logger.record("train/n_episodes", buffer.n_episodes)
        if buffer.n_episodes == 0:
            return

        steps = next(buffer.get(batch_size=None))
        actions = steps.actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else steps.actions
        values, log_prob, entropy = self.policy.evaluate_actions(steps.observations, actions)

        # The formula: the mean over steps of log pi (G - b)
        returns, baselines = buffer.returns, buffer.baselines
        advantages = buffer.to_torch(returns - baselines)
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy_loss = -(advantages * log_prob).mean()

        # Without a closed form, -log pi of the sampled actions estimates the entropy.
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        loss = policy_loss + self.ent_coef * entropy_loss
        if self.baseline == "value":
            value_loss = F.mse_loss(values.flatten(), steps.returns)
            loss = loss + self.vf_coef * value_loss

        self.policy.optimizer.zero_grad()
        loss.backward()
        th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/carried_fraction", buffer.carried_fraction)
        self.logger.record("train/policy_loss", policy_loss.item())
        self.logger.record("train/entropy_loss", entropy_loss.item())
        if self.baseline == "value":
            self.logger.record("train/value_loss", value_loss.item())
            self.logger.record("train/explained_variance", explained_variance(buffer.values, returns))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", th.exp(self.policy.log_std).mean().item())

    def learn(
        self: SelfREINFORCE,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "REINFORCE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfREINFORCE:
        """Learn for ``total_timesteps`` steps; see :meth:`A2C.learn`."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
