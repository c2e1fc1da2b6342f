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
# robust and untrained networks of several seeds, and resample whole batches.
#
# **Refuted if** layers of robust networks are no more alike (BLK-1, BLK-2), if the contrast between stages does not fall
# (BLK-3), or if a robust and a standard network are as alike as two of a kind (BLK-4).
#
# **Cost.** `smoke` seconds; `laptop` about two minutes with the shipped networks, half a minute when measured before; `cifar`
# about seventeen minutes, or from the committed rows where CIFAR-10 is not there.
#
# **Found so far.** On CIFAR-10 layers of robust networks are far more alike than those of standard ones, also over long range, the
# blocks fade, robust and standard networks are unlike, adversarial features stay, and similarity grows with the radius
# (BLK-2 to BLK-4, BLK-6 to BLK-9 supported), whatever is removed from CKA. But an untrained network's layers are more alike
# still, so the rule calls BLK-1 confounded; its contrast is as low and its long range as similar, which BLK-2 and BLK-3 show
# beside. Training makes layers differ, and robust training makes them differ less. At `laptop`, on procedural images, most of
# it is lost in the difference between seeds. The verdicts stand at the end.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop or cifar
seeds: int = 0  # networks per arm; 0 takes the preset, as below
batch_size: int = 0  # images a batch on which layers are compared
n_batches: int = 0  # disjoint batches of test images
attack_eps: float = 0.0  # radius of the attack on the compared images, pixel units; 0 takes the training radius
attack_steps: int = 0  # gradient steps of that attack
device: str = "auto"  # auto, cpu or cuda
interactive: str = "auto"  # auto, on or off

# %%
import reprolib
from reprolib.findings.block_structure import explorer, external, figures, networks, protocol

study = reprolib.start("block_structure", globals())

# %% [markdown]
# ## The networks
#
# Deep networks carry the claims on depth: a standard and a robust arm, and an untrained network as the floor. The scale's own
# networks, the same ones where they are deep enough, carry radii and controls. The arms must differ: under attack the robust
# one has to keep at least 20 points more accuracy, or nothing below means anything.
#
# ## Comparing layers
#
# The layers are every map after a ReLU, in the order in which the network runs, and the pooled features. With $K_i = X_i X_i^\top$
# for the centred features $X_i$ of one batch at layer $i$,
#
# $$\mathrm{CKA}_{ij} = \frac{\overline{\mathrm{HSIC}_1(K_i, K_j)}}{\sqrt{\overline{\mathrm{HSIC}_1(K_i, K_i)}\;\overline{\mathrm{HSIC}_1(K_j, K_j)}}}$$
#
# where the bar averages over batches, before the ratio is taken. The unit of every interval is a batch: images drawn twice
# into one batch would raise HSIC by themselves.

# %%
nets = networks.networks(study)
study.cards(nets.everyone)
rows = study.rows(protocol.run(study, nets))

# %% [markdown]
# ## Maps
#
# If the claim holds, the whole robust map is brighter than the standard one, and the squares along its diagonal (the stages,
# between white lines) stand out less. An untrained network is the reason for caution: its layers are alike because nothing
# has made them different.

# %%
study.figure(
    figures.maps(rows),
    "maps",
    caption="CKA of every two layers, the first at the bottom left, on one scale of colours; right, a standard with a robust network.",
    seen="cifar: the robust map is one bright square with three dark layers last, the standard one a bright diagonal; the untrained map is as bright as the "
    "robust one. laptop: the robust map is a little brighter, the untrained one the brightest of all. Had the claim failed, the first two maps would be alike.",
)

# %% [markdown]
# ## More alike, over long range, with less contrast?
#
# **BLK-1**: two different layers of a robust network are more alike. **BLK-2**: also layers more than half the network apart.
# **BLK-3**: the contrast, mean similarity within stages minus between them, falls. A longest run of similar layers is shown
# beside: it grows where everything grows alike, and is no block.

# %%
for claim in ("BLK-1", "BLK-2", "BLK-3"):
    study.claim(claim, rows)
study.figure(
    figures.lags(rows),
    "lags",
    caption="Mean CKA of layers so many steps apart; bands span the seeds.",
    seen="cifar: the robust line lies far above the standard one at every distance, near the untrained one, and above it at the far end. laptop: above the "
    "standard one up to ten layers apart, by less than seeds scatter, noise-trained networks higher still. Had the claim failed at cifar, the bands "
    "would overlap as they do at laptop.",
)

# %% [markdown]
# ## Because they are robust?
#
# **BLK-10**: all this against networks that are untrained, trained on noise or blur, or merely less accurate.

# %%
study.claim("BLK-10", rows)
study.figure(
    figures.index_panel(rows),
    "indices",
    caption="Four indices of the maps, a dot per network, kinds side by side; at cifar, last, the architecture that has control networks.",
    seen="cifar: the arms stand clear of each other in every index, further apart than in the paper's figure where that has them. Noise stands between "
    "them, blur and less accuracy with the standard ones, untrained networks with the robust ones or above. laptop: dots of both arms overlap, and "
    "noise goes further: a failed claim.",
)

# %% [markdown]
# ## Not an artefact of the measure?
#
# CKA can be dominated by one direction, or by a few images of huge norm. **BLK-9** asks the same with Procrustes in the place
# of CKA, without each layer's first principal component, and without the top 1 % of points.

# %%
study.claim("BLK-9", rows)
study.figure(
    figures.dominance(rows),
    "dominance",
    caption="Share of the first principal component and of the top 1 % of points, by depth; below, the maps with either removed.",
    seen="cifar: robust layers give more to the first component and to the top points, yet the maps stay as far apart without either. laptop: the arms "
    "differ little in both shares, and come nearer without either. A map made by one direction or by a few images would go dark.",
)

# %% [markdown]
# ## Robust against standard
#
# **BLK-4**: at equal depth a standard and a robust network are less alike than two of a kind. Twins of one seed share their
# first weights, so only networks of different seeds are compared.

# %%
study.claim("BLK-4", rows)
if (rows["quantity"] == "hsic_pair").any():
    caption = "CKA of two networks at equal depth, pairs of different seeds; bands span the pairs."
    seen = (
        "cifar: two networks of a kind stay at .85 or above at every depth, a standard and a robust one fall to .5. laptop: the same order from the second "
        "stage on, with wider bands. Had the claim failed, the crosses would run between the two other lines."
    )
    study.figure(figures.same_depth(rows), "same_depth", caption=caption, seen=seen)

# %% [markdown]
# ## Adversarial images
#
# **BLK-6**: features of adversarial images drift from the clean ones with depth in a standard network and stay with them
# (CKA above .8 in the last third of the layers) in a robust one. An attack that fails moves little, so beside it stands the
# same attack scaled down until it succeeds equally often in every network.

# %%
study.claim("BLK-6", rows)
study.figure(
    figures.adversarial(rows),
    "adversarial",
    caption="CKA of clean and moved images by depth, with the full attack (dotted: noise of its norm) and at equal success.",
    seen="cifar and laptop: under the full attack the standard line falls to a quarter and the robust one stays above .8; at equal success they meet, so "
    "what drifts is what the attack achieves. Had the claim failed, the lines on the left would fall together.",
)

# %% [markdown]
# ## Through training
#
# **BLK-7**: early layers settle first, in both arms: the mean CKA with the last epoch falls with depth. **BLK-5**, where a pair
# of networks was trained until it overfits: the robust network's change from its best epoch to its last sits in deep layers.
# At `cifar` it hardly does: standard networks fit 98 % of the 5,000 images, and robust ones lose at most half a point after their best.

# %%
for claim in ("BLK-7", "BLK-5"):
    study.claim(claim, rows)
if (rows["claim"] == "BLK-7").any():
    caption = "CKA of every epoch with the last, by layer, and its mean over training."
    seen = "cifar: lines fall with depth in both arms, the stem nearly done by epoch 2. laptop: they fall over four layers, then are level. Else: no fall."
    study.figure(figures.settling(rows), "settling", caption=caption, seen=seen)
if (rows["claim"] == "BLK-5").any():
    caption = "Change from the best epoch to the last, by depth; dashed, over as many epochs before the best."
    seen = "cifar: all curves rise to the right, the robust one least, and below its dashed line. Had the claim held, it would rise above all others."
    study.figure(figures.overfitting(rows), "overfitting", caption=caption, seen=seen)

# %% [markdown]
# ## The radius of training
#
# **BLK-8**: similarity grows with the radius at which the network was trained. The largest radius is shown, not tested.
# At `cifar` the table shows beside it another norm, and one pair on Fashion-MNIST, where the difference is a tenth of that on CIFAR-10.

# %%
study.claim("BLK-8", rows)
study.figure(
    figures.radii(rows),
    "radii",
    caption="Off-diagonal mean and stage contrast against the training radius, a dot per network.",
    seen="cifar: similarity climbs and contrast falls from radius to radius, seeds apart. laptop: the means move likewise up to the main radius and turn "
    "beyond it, and dots of one radius span more than the rise: what a failed claim looks like.",
)

# %% [markdown]
# ## Why the unbiased form, and somebody else's networks
#
# The plain form of CKA, which public code uses, calls independent noise alike: the fewer images, the more.
#
# Then, where their files are, a ResNet-20 trained plainly and one trained on PGD adversaries, neither by us
# (EhanW/advrob-cifar10): BLK-1 to BLK-3 in numbers, beside ours and without a verdict, as there is one seed of each.

# %%
study.figure(
    figures.bias(rows),
    "bias",
    caption="Biased and unbiased CKA against the number of images a batch: of independent Gaussians, and of one network of each kind.",
    seen="cifar and laptop: the dashed lines rise as batches shrink, to .97 for independent noise of 32 images; the solid ones stay level. "
    "Batches of another size would otherwise have given other conclusions.",
)
if (rows["claim"] == "external").any():
    caption = "CKA of every two layers of somebody else's ResNet-20, standard and robust, and of the two at equal depth."
    seen = "cifar: theirs part as ours do, the robust map brighter (.72 against .57) and its blocks fainter. Had the claim failed, they would be alike."
    study.figure(figures.external_maps(rows), "external", caption=caption, seen=seen)
external.external_table(rows)

# %% [markdown]
# ## Explore
#
# Choose two layers, and drag through the epochs of a training and through the radii.

# %%
explorer.block_structure(rows, interactive=study.settings.interactive)

# %% [markdown]
# ## Verdicts
#
# A claim is `supported` only beyond its smallest effect, in every pair of seeds, beyond twice the seed-to-seed difference,
# and with its controls passed. `inconclusive` names what was not met. The placebo is the same statistic between two seeds
# of one arm.

# %%
study.finish()

# %% [markdown]
# ## What is lost at this scale
#
# The paper compares 80 modules of wide residual networks; block structure belongs to networks with capacity to spare, and ours
# have 8 to 18 layers in stages of at most four or five, so the contrast is coarse. Left out are images of 224 pixels, threats
# outside Lp balls, and the CCA family of measures; overfitting over 200 epochs is emulated on a tenth of the images. CKA of narrow
# layers on simple images follows the similarity of the images themselves: hence the untrained network and the form without the pixels.
