"""Settings of A2C for the zoo: ``-conf sor_sb3.zoo.a2c``."""

from sor_sb3.zoo import zoo_hyperparameters

hyperparams = zoo_hyperparameters("a2c")
