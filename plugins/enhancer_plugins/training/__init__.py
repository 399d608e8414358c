"""The kit that backbones share; public, so that a third party's backbone can use it too.

- :mod:`~enhancer_plugins.training.backbone`: the options of training, and the way through a run;
- :mod:`~enhancer_plugins.training.model`: what every model shares: batches, the fuser's part, optimiser, state;
- :mod:`~enhancer_plugins.training.run`: what a run begins with: its device, its seeds, its name;
- :mod:`~enhancer_plugins.training.graph`: the normalised bipartite adjacency, and propagation over it;
- :mod:`~enhancer_plugins.training.sampler`: an epoch of (user, positive, negative) triples;
- :mod:`~enhancer_plugins.training.losses.bpr`: BPR, and by their names the losses of the next two;
- :mod:`~enhancer_plugins.training.losses.contrast`: InfoNCE over distinct rows;
- :mod:`~enhancer_plugins.training.losses.softmax`: sampled softmax;
- :mod:`~enhancer_plugins.training.losses.multinomial`: the multinomial likelihood over all items;
- :mod:`~enhancer_plugins.training.pairs`: two pieces of torch's work at once;
- :mod:`~enhancer_plugins.training.compiled.threads`: how many threads torch and kernels have;
- :mod:`~enhancer_plugins.training.semantics`: the vectors of a run, and where unseen nodes lie by regression on them;
- :mod:`~enhancer_plugins.training.mlp`: dense layers that fusers train, and their way into serving;
- :mod:`~enhancer_plugins.training.compiled.steps`: whole steps of BPR without torch;
- :mod:`~enhancer_plugins.training.adam`: the optimiser;
- :mod:`~enhancer_plugins.training.loop`: epochs, early stopping, checkpoints;
- :mod:`~enhancer_plugins.training.unseen`: rows of users and items without a training interaction;
- :mod:`~enhancer_plugins.training.compiled.kernels`: the numba kernels beneath all this on a CPU;
- :mod:`~enhancer_plugins.training.compiled.gather`: the one of them that fetches rows, in LLVM's own vectors.

Import the modules where they are used: they load torch and numba, this package does not.
"""
