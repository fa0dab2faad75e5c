"""The reader of Dockerfiles that the image's tests rest on."""

from __future__ import annotations

import pytest

from tests.support.dockerfile import configured, instructions, run_lines, stages

TEXT = """\
# a comment
FROM one:1@sha256:ab AS base
ENV A=1 \\
    B="two words"

# FROM nothing
RUN first \\
    # not this
    && second
COPY --from=base /from /to
FROM base
ARG VERSION=dev
LABEL v="${VERSION}" b="$B"
ENV PATH=/x:$PATH
ENTRYPOINT ["run", "me"]
HEALTHCHECK --interval=3s \\
    CMD ["ask"]
"""


def test_stages_have_names_and_bases() -> None:
    assert [(stage.name, stage.base) for stage in stages(TEXT)] == [
        ("base", "one:1@sha256:ab"),
        ("", "base"),
    ]


def test_lines_are_joined_and_comments_are_gone() -> None:
    assert run_lines(stages(TEXT)[0].instructions) == ["first && second"]


def test_options_are_apart() -> None:
    (copy,) = [one for one in instructions(TEXT) if one.keyword == "COPY"]

    assert (copy.options, copy.rest) == ({"from": "base"}, "/from /to")


def test_values_are_filled_in() -> None:
    first, last = map(configured, stages(TEXT))

    assert first.environment == {"A": "1", "B": "two words"}
    assert last.labels == {"v": "dev", "b": ""}, "this stage alone knows no B"
    assert last.environment == {"PATH": "/x:"}
    assert (last.entrypoint, last.healthcheck) == (["run", "me"], ["ask"])


def test_what_is_not_known_is_an_error() -> None:
    with pytest.raises(AssertionError, match="line 2: ADD is not known"):
        list(instructions("FROM x\nADD a b\n"))
