"""The training loop of the notebook that the project comes from, in a few lines of NumPy and Torch.

Three venues with uniform draws, fifty steps an episode, a small softmax network, one update an episode. Made learnable:
the state that is charged is the one that was observed, and it is redrawn afterwards.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

VENUES, STEPS = 3, 50
SPREAD, LIQUIDITY, LATENCY = (0.01, 0.05), (50.0, 200.0), (1.0, 10.0)
GAMMA, LEARNING_RATE = 0.99, 1e-2


class NotebookEnv:
    """One order, one venue a step; the cost is linear in what the venue shows."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.step_number = 0
        self._draw()

    def _draw(self) -> None:
        self.spread, self.liquidity, self.latency = (
            self.generator.uniform(low, high, VENUES) for low, high in (SPREAD, LIQUIDITY, LATENCY)
        )

    def observe(self) -> np.ndarray:
        """float32 (9,): spreads, liquidity / 200, latency / 10."""
        return np.concatenate((self.spread, self.liquidity / 200.0, self.latency / 10.0)).astype(np.float32)

    def costs(self) -> np.ndarray:
        """(3,): what each venue would cost now."""
        return self.spread + 0.01 * 100.0 / self.liquidity + 0.001 * self.latency

    def reset(self) -> np.ndarray:
        """Begin an episode."""
        self.step_number = 0
        self._draw()
        return self.observe()

    def step(self, venue: int) -> tuple[np.ndarray, float, bool]:
        """Charge the observed state, then redraw it."""
        cost = self.spread[venue] + 0.01 * 100.0 / self.liquidity[venue] + 0.001 * self.latency[venue]
        self._draw()
        self.step_number += 1
        return self.observe(), -float(cost), self.step_number >= STEPS


class NotebookLearner:
    """REINFORCE, an episode at a time.

    The returns of an episode are standardised over its steps, where they mostly say how much time is left; with the
    notebook's discount no seed that was tried learned to tell venues apart. With discount 0 each did.
    """

    def __init__(self, seed: int, gamma: float = GAMMA) -> None:
        torch.manual_seed(seed)
        self.env, self.gamma = NotebookEnv(seed), gamma
        self.policy = nn.Sequential(nn.Linear(3 * VENUES, 32), nn.ReLU(), nn.Linear(32, VENUES), nn.Softmax(dim=-1))
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=LEARNING_RATE)
        self.steps = 0

    def episode(self) -> int:
        """Play one episode and learn from it; its steps."""
        observation, done = self.env.reset(), False
        log_probs, rewards = [], []
        while not done:
            choice = Categorical(self.policy(torch.from_numpy(observation)))
            venue = choice.sample()
            log_probs.append(choice.log_prob(venue))
            observation, reward, done = self.env.step(int(venue.item()))
            rewards.append(reward)
        returns: list[float] = []
        total = 0.0
        for reward in reversed(rewards):
            total = reward + self.gamma * total
            returns.insert(0, total)
        wanted = torch.tensor(returns)
        wanted = (wanted - wanted.mean()) / (wanted.std() + 1e-9)
        loss = -(torch.stack(log_probs) * wanted).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += len(rewards)
        return len(rewards)


class FixedStates:
    """States that this env shows from fixed seeds; they do not depend on what is done, so that they are drawn once."""

    def __init__(self, episodes: int, first_seed: int = 1_000_000) -> None:
        observations, costs = [], []
        for episode in range(episodes):
            env = NotebookEnv(first_seed + episode)
            for _ in range(STEPS):
                env._draw()
                observations.append(env.observe())
                costs.append(env.costs())
        self.observations, self.costs = np.stack(observations), np.stack(costs)

    def cost_of(self, venues: np.ndarray) -> float:
        """Mean cost of an episode in which step i goes to `venues[i]`."""
        return float(STEPS * self.costs[np.arange(len(venues)), venues].mean())

    def random_cost(self) -> float:
        """Mean cost of an episode of a router that draws the venue."""
        return float(STEPS * self.costs.mean())

    def cheapest_cost(self) -> float:
        """Mean cost of an episode of a router that knows the cost."""
        return float(STEPS * self.costs.min(axis=1).mean())

    def standard_error(self) -> float:
        """Of `random_cost`."""
        return float(STEPS * self.costs.mean(axis=1).std() / np.sqrt(len(self.costs)))

    def mode_cost(self, policy: nn.Module) -> float:
        """Mean cost of an episode of a network that takes its likeliest venue."""
        with torch.no_grad():
            return self.cost_of(policy(torch.from_numpy(self.observations)).argmax(dim=1).numpy())
