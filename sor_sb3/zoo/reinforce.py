"""Settings of REINFORCE for the zoo: ``-conf sor_sb3.zoo.reinforce``."""

from sor_sb3.zoo import zoo_hyperparameters

hyperparams = zoo_hyperparameters("reinforce")
