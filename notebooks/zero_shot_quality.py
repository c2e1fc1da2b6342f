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
# # Raw zero-shot: what does a network make of a class that it never saw?
#
# **Claim.** Soft labels of an unknown class tell how good a representation is; defences improve it, and it is linked to attacks.
# Kotyan, Vargas, Matsuki 2019, *Representation quality of neural networks links to adversarial attacks and defences*
# ([arXiv 1906.06627](https://arxiv.org/abs/1906.06627)). The authors' code for the metrics was never released: both formulas below are a
# reconstruction, so only the direction of the paper's claims can be tested, and none of its numbers.
#
# **We measure**, class by class in turn, a network trained without that class on that class's images: how tight its soft labels are (DBM, the
# scatter half of a Davies-Bouldin index) and how far their mean lies from what the full network gives to the other classes (AM). Lower is
# better in the paper. A network that gives every image one output has a DBM of 0: confidence is matched before anything is concluded.
#
# **Refuted if** robust networks have no tighter soft labels (ZSQ-1) or only by being less sure (ZSQ-2), if the metric does not go with how far
# images must be moved (ZSQ-3), if capsules are no tighter (ZSQ-5), or if soft labels do not favour known relatives (ZSQ-7).
#
# **Cost.** `smoke` seconds; `laptop` a minute from the committed soft labels, a quarter of an hour of one core from nothing; `cifar` hours for
# its 63 points of eleven networks (`reprolib train`), minutes from their committed soft labels.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop or cifar
seeds: int = 0  # networks of each recipe and architecture; 0 takes the preset, as below
share: float = 0.0  # mean entropy at which networks are compared, of the largest there is
n_attacked: int = 0  # test images on which full networks are attacked
n_pixel: int = 0  # test images of which one pixel is changed
device: str = "auto"  # auto, cpu or cuda
interactive: str = "auto"  # auto, on or off

# %% [markdown]
# ## The networks
#
# A point is an architecture, a recipe and a seed: one network for every class, trained without it, and the full one. What is kept of them are
# their soft labels on test images. Beside standard and adversarially trained networks stand other defences: noise on training images, label
# smoothing, which lowers confidence and nothing else; and networks as accurate as the robust ones, and untrained.

# %%
import reprolib
from reprolib.findings.zero_shot_quality import asking, attacking, explorer, figures
from reprolib.measures.raw_zero_shot import (
    amalgam_metric_from_logits,
    davies_bouldin_metric,
    davies_bouldin_metric_from_logits,
    davies_bouldin_metric_matched,
    mean_entropy,
)

study = reprolib.start("zero_shot_quality", globals())
asked = asking.asked_of(study)
asking.table_of(asked)


# %% [markdown]
# ## The question
#
# `of.without` are logits of the network that never saw the class, on n of its images; `of.full` those of the network that saw all. At a
# matched temperature, chosen on every second image, all networks are equally sure; the metric is taken on the other images.
# Change it here, and every point is asked again, into `figures/rerun/`.


# %%
def quality(of):
    """Of one excluded class: how tight its soft labels are, raw and at one mean entropy, and how near to the full network's."""
    return {
        "dbm": davies_bouldin_metric_from_logits(of.without),
        "dbm_matched": davies_bouldin_metric_matched(of.without, study.settings["share"]).value,
        "am": amalgam_metric_from_logits(of.without, of.full, of.index),
        "entropy": mean_entropy(of.without.softmax(dim=1)),
    }


study.add(asking.soft_label_rows(study, asked, quality))
study.add(asking.pictures(asked, asking.middle_class(study.rows)))

# %% [markdown]
# ## Which class stands in for the unknown one?
#
# **ZSQ-7**: the unknown class goes to its relatives, by shape or texture in the procedural set, by kind in photographs. The heat map of an
# untrained network is flat, or has one column.

# %%
study.claim("ZSQ-7")
caption = "Mean soft label of each class by networks that never saw it, a row a class; mean over the networks of an arm."
study.figure(figures.mean_labels(study.rows), "labels", caption, "rows look alike, or like the untrained ones", drawn="ZSQ-1 mean_label")

# %% [markdown]
# ## Do defences improve it?
#
# **ZSQ-1** asks the metrics as they are, **ZSQ-2** again where all networks are equally sure. Noise and label smoothing are drawn beside:
# what label smoothing changes is confidence.

# %%
study.claim("ZSQ-1")
study.claim("ZSQ-2")
caption = "Each excluded class: standard networks and each defence, as they are and at one mean entropy."
failure = "robust dots lie among the standard ones, or the order turns at one mean entropy"
study.figure(figures.paired(study.rows), "classes", caption, failure, drawn=("ZSQ-1 dbm", "ZSQ-1 dbm_matched"))
caption = "Each kind of network minus the standard one of its seed, a dot a network."
failure = "other kinds lie as far from 0 as the robust ones"
study.figure(figures.controls(study.rows), "controls", caption, failure, drawn=("ZSQ-1 dbm", "ZSQ-1 am", "ZSQ-1 dbm_matched"))

# %% [markdown]
# ## How much of it is confidence?
#
# The same logits at other temperatures. Where curves of standard and robust networks cross, or lie on one another but for a shift along the
# axis, the raw metric compares how sure networks are. In the plane, the ellipse of a class is its DBM.

# %%
caption = "DBM of each network's logits at other temperatures; marks: where its mean entropy is the matched one."
drawn = ("ZSQ-1 dbm_at_temperature", "ZSQ-1 matched_temperature")
study.figure(
    figures.over_temperature(study.rows), "temperature", caption, "robust curves lie below the standard ones at every temperature", drawn
)
caption = "Soft labels of the excluded class of middle DBM, one network an arm, along their two principal components; the ellipse is one standard deviation."
drawn = ("ZSQ-1 plane", "ZSQ-1 dbm")
plane = figures.plane(study.rows, asking.middle_class(study.rows))
study.figure(plane, "plane", caption, "the robust ellipse is as large as the standard one", drawn)

# %% [markdown]
# ## A network that learned nothing
#
# **ZSQ-9**: it must not win, and does by this metric alone. One output for all images has no scatter at all, whatever it is:

# %%
constant = [[0.7, 0.2, 0.1]] * 8
print(f"One output for all images: DBM {davies_bouldin_metric(constant):.3g}, mean entropy {mean_entropy(constant):.3g}.")
study.claim("ZSQ-9")

# %% [markdown]
# ## Is it linked to attacks?
#
# **ZSQ-3**: over networks that were not adversarially trained, tighter soft labels should go with longer minimal perturbations (DeepFool).
# A coefficient needs 12 points of at least three architectures, and an interval over architectures; else it is a picture. **ZSQ-6** is one.

# %%
study.add(attacking.attacked(study, asked, asking.role_of))
study.claim("ZSQ-3")
caption = "DBM against the length of minimal perturbations, against error under attack, and both given confidence; a dot a network."
failure = "dots of the architectures lie level, or the order turns given confidence"
drawn = ("ZSQ-1 dbm", "ZSQ-1 confidence", "ZSQ-3")
study.figure(figures.with_attacks(study.rows, asking.told(study)), "attacks", caption, failure, drawn)

# %% [markdown]
# ## By shape or by texture?
#
# **ZSQ-8**, where every shape comes with every texture (`laptop`): two of the eight classes a network knows share the unknown one's shape, two its
# texture. If robust networks go by shape, more of the soft label goes to the first two. **ZSQ-5** (`cifar`): capsules against two convolutional
# networks on the same images.

# %%
study.claim("ZSQ-8")
study.claim("ZSQ-5")
if (study.rows["quantity"] == "shape_mass").any():
    caption = "Where the soft label of an unknown class goes: classes of its shape, of its texture, of neither; a bar a network."
    failure = "robust bars give no more to the shape than standard ones"
    study.figure(figures.shares(study.rows), "shares", caption, failure, drawn=("ZSQ-1 shape_mass", "ZSQ-1 texture_mass"))

# %% [markdown]
# ## Explore
#
# A network, an excluded class, a temperature: where its images go, and how tight they lie.

# %%
explorer.zero_shot(study, asked, study.settings.interactive)

# %% [markdown]
# ## Verdicts
#
# Two questions, two answers: does the claim hold, and does only adversarial training do it?

# %%
study.finish()

# %% [markdown]
# ## What is lost at this scale
#
# Nine architectures of 200 epochs, the ImageNet subset, and most attacks. Points are architecture by defence and not independent; nine or ten
# classes limit every paired test. As the formulas are a reconstruction, the paper's values cannot be compared with at all.
