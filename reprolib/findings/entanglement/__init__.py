"""Finding: how entangled classes are in hidden layers, and what that does to neighbours, outliers and attacks. Frosst et al. 2019."""
