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
# # Three simplicity biases: are the hidden units of robust networks smoother, lower-level and choosier?
#
# **Claim.** Adversarial training pushes hidden units to smoother patterns that block high-frequency noise, to lower-level concepts
# (texture and colour instead of objects), and to fewer kinds of input. Chen, Agarwal, Nguyen 2020, *The shape and simplicity biases of
# adversarially robust ImageNet-trained CNNs* ([arXiv 2006.09373](https://arxiv.org/abs/2006.09373)); dissection: Bau et al. 2017.
#
# **We measure** the frequencies of first filters and what noise does to every channel and layer; which concept of scenes with exact
# masks each unit detects; how unlike the images are that a unit answers to most; and what a network loses without its detectors.
#
# **Refuted if** first filters of robust networks have as much energy at high frequencies (SIM-1), if noise of a high band moves their
# layers no less (SIM-2, SIM-3), if their detectors are of objects as often (SIM-4), carry as many concepts (SIM-5), or answer to as many
# kinds of input (SIM-6).
#
# **Cost.** `smoke` seconds; `laptop` about five minutes of one core with the shipped networks, one when measured before; `cifar` about
# fifteen, or from the committed rows where CIFAR-10 is not there.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop or cifar
seeds: int = 0  # networks per arm; 0 takes the preset, as below
n_scenes: int = 0  # concept scenes with exact masks, on which units are dissected
n_top_images: int = 0  # images out of which the 25 of the largest activation are taken
checkpoint: str = ""  # file with a network of your own, drawn beside the arms as "mine", in no verdict
architecture: str = ""  # of that file, where its tensors do not tell it, such as torchvision:resnet18
device: str = "auto"  # auto, cpu or cuda
interactive: str = "auto"  # auto, on or off

# %% [markdown]
# ## The networks
#
# A standard and a robust arm of one architecture, with 7 x 7 first filters where the scale allows; networks trained on noise or blur, or
# merely as accurate; smaller and larger radii; an untrained one, whose units already block, detect and prefer something. Hidden units
# of two networks do not correspond, so a network is one number, and networks are the sample.
#
# A network of your own is drawn beside them as *mine*, and takes part in no verdict: name its file in `checkpoint`, or give
# `study.networks(mine=model)`.

# %%
import reprolib
from reprolib.findings.simplicity_biases import ablating, dissecting, explorer, external, figures, kinds, preferring, smoothing
from reprolib.measures import dissection, diversity, smoothness
from reprolib.models.layers import features

study = reprolib.start("simplicity_biases", globals())
nets = study.networks()
study.cards(nets)

# %% [markdown]
# ## Smoother filters?
#
# **SIM-1**: of each first filter, free of its norm, the share of energy above a quarter cycle a pixel: less in robust networks. An
# untrained network tells what training alone does. **SIM-7**: and less with a larger radius.


# %%
def first_layer(network):
    """Of each first filter: share of its energy above .25 cycles a pixel, and total variation, free of its norm."""
    found = smoothness.filters(smoothing.first_filters(network))
    return {"index": found.index, "high_frequency_fraction": found.high_frequency, "filter_tv": found.tv}


study.add(smoothing.filters(study, nets, first_layer))
study.claim("SIM-1")
study.claim("SIM-7")
caption = "First filters of a standard, a robust and an untrained network, sorted by total variation, each on its own scale."
failure = "the robust row is as fine-grained as the standard one"
if (weights := smoothing.pictured(nets)) or not study.can_measure:  # 3 x 3 filters show nothing
    study.figure(figures.first_filters(weights) if weights else None, "filters", caption, failure, drawn="SIM-1")

# %% [markdown]
# ## Do channels block noise, and which?
#
# The same noise, image by image, is put to every network. **SIM-2**: total variation of a robust network's early channels changes
# less. That alone is weak, since robust networks are trained to be insensitive to small inputs; **SIM-3** holds a high band against a
# low one of equal norm.


# %%
def under_noise(network, images):
    """By layer: total variation of each channel clean and noisy, how that responds, and how far each image's maps move."""

    def of_maps(maps):
        tv = {f"tv@{name}": smoothness.total_variation(one) for name, one in maps.items()}
        change = {f"change@{noise}": smoothness.relative_change(maps[noise], maps["clean"]) for noise in images.noises}
        return tv | change | {"size": maps["clean"].abs().mean(dim=(2, 3))}

    found = smoothing.by_layer(network, images, of_maps)
    for of in found.values():
        of |= {f"b@{noise}": smoothness.blocking(of["tv@clean"], of[f"tv@{noise}"]) for noise in images.noises}
    return found


study.add(smoothing.blocking(study, nets, under_noise))
study.add(smoothing.changes(study, nets, under_noise))

# %%
study.claim("SIM-2")
study.claim("SIM-3")
caption = "Total variation of every channel's maps under white noise of s.d. .05 against that of clean maps, and their ratio, by third of the maps."
failure = "channels of robust networks lie as far from the diagonal"
study.figure(figures.noise_on_maps(study.rows), "noise", caption, failure, drawn="SIM-2")
caption = "How far noise of one band and norm moves each layer, relative to the layer's norm."
failure = "in the high band the robust line runs as high as the standard one"
study.figure(figures.changes(study.rows), "layers", caption, failure, drawn="SIM-3")

# %% [markdown]
# ## Lower-level concepts?
#
# Scenes of fully crossed shape, texture and colour with an exact mask of each; a unit detects the concept on whose mask its strongest
# half per cent of pixels lies, if they overlap by .04. **SIM-4**: more of a robust network's detectors are of colours and textures;
# **SIM-5**: they share fewer concepts. Random masks tell how often that happens by chance.


# %%
def detectors(network, scenes):
    """By layer: how the half per cent of pixels in which each unit is most active lies on the mask of every concept."""

    def batches():
        for x, masks in scenes.batches():
            yield features(network, x, network.layer_names), masks

    return dissection.overlaps(batches, dissection.thresholds(batches, scenes.quantiles), scenes.draws)


study.add(dissecting.dissected(study, nets, detectors))
study.claim("SIM-4")
study.claim("SIM-5")

# %%
caption = "What the units of each layer detect, standard beside robust; the line: units that detect a random mask."
failure = "detectors of objects and parts are as frequent in robust networks"
drawn = ("SIM-4 concept", "SIM-4 random_iou")
study.figure(figures.detectors(study.rows, dissecting.concepts(study)), "detectors", caption, failure, drawn)
if study.can_measure:
    largest = dissecting.ceilings(study).groupby(level=0).mean()  # half a per cent of the pixels over the share that a concept covers
    print("Largest IoU possible: " + ", ".join(f"{category} {of:.2f}" for category, of in largest.items()))
dissecting.table(study.rows, dissecting.concepts(study))

# %% [markdown]
# Drawn concepts are not those of photographs. Where the scale has photographs, every unit is asked what it tells apart there: one texture
# from the others, one class from the others, and how much of it follows from the mean colour.


# %%
def preferences(network, natural):
    """Of each unit, by its mean activation: best AUROC over textures, over classes, their floors, and how much colour explains."""
    textures, things = (diversity.mean_activations(kinds.maps(network, of.x)) for of in (natural.textures, natural.photographs))
    found = {"colour_r2": diversity.colour_r2(things, natural.photographs.x.float() / 255)}
    for name, values, labels in (("texture", textures, natural.textures.y), ("class", things, natural.photographs.y)):
        found[f"{name}_auroc"] = diversity.best_auroc(values, labels)
        found[f"{name}_auroc_floor"] = diversity.best_auroc(values, diversity.permuted(labels))
    return found


study.add(preferring.preferences(study, nets, preferences))
if study.settings.values.get("n_natural"):
    caption = "What units tell apart in photographs, mean by layer; dotted: labels permuted."
    failure = "the robust line runs with the standard one in all three panels"
    study.figure(figures.preferences(study.rows), "preferences", caption, failure, drawn="SIM-4")

# %% [markdown]
# ## Fewer kinds of input?
#
# **SIM-6**: the 25 images that a unit answers to most, in the code of an independent judge: how unlike they are, where 25 random
# images have 1. Lower is fewer kinds.


# %%
def kinds_of_input(network, images):
    """Of each unit's 25 strongest images: how unlike they are to the judge, in how many directions, and of how many classes."""
    top = kinds.top_images(network, images)
    return {
        "diversity": diversity.diversity(images.codes, top.by_largest),
        "diversity_by_mean": diversity.diversity(images.codes, top.by_mean),
        "participation_ratio": diversity.participation_ratio(images.codes, top.by_largest),
        "class_entropy": diversity.class_entropy(images.y, top.by_largest, images.n_classes),
    }


study.add(kinds.kinds(study, nets, kinds_of_input))
study.claim("SIM-6")
caption = "Diversity of each unit's strongest images, by layer; 1: as unlike as random images."
failure = "both halves of a violin are alike"
study.figure(figures.diversity(study.rows), "diversity", caption, failure, drawn="SIM-6")
caption = "The nine strongest images of the least and the most diverse unit of a standard and a robust network."
failure = "the units of both networks answer to the same mixtures"
study.figure(figures.unit_cards(study, nets, study.rows), "units", caption, failure, drawn="SIM-6 diversity")

# %% [markdown]
# ## With the radius
#
# One number a network, against the radius it was trained at. The largest radius is shown, and not tested.

# %%
caption = (
    "High-frequency share of first filters, response to noise, low-level share and diversity against the training radius, a dot a network."
)
failure = "no panel falls or rises with the radius"
study.figure(figures.trends(study.rows), "trends", caption, failure, drawn=("SIM-1", "SIM-2", "SIM-4", "SIM-6"))

# %% [markdown]
# ## Are detectors used?
#
# **SIM-8**: of images that all networks have right, how many turn wrong when the texture detectors of one layer are set to 0, beyond
# what as many random channels of that layer do: more in standard networks. A robust network with fewer detectors loses fewer channels; one
# without any loses none, and its drop is 0.


# %%
def ablation(network, images, detected):
    """Images turned wrong without the strongest detectors of each layer, and without as many random channels, twenty times."""
    found = ablating.drop(network, images, detected, "texture", "object")
    by_mean = ablating.drop(network, images, detected, "texture", by_mean=True, n_draws=5)
    return {**found, "texture, by mean": by_mean["texture"]}


study.add(ablating.ablations(study, nets, ablation, dissecting.detectors_of(study)))
study.claim("SIM-8")
caption = "Images turned wrong against the number of channels removed, a mark a network and layer; bars: 90 % of as many random channels."
failure = "marks of standard networks lie among the bars"
study.figure(figures.ablation(study.rows), "ablation", caption, failure, drawn="SIM-8")

# %% [markdown]
# ## External networks
#
# A pair of ResNet-20 that this project did not train, one plainly and one adversarially: one network each, so no verdict.

# %%
study.add(
    external.measure(
        study,
        lambda pair: smoothing.blocking(study, pair, under_noise),
        lambda pair: smoothing.changes(study, pair, under_noise),
        lambda pair: dissecting.dissected(study, pair, detectors),
        lambda pair: kinds.kinds(study, pair, kinds_of_input),
    )
)
external.table(study.rows)

# %% [markdown]
# ## Explore
#
# One unit: its filter or its map on its nine strongest images, its concept, its diversity.

# %%
explorer.units(study, nets, interactive=study.settings.interactive)

# %% [markdown]
# ## Verdicts
#
# Two questions, two answers: does the claim hold, and does only adversarial training do it?

# %%
study.finish()

# %% [markdown]
# ## What is lost at this scale
#
# Broden's natural concepts: an object here is a drawn shape. AlexNet's filters of 11 x 11; three architectures are one. Networks of 16 to
# 64 channels a layer have few units, so shares carry wide intervals, and much of what is left cannot be told from seeds: at either scale
# SIM-1, SIM-4 and SIM-7 stay open. Concept counts are not those of the paper. Where the networks are trained on the procedural world, its
# scenes show the very cues they were trained on. At `cifar` noise training of equal accuracy blocks noise as well (SIM-2, SIM-3), and first
# filters of robust networks are not seen to be smoother than those of standard ones, while both lie far below untrained ones: training
# smooths them.
