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
# # The scorecard: six findings side by side
#
# **Question.** What of five papers holds on networks of the same recipes, what does not, and is it adversarial training that does it?
#
# **We measure** nothing here: what the other six notebooks measured is read from their rows and verdicts. A run of your own with this very code
# counts before the committed evidence. Other scales stand beside as they are committed.
#
# **Four pictures.** Every claim with its interval (the ledger); every network with all that was measured on it; what else than adversarial
# training makes the same change, and how much of it; and how the findings go together over recipes and architectures.
#
# **Limits.** One kind of data a scale, small networks, two to five of them a recipe: a claim is judged for these. Networks of one recipe share
# their training images, so intervals say nothing about other images to train on.
#
# **Cost.** Seconds at every scale.

# %% tags=["parameters"]
scale: str = "laptop"  # preset: smoke, laptop, cifar or gpu
device: str = "auto"  # nothing is computed on it
interactive: str = "auto"  # auto, on or off

# %%
import reprolib
from reprolib.display import show_table
from reprolib.findings.scorecard import figures, reading, tables
from reprolib.judging.ledger import load_claims

study = reprolib.start("scorecard", globals())
read = reading.measured(study.settings)
for of in read.values():
    print(f"{of.finding}: {study.reads(of).name}")

# %% [markdown]
# ## The ledger
#
# Does it hold? Every claim's effect in units of the smallest one that counts, chosen before it was measured. `supported` lies wholly beyond it
# on the claimed side, `contradicted` on the other, `negligible` wholly between; the rest is `inconclusive`. Of
# sameness or no loss (ENT-2, ENT-3, ENT-11), `supported` lies within it. Some claims are asked at one scale only.

# %%
claims = load_claims()
results = [*(of.results for of in read.values()), *reading.at_other_scales(study.settings)]
effects = study.add(tables.effects(results, claims))

study.figure(
    figures.ledger(effects, results, claims),
    "ledger",
    caption="Every claim at every scale measured: effect in units of the smallest that counts, to the right as claimed, coloured by verdict.",
    failure="its interval does not lie right of the right dotted line; one of sameness: it leaves the band; of no loss: it reaches left of the band",
    drawn=tables.drawn(effects),
)

# %%
show_table(tables.verdicts(results, claims))

# %% [markdown]
# ## Every network, by every property
#
# A row a network, from its own images: accuracy clean and under PGD (in the ball of the scale's robust arm), and the numbers that the findings
# are about. Colour says how far a network lies from standard ones, and on which side: robust rows should be orange, standard ones white. Where
# other rows are as orange, the property is none of adversarial training's own. Intervals are over images; hidden units give none.

# %%
properties = reading.properties(read)
networks = study.add(tables.networks(read, properties))

study.figure(
    figures.heat_map(networks, properties),
    "networks",
    caption="Every network by every property: the number, and in colour how far it lies from standard networks, orange as claimed of robust ones.",
    failure="robust rows as white as standard ones, or blue",
    drawn=tables.drawn(networks),
)

# %%
show_table(tables.by_network(networks, properties))

# %% [markdown]
# ## What else does it
#
# To our knowledge nobody has asked this of all six findings at once. Of every change from standard to robust networks that was answered, the share
# that other kinds of training make: on noise of equal clean accuracy, on blurred images, standard training stopped at the robust networks' accuracy,
# and none at all. A control does the same where its interval lies beyond one half. Of a change that is not there no share is drawn.

# %%
shares = study.add(tables.changes(read))
against = {entry["id"] for of in read.values() for entry in of.results["claims"] if entry["verdict"].startswith("contradicted")}

study.figure(
    figures.what_else(shares, claims, against),
    "what_else",
    caption="Share of the change from standard to robust networks that each other kind of training makes, with 95 % intervals, a line a claim.",
    failure="that only adversarial training does it fails where a control's interval lies right of the dotted line",
    drawn=tables.drawn(shares),
)

# %% [markdown]
# ## How the findings go together
#
# A mark a recipe and architecture, a mean over its seeds. Clean accuracy is the first column: what goes with it alone is no finding. With fewer
# than 12 marks a picture is all that they give; from 12 on the rank correlation at fixed clean accuracy is printed.

# %%
points = tables.points(networks, properties)

study.figure(
    figures.together(points, properties),
    "together",
    caption="The first property of each finding against the others and clean accuracy, a mark a recipe and architecture.",
    failure="marks without any order: the findings would be six separate ones",
    drawn=tables.drawn(networks),
)

# %%
study.finish()
