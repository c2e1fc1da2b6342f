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
# # Robust representations can be inverted: which image has this code?
#
# **Claim.** Adversarial training makes a network's representation *R(x)* approximately invertible: an image found by
# gradient descent to have the same *R* as a target also looks like the target. In a standard network it does not.
# Engstrom, Ilyas, Santurkar, Tsipras, Tran, Mądry 2019, *Adversarial Robustness as a Prior for Learned Representations*
# ([arXiv 1906.00945](https://arxiv.org/abs/1906.00945)).
#
# **We measure** how far the found image is from the target, as two independent networks (the *judges*) see it, at equal
# distance in representation space, for standard, robust and untrained networks and several starts.
#
# **Refuted if** a robust network's inverses are no nearer to their targets than a standard one's (INV-2), carry their
# class no more often (INV-3), or if a standard network's inverse leaves its start as well (INV-1).
#
# **Cost.** `smoke` seconds; `laptop` about four minutes with the shipped networks, seconds when measured before; `cifar`
# about 31 minutes of one core with the shipped networks, or from the committed rows where CIFAR-10 is not there.
#
# **Found so far.** On CIFAR-10 a standard network's inverse stays at its start (INV-1), a robust network's units draw and
# change large shapes (INV-7, INV-8), and inverses come nearer to their targets with the training radius, most of it gained at
# half of it (INV-9): supported. From noise, too, robust inverses are nearer (INV-2), and nearer than those of networks
# trained on noise, on blur or of equal accuracy; but the standard judge recognises dust nearly as often, so their control
# INV-10 is undecided. On the procedural images of `laptop` nothing of it can be shown. The verdicts stand at the end.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop or cifar
seeds: int = 0  # networks per arm; 0 takes the preset, as below
n_targets: int = 0  # images whose codes are inverted
steps: int = 0  # gradient steps of an inversion
pool: int = 0  # the code is the last map averaged to pool x pool positions
tau: float = 0.0  # relative distance at which inverses are compared; 0 chooses it by reach
device: str = "auto"  # auto, cpu or cuda
interactive: str = "auto"  # auto, on or off

# %% [markdown]
# ## The networks
#
# A standard and a robust arm, trained on the same images in the same order, and controls: trained on noise (as accurate as
# the robust arm, as far as noise can make it) or blur, the standard network as it was when it was no more accurate than the
# robust one, and an untrained network. The arms must differ: under attack the robust one has to keep at least 20 points more
# accuracy, or nothing below means anything.

# %%
import reprolib
from reprolib.findings.invertibility import explorer, external, figures, protocol

study = reprolib.start("invertibility", globals())
nets, judges = study.networks(), study.judges()
study.cards(nets)

# %% [markdown]
# ## Inverting
#
# *R(x)* is the last map before pooling, averaged to 4 x 4 positions (a globally pooled 64-number code fixes no image, of
# any network: see the size of the code below). From two noise images and from an image of another class we descend on
#
# $$d_\mathrm{rep}(x', x) = \lVert R(x') - R(x) \rVert_2 \,/\, \lVert R(x) \rVert_2$$
#
# along its normalised gradient, with momentum and a cosine to zero, in fp32, without any regulariser. Two networks'
# $d_\mathrm{rep}$ are not on one scale, so pictures are compared at equal $d_\mathrm{rel}$: $d_\mathrm{rep}$ divided by its
# median over random pairs of test images. If the claim holds, the robust row shows the targets and the standard row does
# not, although the $d_\mathrm{rel}$ printed below them are the same. The table gives the share of targets that reached it.

# %%
measured = protocol.run(study, nets, judges)
rows, drawn = study.rows(measured.rows), measured.pictures
study.figure(
    figures.hero_grid(measured.cells) if measured.cells else None,
    "inversions",
    caption="Inverses at equal distance in representation space: targets, starts, and what each network's gradient makes of them.",
    seen="cifar: at equal d_rel the robust row shows plane, car and bird from every start, the standard row coloured dust or the remains of its start. "
    "laptop: the robust rows show striped figures in the right place, often in the opposite polarity, the standard row faint ones, and d_img does not "
    "tell them apart. Had the claim failed, the two rows would look alike.",
)
measured.reach

# %% [markdown]
# ## Distance in pictures at equal distance in representation
#
# Each curve follows one network from the start (left) towards the target's code (right). A curve that stays at 1 finds
# codes ever nearer to the target's in pictures that are no nearer to it. **INV-1**: from an image of another class, at equal
# $d_\mathrm{rel}$, the standard network's inverse stays near its start.

# %%
study.claim("INV-1", rows)
study.figure(
    figures.trajectories(rows, tau=measured.taus["noise"]),
    "trajectories",
    caption="Perceptual distance to the target (standard judge, in units of the start's) against distance in representation space.",
    seen="cifar: the robust curves keep falling to .75 (of the largest radius to .69), the standard ones level off near .88. laptop: "
    "all curves rise a little above 1, the untrained network's too; curves in no order are what a failed claim looks like.",
)

# %% [markdown]
# ## Nearer to the target, and not for another reason
#
# **INV-2**: from noise, at equal $d_\mathrm{rel}$, the robust network's inverse is nearer to the target, for the standard
# judge, the one biased against the claim. **INV-10**: nor is it so in networks that are merely less accurate
# (`std_matched`), trained on noise (`gauss`) or blur, or untrained. **INV-9**: it grows with the training radius.

# %%
for claim in ("INV-2", "INV-10", "INV-9"):
    study.claim(claim, rows)
study.figure(
    figures.controls(rows),
    "controls",
    caption="INV-2's and INV-3's quantities, one dot per network: distance of the inverse to its target in units of the start's, share recognised.",
    seen="cifar: robust networks lie below every control, noise- and blur-trained ones too, and somebody else's pair parts wider still; the standard judge "
    "tells blurred and untrained ones apart; a linear code of as many numbers lies far below them all. laptop: the kinds overlap in distance. Had "
    "the claim failed at cifar, as at laptop, they would overlap.",
)
study.figure(
    figures.trend(rows),
    "trend",
    caption="INV-2's quantity and clean accuracy against the training radius, one dot per network.",
    seen="cifar: the line falls to half the radius, little after it, and turns up at the largest, while accuracy falls all the way. "
    "laptop: nothing falls steadily with the radius, and beyond the main one accuracy collapses: what a failed claim looks like.",
)

# %% [markdown]
# **INV-3.** Do independent networks see the target's class in the inverse? The ceiling is the judge on the targets, the
# floor is the judge asked for the class of another target. Below, somebody else's pair of networks, where it was measured.

# %%
study.claim("INV-3", rows)
study.figure(
    figures.judges(rows),
    "judges",
    caption="Share of inverses that judges give the target's class, and the start's class for image starts.",
    seen="cifar: the robust judge recognises far more of the robust networks' inverses (.72 against .19), the standard judge slightly fewer: it shares the "
    "features that standard inverses are made of. laptop: robust networks lead, and standard seeds differ widely. Equal bars for both judges would be "
    "failure.",
)
external.external_table(rows)

# %% [markdown]
# ## Other starts, other images
#
# **INV-4**: the inverses of one target from several starts lie closer together in a robust network. **INV-5**: all this
# holds for images unlike any it was trained on.

# %%
for claim in ("INV-4", "INV-5"):
    study.claim(claim, rows)
study.figure(
    figures.outside(drawn["outside"]) if drawn.get("outside") else None,
    "outside",
    caption="Inverses of images from outside the training distribution, at equal distance in representation space.",
    seen="cifar: the robust row shows goldfish, jellyfish, textures and clothes, with wrong colours where the target is grey; the others show dust. laptop: "
    "no row shows the held-out texture. Had the claim failed at cifar, the robust row would look like the standard one.",
)

# %% [markdown]
# ## Between two images
#
# **INV-6**: from one code to another in ten steps, every step inverted from the same noise image, a judge's preference for
# the second class follows the mixing weight. A cross-fade of the pixels already does, so it is shown beside.

# %%
study.claim("INV-6", rows)
study.figure(
    figures.interpolation(rows, drawn["interpolation"]) if drawn else None,
    "interpolation",
    caption="Inverses of mixed codes, and the standard judge's preference for the right image's class against the mixing weight.",
    seen="cifar: robust strips turn a plane into a car piece by piece, standard strips are dust at every weight; yet the standard judge follows both alike, "
    "and the robust judge the robust strips (.86 against .66). laptop: seeds differ more than arms. Had the claim held for this judge, the filled dots "
    "would part.",
)

# %% [markdown]
# ## Single units
#
# **INV-7**: an image changed to excite one unit changes in large structures, not in dust, without any regulariser.
# **INV-8**: so does an image to which the unit's feature is added at a fixed length of the change. Then what a unit answers
# to among the test images, and what it makes of grey.

# %%
study.claim("INV-7", rows)
study.figure(
    figures.units(rows, drawn["visualisation"]) if drawn else None,
    "units",
    caption="Single units (channels of the last map, averaged over positions) maximised without a regulariser; power of the changes by frequency.",
    seen="cifar: robust units draw stripes, fences and four-legged animals from any start, standard ones a fine texture over the start, and their power "
    "falls less. laptop: both draw the stripes and rings of the data, and the spectra cross. Equal spectra, as at laptop, are what a failed claim looks "
    "like.",
)

# %%
study.claim("INV-8", rows)
study.figure(
    figures.additions(drawn["addition"]) if drawn else None,
    "additions",
    caption="One unit added to each image by a change of equal L2 norm; the changes are shown amplified around grey.",
    seen="cifar: the amplified robust changes follow the object in large patches, the standard ones are ripples over the frame; unamplified both are hard to "
    "see. laptop: both change whole stripes. Had the claim failed at cifar, all changes would be ripples.",
)
study.figure(
    figures.extremes(drawn["extremes"]) if drawn else None,
    "extremes",
    caption="The test images that excite a unit most and least, and grey driven up and down by that unit.",
    seen="cifar: grey driven up by a robust unit shows what its top images share (legs of horses), by a standard unit fine stripes. laptop: both show the "
    "texture, robust units its shape too. Had the claim failed, the middle columns would look alike.",
)

# %% [markdown]
# ## How large must a code be?
#
# The paper's codes have 2,048 numbers. Ours, pooled, have 64: with so few, neither network's inverse shows the image. The
# gap opens as the code grows.

# %%
study.figure(
    figures.code_size(measured.sizes, rows) if measured.sizes else None,
    "code_size",
    caption="Inverses of codes pooled to k x k positions, and their pixel correlation with the target against the code's size.",
    seen="cifar: 64 numbers fix neither arm's image; as the code grows only the robust inverse becomes the target (correlation .9 against .2). laptop: "
    "neither does, since sign and phase are free there. If size alone decided, both arms would rise together.",
)

# %% [markdown]
# ## What hangs on the method?
#
# One knob is changed at a time, on few targets: the gradient through the last ReLU, the iterate kept, start, step, budget, and
# a search among spectra instead of pixels. Then every layer's code is inverted, from the first to the last.

# %%
study.figure(
    figures.ablations(rows),
    "ablations",
    caption="One knob of the inversion changed at a time, and one layer after another inverted.",
    seen="cifar: no knob closes the gap; the standard network loses the image layer by layer, the robust one keeps it. laptop: the arms stay together in "
    "pixels. A gap that hung on one knob would close in its row.",
)
study.figure(
    figures.layer_pictures(drawn["ablation"]) if drawn else None,
    "layers",
    caption="Inverses of every layer's code, from the first to the last.",
    seen="cifar: to the last layer the robust inverse stays a picture, the standard one turns to dust from the second stage on. laptop: the robust figures "
    "stay sharper. Had the claim failed, both rows would fade alike.",
)

# %% [markdown]
# ## Explore
#
# Drag the slider through the inversion of one target, in two networks side by side.

# %%
explorer.invertibility(measured.frames, interactive=study.settings.interactive)

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
# The paper inverts 224-pixel photographs with ResNet-50 codes of 2,048 numbers and lets people look. Here images have 32
# pixels, codes are the last map pooled to 4 x 4 positions (a third of the pixels' count; ImageNet's ratio is 0.014), judges
# replace people and share the networks' blind spots, and inversions take 150 to 300 steps instead of 10,000. At `laptop`
# the images are procedural: sign, phase and tint of a figure carry no class, so a good network may ignore them and invert
# a figure in the opposite polarity; perceptual distances and edges count there, not pixels.
