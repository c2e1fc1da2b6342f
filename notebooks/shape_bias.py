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
# # Shape or texture: which cue decides, and what is left when one is removed?
#
# **Claim.** Standard networks go by texture where shape and texture conflict; adversarially trained ones rely on shape.
# Chen, Agarwal, Nguyen 2020, *The shape and simplicity biases of adversarially robust ImageNet-trained CNNs*
# ([arXiv 2006.09373](https://arxiv.org/abs/2006.09373)); stimuli and metric: Geirhos et al. 2019.
#
# **We measure** shape bias, the share of shape among the answers by either cue, always with its coverage; what accuracy is left when
# a cue is destroyed; and, on photographs, under corruptions: for standard, robust and control networks.
#
# **Refuted if** a robust network's answers go by shape no more often (SHP-1, SHP-9), if scrambling patches costs it no more
# (SHP-3), or if its logits do not prefer the shape more over all stimuli (SHP-7).
#
# **Cost.** `smoke` seconds; `laptop` two minutes with the shipped networks, seconds when measured before; `cifar` about ten minutes of
# one core with the shipped networks, or from the committed rows where CIFAR-10 is not there.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop or cifar
seeds: int = 0  # networks per arm; 0 takes the preset, as below
n_conflict: int = 0  # stimuli whose shape and texture conflict; of photographs there are 210
n_images: int = 0  # images that are distorted, or show a single cue
checkpoint: str = ""  # file with a network of your own, drawn beside the arms as "mine", in no verdict
architecture: str = ""  # of that file, where its tensors do not tell it, such as torchvision:resnet18
device: str = "auto"  # auto, cpu or cuda
interactive: str = "auto"  # auto, on or off

# %% [markdown]
# ## The networks
#
# A standard and a robust arm of one architecture, controls trained on noise or blur, or merely as accurate, and an untrained network;
# then both arms of other architectures. An untrained network answers one or two classes whatever it sees: its shape bias is that of the
# table of pairs. The arms must differ: under attack the robust one keeps at least 20 points more accuracy.
#
# A network of your own is drawn beside them as *mine*, and takes part in no verdict: name its file in `checkpoint`, or give
# `networks.networks(study, mine=model)` any module from images in [0, 1] to logits of the scale's classes.

# %%
import reprolib
from reprolib.data import distort
from reprolib.data.cue_conflict import ATTRIBUTION
from reprolib.findings.shape_bias import asking, distorting, explorer, figures, judging, networks, reading
from reprolib.measures.shape_bias import graded_preference
from reprolib.models.layers import logits_of

study = reprolib.start("shape_bias", globals())
compared = networks.networks(study)
study.cards(networks.with_cards(study, compared))


# %% [markdown]
# ## The question
#
# One image has the shape of one class and the texture of another. An answer counts where it names the class of the shape or that of the
# texture. Beside it, how much the logits prefer the shape: defined for every stimulus, in standard deviations of the network's logits.
# Change it here, and every network is asked again, into `figures/rerun/`.


# %%
def answers(network, stimuli):
    """Of each stimulus: whether it is named by its shape or by neither cue; and by how much the logits prefer the shape."""
    logits = logits_of(network, stimuli.x)[:, stimuli.allowed]  # (n, K): of the classes that may answer
    said = logits.argmax(dim=1)
    by_shape, by_texture = said == stimuli.shape, said == stimuli.texture
    return {
        "answers": (by_shape, by_shape | by_texture),  # a value, and whether it counts
        "graded": graded_preference(logits, stimuli.shape, stimuli.texture),
        "graded_raw": graded_preference(logits, stimuli.shape, stimuli.texture, raw=True),
        "answers_colour": said == stimuli.hue,
    }


study.add(asking.conflicts(study, compared, answers))
reading.told(study.rows)

# %% [markdown]
# ## The stimuli
#
# What each test shows, and what it takes away; the table of distortions is yours to edit. Networks were trained on images in which either
# cue gives the class; where they conflict, the answer tells which one they took. In the procedural world a hue is a third, weak cue in
# training, and tells nothing in any image below.

# %%
DISTORTIONS = {
    "scrambled_2": lambda x: distort.scramble(x, distort.DERANGEMENTS[2]),  # 2 x 2 patches, the paper's order
    "scrambled_4": lambda x: distort.scramble(x, distort.DERANGEMENTS[4]),
    "lowpass": lambda x: distort.lowpass(x, sigma_px=1.5),
    "highpass": lambda x: distort.highpass(x, sigma_px=1.5),
}
sheet = figures.sheet(study, DISTORTIONS)
caption = "The stimuli: what each test keeps and what it takes away, with the class that each cue speaks for."
caption += f" {ATTRIBUTION}." if study.settings.values.get("photographs") else ""
study.figure(sheet, "stimuli", caption, "a row whose cue a reader cannot see either", drawn="SHP-1 answers")

# %% [markdown]
# ## Which cue decides
#
# **SHP-1** (procedural stimuli), **SHP-9** (the original ones, at 32 px, where much of a texture is lost): robust networks lie further
# to the right. Coverage stands beside, for a bias is one of few answers where it is small. **SHP-7**: the logits agree over all stimuli.

# %%
for claim in ("SHP-1", "SHP-9", "SHP-7"):
    study.claim(claim)
if study.settings.values.get("margins"):
    print(f"Procedural stimuli: {judging.learnt()}.")
caption = (
    "Shape bias of every network (95 % over stimuli; area: coverage), and beside it all its answers: by shape, by texture, by neither cue."
)
study.figure(figures.bias(study.rows), "bias", caption, "robust networks lie among the standard ones", drawn=("SHP-1", "external"))
caption = "Share of texture among the answers by a cue, by the category of the shape; the lines are each arm's shape bias."
failure = "the marks of both arms lie on one another in every row"
study.figure(figures.categories(study.rows), "categories", caption, failure, drawn="SHP-1 answers")

# %% [markdown]
# ## In every architecture, and growing with the radius?
#
# **SHP-2** asks each architecture for the shift, **SHP-5** standard networks, a small radius and the main one.

# %%
study.claim("SHP-2")
study.claim("SHP-5")
caption = "Shape bias and clean accuracy against the training radius, one dot per network."
study.figure(figures.radii(study.rows), "radii", caption, "shape bias does not rise with the radius", drawn=("SHP-1 answers", "networks"))

# %% [markdown]
# ## Is it the training, or what else changed?
#
# Networks trained on noise or blur and merely less accurate ones: a control is ruled out where it lies nearer to the standard arm. The
# left dots should stay right of 0, the right ones near 0. At `cifar` noise training of equal accuracy gives the larger shift of the two.

# %%
caption = (
    "Shape bias: the robust arm minus each control, and each control minus the standard arm, with 95 % intervals over networks and stimuli."
)
study.figure(
    figures.controls(study.rows),
    "controls",
    caption,
    "a control lies as far from the standard arm as the robust one",
    drawn="SHP-1 answers",
)

# %% [markdown]
# ## Margins and frequency
#
# Adversarial training keeps the cue with the larger margin, so where margins can be set (`laptop`) the claim has to hold at 1:1 and at 1:2
# too, where shape's is half the texture's: if the shift is gone there, it follows the margin and is not specific. The pair at 2:1 is grey: its
# radius is too strong for its textures (rho). **SHP-8**: among four gratings of one spectrum frequency cannot decide. At `laptop`
# both decide alike: at 1:2 either arm answers by texture, and so it does among the gratings. There the shift follows the margins, texture by
# texture: it is a finding about margins, and not one about shape.

# %%
study.claim("SHP-8")
if study.settings.values.get("margins"):  # those of photographs cannot be set
    caption = (
        "The shift against the ratio of shape margin to texture margin, one dot per pair of seeds; rho: radius over a texture's energy."
    )
    study.figure(figures.margins(study.rows), "margins", caption, "the shift falls with the margin", drawn="SHP-1")
    caption = "Shape bias by the family of the texture, and on the four gratings alone."
    failure = "the shift is there only in textures that the radius can erase"
    study.figure(figures.frequency(study.rows), "frequency", caption, failure, drawn=("SHP-1", "SHP-8"))

# %% [markdown]
# ## A cue destroyed
#
# Of the images that every network of the architecture has right: what is left when patches are moved about (**SHP-3**: a robust network
# should keep less), when texture is taken away (**SHP-4**: more), and under corruptions (**SHP-10**: it should lose less to high
# frequencies than to low ones).


# %%
def right(network, stimuli):
    """Whether each image is given its one right class, (n,)."""
    return {"right": logits_of(network, stimuli.x)[:, stimuli.allowed].argmax(dim=1) == stimuli.shape}


study.add(distorting.distorted(study, compared, right, DISTORTIONS))
for claim in ("SHP-3", "SHP-4", "SHP-10"):
    study.claim(claim)
caption = "What is kept of the images that all networks had right, and what corruptions cost; lines lead from the mean of one arm to that of the other."
drawn = ("SHP-3", "SHP-4", "SHP-10")
study.figure(
    figures.retention(study.rows), "retention", caption, "both arms lie together, or the robust one keeps more when scrambled", drawn
)
distorting.spectral_shares(study, study.settings.values.get("corruptions", {}))

# %% [markdown]
# Does a robust network gain shape, or only lose texture? Where cues can be shown alone (`laptop`), each arrow leads from a standard network
# to the robust one of its seed.

# %%
if study.settings.values.get("single"):
    caption = "Accuracy on single cues, corrected for chance: shape against texture; arrows from standard to robust, seed by seed."
    study.figure(
        figures.cues(study.rows), "cues", caption, "arrows point to the right, or down", drawn=("SHP-1 a_shape", "SHP-1 a_texture")
    )

# %% [markdown]
# ## Explore
#
# One stimulus, and what every network made of it.

# %%
explorer.shape_bias(study, interactive=study.settings.interactive)

# %% [markdown]
# ## Verdicts
#
# Two questions, two answers: does the claim hold, and does only adversarial training do it?

# %%
study.finish()

# %% [markdown]
# ## What is lost at this scale
#
# Natural textures, 1,000 categories, the three ImageNet architectures, stylised images and people. At 32 px most texture of the original
# stimuli is gone, so effects are compressed. Procedural cues are calibrated by us: the size of shape bias is a property of that calibration, and
# its sign may be one of the margins; only a shift that holds at 1:1 and at 1:2 is a finding of its own.
