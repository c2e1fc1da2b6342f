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
# # Are the layers of robust networks more alike, and do their blocks fade?
#
# **Claim.** Adversarial training makes the layers of a network more alike, also far apart; the blocks of the similarity map
# fade; robust and standard networks differ from each other more than two of a kind; and what robust networks learn too much
# of sits in their deep layers. Cianfarani, Bhagoji, Sehwag, Zhao, Zheng, Mittal 2022, *Understanding Robust Learning through
# the Lens of Representation Similarities* ([arXiv 2206.09868](https://arxiv.org/abs/2206.09868)).
#
# **We measure** linear CKA with the unbiased HSIC between all layers, on disjoint batches of test images, in standard,
# robust and untrained networks of several seeds, and in networks trained on noise or blur, or stopped at the accuracy of the robust ones.
#
# **Refuted if** layers of robust networks are no more alike (BLK-1, BLK-2), if the contrast between stages does not fall
# (BLK-3), or if a robust and a standard network are as alike as two of a kind (BLK-4).
#
# **Cost.** `smoke` seconds; `laptop` about three minutes with the shipped networks, half a minute when measured before; `cifar`
# about seventeen minutes, or from the committed rows where CIFAR-10 is not there.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop or cifar
seeds: int = 0  # networks per arm; 0 takes the preset, as below
batch_size: int = 0  # images a batch on which layers are compared
n_batches: int = 0  # disjoint batches of test images
attack_eps: float = 0.0  # radius of the attack on the compared images, pixel units; 0 takes the training radius
attack_steps: int = 0  # gradient steps of that attack
checkpoint: str = ""  # file with a network of your own, drawn beside the arms as "mine", in no verdict
architecture: str = ""  # of that file, where its tensors do not tell it, such as torchvision:resnet18
device: str = "auto"  # auto, cpu or cuda
interactive: str = "auto"  # auto, on or off

# %%
import torch

import reprolib
from reprolib.findings.block_structure import cards, comparing, explorer, external, figures, networks, overfitting, settling
from reprolib.models.grams import collect, layer_set

study = reprolib.start("block_structure", globals())
nets = networks.networks(study)
study.add(cards.measure(nets))
study.cards(nets.everyone)


# %% [markdown]
# ## The networks, and what is compared
#
# Deep networks carry the claims on depth: a standard and a robust arm, and untrained networks as the floor. The scale's own
# networks, the same ones where they are deep enough, carry radii and controls. The arms must differ: under attack the robust
# one has to keep at least 20 points more accuracy, or nothing below means anything.
#
# A network of your own is drawn beside them as *mine*, and takes part in no verdict: name its file in `checkpoint`, or give
# `networks.networks(study, mine=model)` any module from images in [0, 1] to logits.
#
# This is the whole question: the features of one batch of images, layer by layer, the maps after each ReLU and the pooled features. Compare
# other layers (`layer_set(network, "blocks")`), or averages over positions (`reduce=spatial_mean`), and everything below is measured anew.


# %%
def compared(network, images):
    """Features (n, ...) of every layer that is compared, in the order of execution."""
    return collect(network, images, layer_set(network), reduce=torch.clone)


# %% [markdown]
# ## Maps
#
# With $K_i = X_i X_i^\top$ for the centred features $X_i$ of one batch at layer $i$,
#
# $$\mathrm{CKA}_{ij} = \frac{\overline{\mathrm{HSIC}_1(K_i, K_j)}}{\sqrt{\overline{\mathrm{HSIC}_1(K_i, K_i)}\;\overline{\mathrm{HSIC}_1(K_j, K_j)}}}$$
#
# where the bar averages over batches, before the ratio is taken: images drawn twice into one batch would raise HSIC by themselves, so
# batches are what is resampled. If the claim holds, the robust map is brighter as a whole, and the squares along its diagonal (the stages,
# between white lines) stand out less. Untrained networks are the reason for caution: nothing has made their layers differ.

# %%
study.add(comparing.arms(nets, compared))
study.figure(
    figures.maps(study.rows),
    "maps",
    caption="CKA of every two layers of the first network of each kind, the first layer at the bottom left, on one scale of colours.",
    failure="the standard and the robust map alike",
    drawn="BLK-1 hsic",
)

# %% [markdown]
# ## More alike, over long range, with less contrast?
#
# **BLK-1**: two different layers of a robust network are more alike. **BLK-2**: also layers more than half the network apart.
# **BLK-3**: the contrast, mean similarity within stages minus between them, falls. A longest run of similar layers is shown
# beside: it grows where everything grows alike, and is no block.

# %%
from reprolib.findings.block_structure import rotating

study.add(comparing.roles(nets, compared))
study.add(rotating.measure(nets, compared))
for claim in ("BLK-1", "BLK-2", "BLK-3"):
    study.claim(claim)
caption = "Mean CKA of layers so many steps apart; bands span the seeds."
failure = "bands of the robust and the standard networks that overlap"
study.figure(figures.lags(study.rows), "lags", caption, failure, drawn=("BLK-1 hsic", "BLK-10 hsic"))

# %% [markdown]
# ## Because they are robust?
#
# The same numbers of networks that are untrained, noise-trained, blur-trained, or merely less accurate. What they show too is not
# the doing of adversarial training; four indices stand side by side because they need not move together.

# %%
study.figure(
    figures.index_panel(study.rows),
    "indices",
    caption="Four indices of the maps, a dot per network, kinds side by side; last, where it is another, the architecture with controls.",
    failure="dots of both arms that overlap, or other kinds of networks beyond the robust ones",
    drawn=("BLK-1 hsic", "BLK-10 hsic"),
)

# %% [markdown]
# ## Not an artefact of the measure?
#
# CKA can be dominated by one direction, or by a few images of huge norm. **BLK-9** asks the same with Procrustes in the place
# of CKA, without each layer's first principal component, and without the top 1 % of points.

# %%
study.claim("BLK-9")
study.figure(
    figures.dominance(study.rows),
    "dominance",
    caption="Share of the first principal component and of the top 1 % of points, by depth; below, the maps with either removed.",
    failure="maps that go dark, or come together, without the first component or the top points",
    drawn="BLK-1",
)

# %% [markdown]
# ## Robust against standard
#
# **BLK-4**: at equal depth a standard and a robust network are less alike than two of a kind. Twins of one seed share their
# first weights, so only networks of different seeds are compared. Thin lines ask whether noise, blur or less accuracy do the same.

# %%
study.claim("BLK-4")
if (study.rows["quantity"] == "hsic_pair").any():
    study.figure(
        figures.same_depth(study.rows),
        "same_depth",
        caption="CKA of two networks at equal depth, pairs of different seeds; bands span the pairs.",
        failure="the line across the arms between those within them",
        drawn="BLK-1 hsic_pair",
    )

# %% [markdown]
# ## Adversarial images
#
# **BLK-6**: features of adversarial images drift from the clean ones with depth in a standard network and stay with them
# (CKA above .8 in the last third of the layers) in a robust one. An attack that fails moves little, so what decides is the
# same attack scaled down until it succeeds equally often in every network.

# %%
from reprolib.findings.block_structure import attacking

study.add(attacking.measure(nets, compared))
study.claim("BLK-6")
study.figure(
    figures.adversarial(study.rows),
    "adversarial",
    caption="CKA of clean and moved images by depth, with the full attack (dotted: noise of its norm) and at equal success.",
    failure="lines of both arms that fall together",
    drawn="BLK-6",
)

# %% [markdown]
# ## Through training
#
# **BLK-7**: early layers settle first, in both arms: of the way from the untrained state to the last they have more behind them. **BLK-5**, where a pair
# of networks was trained on few images until it overfits: from its best epoch to its last the robust network changes in its deep layers.

# %%
study.add(settling.measure(nets, compared))
study.add(overfitting.measure(nets, compared))
for claim in ("BLK-7", "BLK-5"):
    study.claim(claim)
if (study.rows["claim"] == "BLK-7").any():
    caption, failure = "CKA of every epoch with the last, by layer, and its mean over training.", "lines that do not fall with depth"
    study.figure(figures.settling(study.rows), "settling", caption, failure, drawn="BLK-7")
if (study.rows["claim"] == "BLK-5").any():
    caption = "Change from the best epoch to the last, by depth; dashed, over as many epochs before the best."
    failure = "the robust line no steeper than its dashed one, or than the standard one"
    study.figure(figures.overfitting(study.rows), "overfitting", caption, failure, drawn="BLK-5")

# %% [markdown]
# ## The radius of training
#
# **BLK-8**: similarity grows with the radius at which the network was trained. The largest radius is shown, not tested, and so are,
# where a scale has them, another norm and a pair trained on Fashion-MNIST.

# %%
study.claim("BLK-8")
study.figure(
    figures.radii(study.rows),
    "radii",
    caption="Off-diagonal mean and stage contrast against the training radius, a dot per network.",
    failure="dots of one radius that span more than the rise",
    drawn="BLK-10 hsic",
)

# %% [markdown]
# ## Why the unbiased form, and external networks
#
# The plain form of CKA, which public code uses, calls independent noise alike: the fewer images, the more.
#
# Then, where their files are, a ResNet-20 trained plainly and one trained on PGD adversaries, neither by us
# (EhanW/advrob-cifar10): BLK-1 to BLK-3 in numbers, beside ours and without a verdict, as there is one seed of each.

# %%
from reprolib.findings.block_structure import sweeping

study.add(sweeping.measure(nets, compared))
study.add(external.measure(nets, compared))
caption = "Biased and unbiased CKA against the number of images a batch: of independent Gaussians, and of one network of each kind."
drawn = ("shown gaussian_cka", "shown off_diagonal_mean_by_n")
study.figure(figures.bias(study.rows), "bias", caption, "dashed lines that stay level", drawn)
table = external.external_table(study.rows)
if len(table):
    caption = "CKA of every two layers of the external ResNet-20, standard and robust, and of the two at equal depth."
    study.figure(figures.external_maps(study.rows), "external", caption, "maps that are alike", drawn="external")
table if len(table) else None

# %% [markdown]
# ## Explore
#
# Choose two layers, and drag through the epochs of a training and through the radii.

# %%
explorer.block_structure(study.rows, interactive=study.settings.interactive)

# %% [markdown]
# ## Verdicts
#
# A claim is `supported` only where its whole interval, over networks and batches, lies beyond the smallest effect that counts, and its
# checks hold. `inconclusive` says what was not met.

# %%
study.finish()

# %% [markdown]
# ## What is lost at this scale
#
# The paper compares 80 modules of wide residual networks; block structure belongs to networks with capacity to spare, and ours
# have 8 to 18 layers in stages of at most four or five, so the contrast is coarse. Left out are images of 224 pixels, threats
# outside Lp balls, and the CCA family of measures; overfitting over 200 epochs is emulated on a tenth of the images. CKA of narrow
# layers on simple images follows the similarity of the images themselves: hence the untrained networks and the form without the pixels.
#
# At `laptop` the images are procedural (ShapeTex): a bright textured figure on a darker ground. Shape and texture each give the class;
# colour, as in photographs, is a third cue, weak and planted: the hues of figure and ground scatter about those of the class, and alone
# give it in 58 % of the images. This world was chosen by a pilot because it can show the findings, which is not tuning a verdict: in the first one,
# figures of random polarity and tint on an empty ground, a network needed to see nothing but stripes, and almost every claim stayed
# open. Left after trying: other starts and judges, grey figures of fixed polarity, finer grain, hues that tell nothing, less contrast,
# less rotation, a weaker ground. The networks here are not the pilot's.
