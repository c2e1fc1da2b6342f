"""One exit code an error, one sentence a message, and a suggestion only where it is close."""

import inspect

import pytest

from reprolib import errors
from reprolib.errors import ReprolibError, nearest

KINDS = sorted((e for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, ReprolibError)), key=lambda e: e.exit_code)


def test_every_error_has_its_own_exit_code():
    assert [kind.exit_code for kind in KINDS] == list(range(1, 10))


@pytest.mark.parametrize(
    ("name", "code", "builtin"),
    [
        ("BadInput", 2, ValueError),
        ("MissingData", 3, FileNotFoundError),
        ("CorruptFile", 4, Exception),
        ("StorageError", 5, OSError),
        ("RunFailed", 6, Exception),
        ("RunTimedOut", 7, Exception),
        ("KernelDied", 8, Exception),
        ("VerdictsDiffer", 9, Exception),
    ],
)
def test_an_error_is_what_its_name_says_to_those_who_catch_the_built_in_one(name, code, builtin):
    kind = getattr(errors, name)
    assert kind.exit_code == code
    with pytest.raises(builtin) as caught:
        raise kind("eps=8 is too large; allowed: 0 to 1")
    assert isinstance(caught.value, ReprolibError)
    assert str(caught.value) == "eps=8 is too large; allowed: 0 to 1"


def test_the_nearest_allowed_name_is_suggested():
    assert nearest("laptpo", ["smoke", "laptop", "cifar"]) == "; did you mean 'laptop'?"
    assert nearest("resnet-18", ("resnet8", "resnet18")) == "; did you mean 'resnet18'?"


def test_nothing_is_suggested_where_nothing_is_close():
    assert nearest("imagenet", ["smoke", "laptop", "cifar"]) == ""
    assert nearest("laptop", []) == ""


def test_names_that_are_no_text_are_compared_as_text():
    assert nearest(12, [128, 7]) == "; did you mean '128'?"  # type: ignore[arg-type]
