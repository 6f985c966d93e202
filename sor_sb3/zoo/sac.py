"""Settings of SAC for the zoo: ``-conf sor_sb3.zoo.sac``."""

from sor_sb3.zoo import zoo_hyperparameters

hyperparams = zoo_hyperparameters("sac")
