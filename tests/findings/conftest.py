"""Every file of this folder measures into a cache of its own: nothing found there was made by another test, or by a run."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPROLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
