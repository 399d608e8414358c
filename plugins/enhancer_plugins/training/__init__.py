"""Training kit shared by the bundled backbones and fusers, and open to others.

Without torch:

- :mod:`~enhancer_plugins.training.closed_form`: finish a run of a backbone that computes its factors at once, and
  choose an option on validation;
- :mod:`~enhancer_plugins.training.interactions`: counts of training interactions, and weights by age;
- :mod:`~enhancer_plugins.training.placing.regression`: weighted ridge regression, its penalty chosen by leave-one-out;
- :mod:`~enhancer_plugins.training.placing.kernel`: the same on similarities to trained entities;
- :mod:`~enhancer_plugins.training.placing.views`: regression on vectors of several views, and their weights;
- :mod:`~enhancer_plugins.training.placing.options`: options of a fuser that places by regression;
- :mod:`~enhancer_plugins.training.placing.calibration`: calibration of placed rows on validation;
- :mod:`~enhancer_plugins.training.semantic_vectors`: semantic vectors, and placement by regression on them;
- :mod:`~enhancer_plugins.training.placing.unseen`: rows of users and items without a training interaction.

With torch and numba:

- :mod:`~enhancer_plugins.training.backbone`: base class and options of backbones that are trained in epochs;
- :mod:`~enhancer_plugins.training.model`: base class of models: fusion, optimiser, state, served factors;
- :mod:`~enhancer_plugins.training.loop`: epochs, validation, early stopping, checkpoints;
- :mod:`~enhancer_plugins.training.run`: device, engine, random generators and identity of a run;
- :mod:`~enhancer_plugins.training.sampler`: (user, positive, negative) triples of an epoch;
- :mod:`~enhancer_plugins.training.losses`: BPR, InfoNCE, sampled softmax, multinomial likelihood;
- :mod:`~enhancer_plugins.training.graph`: normalised bipartite adjacency matrix, and propagation over it;
- :mod:`~enhancer_plugins.training.semantics`: semantic vectors on the device of a run;
- :mod:`~enhancer_plugins.training.mlp`: multilayer perceptron for fusers;
- :mod:`~enhancer_plugins.training.adam`: Adam;
- :mod:`~enhancer_plugins.training.compiled`: kernels for the CPU, whole steps of BPR, threads.

Import the modules where they are used: this package itself imports nothing.
"""
