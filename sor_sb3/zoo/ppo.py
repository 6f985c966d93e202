"""Settings of PPO for the zoo: ``-conf sor_sb3.zoo.ppo``."""

from sor_sb3.zoo import zoo_hyperparameters

hyperparams = zoo_hyperparameters("ppo")
