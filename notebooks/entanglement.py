# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Entanglement: how mixed are classes in hidden layers, and does mixing them help?
#
# **Claim.** Training pulls classes apart in late layers only; a network whose hidden layers are made to keep classes entangled is no less
# accurate, and its neighbours tell outliers better. Frosst, Papernot, Hinton 2019, *Analyzing and improving representations with the soft
# nearest neighbor loss* ([arXiv 1902.01889](https://arxiv.org/abs/1902.01889)). What adversarial training does to entanglement is ours to ask.
#
# **We measure** the soft nearest neighbour loss of every layer, minimised over temperature, in units of its bound: 0 where classes lie
# apart, 1 where features say nothing of them. Then what entangled networks are good for: accuracy, neighbours, attacks that transfer.
#
# **Refuted if** early layers change with training as late ones do (ENT-1), if entangling costs a point of accuracy (ENT-2), if neighbours
# of entangled networks tell outliers no better (ENT-4), if softmax is as good an alarm (ENT-5), if perturbations transfer as often (ENT-6),
# or if robust networks are no more entangled (ENT-9).
#
# **Cost.** `smoke` seconds; `laptop` about nine minutes of one core with the shipped networks, one when measured before; `cifar` about forty
# minutes, or from the committed rows where CIFAR-10 is not there.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop or cifar
seeds: int = 0  # networks per arm; 0 takes the preset, as below
n_batches: int = 0  # disjoint batches on which the entanglement of layers is measured
n_neighbours: int = 0  # neighbours in each layer that DkNN counts
checkpoint: str = ""  # file with a network of your own, drawn beside the arms as "mine", in no verdict
architecture: str = ""  # of that file, where its tensors do not tell it, such as torchvision:resnet18
device: str = "auto"  # auto, cpu or cuda
interactive: str = "auto"  # auto, on or off

# %% [markdown]
# ## The networks
#
# Beside the arms of every finding, standard and robust with their controls, there are two of this one: *entangled* networks, trained with
# the loss of all maps but the last as a reward, and *disentangled* ones, with the same weight of the other sign. The weight was chosen by a
# rule, on training images held out: of those that entangle the most accurate. The last map and the pooled code stay free.
#
# A network of your own is drawn beside them as *mine*, and takes part in no verdict: name its file in `checkpoint`, or give
# `study.networks(mine=model)`.

# %%
import torch
from torch.nn import functional as F

import reprolib
from reprolib.findings.entanglement import attacked, explorer, external, figures, gradients, layers
from reprolib.measures.entangled_layers import entanglements, spread_ratio, squared_distances
from reprolib.measures.soft_nearest_neighbor import soft_nearest_neighbor_loss
from reprolib.models.grams import collect, spatial_mean
from reprolib.models.layers import shrunk

study = reprolib.start("entanglement", globals())
nets = layers.networks(study)
study.cards(nets)

# %% [markdown]
# ## Which layers are entangled?
#
# **ENT-1**: training disentangles late layers, not early ones. **ENT-9**: layers of robust networks stay more entangled. **ENT-12**: where
# the loss is rewarded, points of a class lie further apart. Batches are the units, never points inside one, where a duplicate is a neighbour
# at distance 0.


# %%
def entanglement_of_layers(network, x, y):
    """By layer: entanglement of the classes, on whole and on averaged maps, at which temperature, and the spread of a class."""
    maps = collect(network, x, reduce=lambda a: (squared_distances(shrunk(a)), squared_distances(spatial_mean(a))))
    whole, pooled = (torch.stack(distances) for distances in zip(*maps.values(), strict=True))
    least = entanglements(whole, y)
    numbers = {"entanglement": least.share, "temperature": least.relative_temperature, "at_bound": least.at_bound}
    numbers["entanglement@pooled"] = entanglements(pooled, y).share
    numbers |= {"spread": spread_ratio(whole, y), "spread@pooled": spread_ratio(pooled, y)}
    return {layer: {name: float(of[k]) for name, of in numbers.items()} for k, layer in enumerate(maps)}


study.add(layers.measure(study, nets, entanglement_of_layers))
study.add(layers.through_training(study, nets, entanglement_of_layers))
study.add(layers.over_temperature(study, nets))

# %% [markdown]
# What the loss rewards, on points of the plane that follow it. At one temperature it changes by scale alone: points fly apart, or into
# heaps. At the minimum over temperature it cannot, and entangling stops at the bound.

# %%
from reprolib.findings.entanglement import toy

study.claim("ENT-1")
study.claim("ENT-9")
study.claim("ENT-12")
caption = "Entanglement of each layer of a standard network through its training; epoch 0 is the untrained network."
if (study.rows["quantity"] == layers.BY_EPOCH).any():
    study.figure(figures.through_training(study.rows), "training", caption, "all lines fall alike", drawn=f"ENT-1 {layers.BY_EPOCH}")
caption = "The loss of three layers over temperature, a line a network, on one batch; a dot at its minimum."
failure = "minima lie at one temperature, so that a fixed one would do"
study.figure(figures.over_temperature(study.rows), "temperature", caption, failure, drawn="ENT-9 loss_over_temperature")
caption = "200 points with random labels that follow the loss. Above: entanglement; below: the loss they follow / bound, and spread."
study.figure(figures.toy(toy.paths()), "toy", caption, "both halves look alike", drawn=())

# %% [markdown]
# ## Under attack
#
# Every network is attacked at the radius that fools it on half of the images it has right. **ENT-10**: of the room that a clean layer leaves
# below its bound, a standard network loses more. **ENT-7**: signs of the input gradient cluster by class in robust networks.


# %%
def gradient_signs(network, x, y):
    """Signs of the gradient of each image's cross-entropy to its pixels, (n, d)."""
    x = x.clone().requires_grad_()
    loss = F.cross_entropy(network(x).double(), y, reduction="sum")  # in double: a sure network's loss rounds to 0
    return torch.autograd.grad(loss, x)[0].flatten(1).sign()


study.add(gradients.signs(study, nets, gradient_signs))


# %%
def attacked_layers(network, x, y, moved):
    """By layer, at the clean temperature and at the highest that is as good: clean and attacked loss over the bound."""

    def pulled(maps):
        clean, away = shrunk(maps).split(len(x))
        at = attacked.clean_at(clean, y).items()
        return {kind: (one.share, soft_nearest_neighbor_loss(away, y, one.temperature) / one.bound) for kind, one in at}

    return collect(network, torch.cat([x, moved]), reduce=pulled)


study.add(attacked.pulled(study, nets, attacked_layers))

# %%
study.claim("ENT-7")
study.claim("ENT-10")
caption = "Entanglement by layer; clean and at equal attack success, on smaller batches; the share of its room that a layer loses."
failure = "the standard line of headroom lost runs with or below the robust one"
study.figure(figures.by_layer(study.rows), "layers", caption, failure, drawn=("ENT-9 entanglement_by_layer", "ENT-10"))
caption = "Entanglement by class of the signs of input gradients, a dot a network."
study.figure(figures.gradient_signs(study.rows), "gradients", caption, "robust dots lie among the standard ones", drawn="ENT-7")

# %% [markdown]
# ## Neighbours and outliers
#
# In every layer the nearest training images are counted by class. **ENT-4**: outliers have fewer neighbours of the class they are taken for,
# the more so in entangled networks. **ENT-5**: credibility, a p-value of these counts, is a better alarm than the largest softmax probability.


# %%
from reprolib.findings.entanglement import neighbours
from reprolib.measures.dknn import DkNN


def neighbours_of(network, images):
    """Layer by layer, of every image: how many of its nearest training images are of each class."""
    found = {}
    for layer, features in images.through(network):
        near = DkNN({layer: features.pop("index")}, images.labels, images.k)
        found[layer] = {name: near.counts({layer: of})[:, 0] for name, of in features.items()}
    return found


study.add(neighbours.neighbours(study, nets, neighbours_of))
study.claim("ENT-4")
study.claim("ENT-5")
caption = "Credibility and the largest softmax probability of ordinary images (filled) and of others, and accuracy against confidence."
study.figure(figures.alarms(study.rows), "alarms", caption, "softmax has the larger AUROC", drawn="ENT-5")
caption = "Share of neighbours of the predicted class in three layers, and what it tells apart, layer by layer."
study.figure(figures.support(study.rows), "support", caption, "entangled lines run no higher than standard ones", drawn="ENT-5")

# %% [markdown]
# ## Accuracy and attacks
#
# **ENT-2**: entangling costs no accuracy, and **ENT-3** is no worse than pulling classes apart. **ENT-6**: perturbations transfer less between
# entangled networks; radii are such that each network's own attack succeeds equally often, and a shorter perturbation may transfer less
# whatever it was made for. **ENT-11**: entangled networks are not robust.


# %%
from reprolib.findings.entanglement import accuracy, robustness, transfer
from reprolib.perturb.attacks import predictions


def is_correct(network, images):
    """Whether the network gives each image its own class, (n,)."""
    return predictions(network, images.x) == images.y


def transferred(moved, networks):
    """Whether each perturbation fools each of the other networks too, (n, networks)."""
    return torch.stack([predictions(one, moved.x) != moved.y for one in networks], dim=1)


study.add(accuracy.correct(study, nets, is_correct))
study.add(accuracy.costs(study, nets))
study.add(transfer.transfers(study, nets, transferred))
study.add(robustness.adversarial(study, nets, is_correct))

# %%
study.claim("ENT-2")
study.claim("ENT-3")
study.claim("ENT-6")
study.claim("ENT-11")
caption = "Share of perturbations that fool another network too; bold and diamonds: their own."
failure = "entangled to entangled lies as high as standard to standard"
if (study.rows["quantity"] == "transferred").any():  # of one network an arm there are no pairs
    study.figure(figures.transfer(study.rows), "transfer", caption, failure, drawn="ENT-6")
caption = "Accuracy without attack and under PGD, by the weight of the loss; hollow: networks that the weight was chosen by."
failure = "without attack entangled networks lie below 0; under attack away from it"
study.figure(figures.against_alpha(study.rows), "alpha", caption, failure, drawn=("ENT-2", "ENT-11"))

# %% [markdown]
# ## Generators
#
# **ENT-8**: points of a generator become entangled with the data as it learns, up to the bound of two classes, and less where it collapses.


# %%
from reprolib.findings.entanglement import generators


def coverage(samples, real):
    """Of a generator's points (batches, n, 2): their entanglement with real ones, modes hit, and the share near a mode."""
    is_fake = torch.arange(2).repeat_interleave(real.shape[1])
    near = torch.cdist(samples.flatten(0, 1), generators.MODES) <= generators.NEAR
    both = torch.stack([squared_distances(points) for points in torch.cat([real, samples], dim=1)])
    modes = (near.float().mean(dim=0) >= generators.HIT).sum()
    return {"real_fake": entanglements(both, is_fake).share, "modes_hit": modes, "share_within": near.any(dim=1).float().mean()}


study.add(generators.generators(study, coverage))
study.claim("ENT-8")
caption = "Entanglement of samples with the data and modes hit, through training, by generator; samples of one at four steps."
if (study.rows["claim"] == "ENT-8").any():
    study.figure(figures.generators(study.rows), "generators", caption, "the collapsing line ends with the others", drawn="ENT-8")

# %% [markdown]
# ## External networks
#
# A pair of ResNet-20 that this project did not train, one plainly and one adversarially: one network each, so no verdict.

# %%
study.add(
    external.measure(
        study,
        lambda pair: layers.measure(study, pair, entanglement_of_layers),
        lambda pair: gradients.signs(study, pair, gradient_signs),
        lambda pair: attacked.pulled(study, pair, attacked_layers),
    )
)
if (told := external.table(study.rows)) is not None:
    print(told.to_string())

# %% [markdown]
# ## Explore
#
# A network and a layer: the loss over temperature, and how wide a neighbourhood is at it.

# %%
explorer.temperatures(study, nets, interactive=study.settings.interactive)

# %% [markdown]
# ## Verdicts
#
# Two questions, two answers: does the claim hold, and does only adversarial training do it?

# %%
study.finish()

# %% [markdown]
# ## What is lost at this scale
#
# Image generators and deep ResNets; notMNIST and SVHN; approximate neighbour indices. Effects of the loss on accuracy are of the order of
# seed noise, and where standard networks are right on nearly every image they cannot be asked about. Neighbourhoods among a few thousand
# training images are coarser than among 60,000, and p-values are steps of one over the calibration images. Where the images are procedural,
# outliers are new shapes with new textures and new hues; a generator is a small network in the plane.
