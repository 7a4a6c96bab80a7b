# SPDX-License-Identifier: Apache-2.0
"""Messages: round trips, golden bytes of older versions, and refusals that name the field."""

from dataclasses import replace

import msgpack
import pytest
from message_examples import ERROR, EXAMPLES, FILE, GOLDEN, GOLDEN_RID, JOB

from shared_protocol import errors
from shared_protocol.errors import BadMessage, LinkError, VersionMismatch
from shared_protocol.messages import (
    CHUNK_LIMIT,
    HEADER_LIMIT,
    MESSAGES,
    PREVIEW_LIMIT,
    PROTOCOL_VERSION,
    CancelJob,
    GetBlob,
    Hello,
    JobProgress,
    OutputRef,
    PutBlob,
    SubmitJob,
    SubscribeJob,
)
from shared_protocol.wire import check_frames, decode, encode

NAMES = [example.type_name for example in EXAMPLES]


def header(**changes):
    """A valid cancel request with some keys changed; None removes one."""
    plain = {"v": PROTOCOL_VERSION[0], "t": "job.cancel", "rid": 1, "job_id": JOB, **changes}
    return msgpack.packb({key: value for key, value in plain.items() if value is not None})


def test_every_message_has_an_example():
    assert sorted(NAMES) == sorted(MESSAGES)


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_a_message_survives_the_wire(example):
    assert decode(encode(example, 42)) == (42, example)


@pytest.mark.parametrize("example", EXAMPLES, ids=NAMES)
def test_bytes_stored_by_older_versions_still_decode(example):
    stored = GOLDEN / f"{example.type_name}.msgpack"
    assert stored.exists(), "run message_examples.py to store the bytes of a new message"
    assert decode(stored.read_bytes()) == (GOLDEN_RID, example)


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: CancelJob("../../etc/passwd"), "job_id"),
        (lambda: CancelJob(None), "job_id"),
        (lambda: SubscribeJob(JOB, -1), "after_seq"),
        (lambda: SubscribeJob(JOB, True), "after_seq"),
        (lambda: SubscribeJob(JOB, 2**64), "after_seq"),
        (lambda: PutBlob(replace(FILE, sha256="../" * 21 + "a"), 0), "sha256"),
        (lambda: PutBlob(replace(FILE, size=-1), 0), "size"),
        (lambda: GetBlob(FILE, 0, CHUNK_LIMIT + 1), "length"),
        (lambda: JobProgress(JOB, "stage", 1, 2, float("nan")), "eta_s"),
        (lambda: SubmitJob(JOB, "take", {"seed": float("inf")}), "params.seed"),
        (lambda: SubmitJob(JOB, "take", {"seed": 2**64}), "params.seed"),
        (lambda: SubmitJob(JOB, "take", {"a": {"b": [1, object()]}}), r"params.a.b\[1\]"),
        (lambda: SubmitJob(JOB, "take", {1: 2}), "text keys"),
        (lambda: SubmitJob(JOB, "Take!", {}), "kind"),
        (lambda: SubmitJob(JOB, "take", {}, ["not a tuple"]), "inputs"),
        (lambda: replace(ERROR, code="Not A Code"), "code"),
    ],
)
def test_a_wrong_field_is_named(build, field):
    with pytest.raises(BadMessage, match=field):
        build()


@pytest.mark.parametrize("role", ["shot.json", "plate", "result.mp4", "depth_2.npz", "plate.tar.gz"])
def test_roles_are_file_names(role):
    assert OutputRef(role, FILE).role == role


@pytest.mark.parametrize(
    "role", ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:x", "nul", "CON.mkv", "a.", ".hidden", "a\n", "a b"]
)
def test_roles_that_could_leave_the_folder_or_break_windows_are_refused(role):
    with pytest.raises(BadMessage, match="role"):
        OutputRef(role, FILE)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "msgpack"),
        (b"\xc1", "msgpack"),
        (b"\x81\xa1v", "msgpack"),
        (b"\x91" * 50_000, "msgpack"),  # nested
        (msgpack.packb([1, 2]), "must be a map"),
        (msgpack.packb({"v": 1, "x": msgpack.ExtType(5, b"a")}), "msgpack"),
        (msgpack.packb({"v": 1, "x": msgpack.ExtType(5, b"")}), "msgpack"),
        (msgpack.packb({"v": 1, "x": msgpack.Timestamp(1, 0)}), "msgpack"),
        (b"\x82\xa1v\x01\xa1v\x01", "msgpack"),  # the key v twice
        (b"\x81\x01\x01", "msgpack"),  # a number as key
        (header() + b"x", "msgpack"),
        (b"\xdd\x7f\xff\xff\xff", "msgpack"),  # an array of 2^31 items
        (header(t=None), "t must be"),
        (header(t="job.nonsense"), "job.nonsense"),
        (header(t=5), "t must be"),
        (header(rid=-1), "rid"),
        (header(rid="1"), "rid"),
        (header(job_id=None), "job_id"),
        (header(job_id=[1]), "job_id"),
        (msgpack.packb({"v": 1, "t": "error", "rid": 0, "error": "text"}), "error.error must be a map"),
        (b"\xc4" * (HEADER_LIMIT + 1), "bytes"),
    ],
)
def test_a_broken_header_is_refused_in_words(data, says):
    with pytest.raises(BadMessage) as caught:
        decode(data)
    assert says in f"{caught.value.title} {caught.value.detail}"


def test_a_newer_minor_version_may_add_fields():
    assert decode(header(new_field={"a": 1})) == (1, CancelJob(JOB))


def test_another_major_version_is_refused_but_hello_still_understood():
    with pytest.raises(VersionMismatch, match="protocol 9"):
        decode(header(v=9))
    assert decode(msgpack.packb({"v": 9, "t": "hello", "rid": 1, "proto": [9, 0], "later": 1}))[1] == Hello((9, 0))


def test_a_message_that_does_not_fit_is_refused_before_it_is_sent():
    with pytest.raises(BadMessage, match=r"job\.submit needs"):
        encode(SubmitJob(JOB, "take", {"text": "x" * HEADER_LIMIT}))


@pytest.mark.parametrize("sizes", [[], [1, 1, 1], [HEADER_LIMIT + 1], [1, CHUNK_LIMIT + 1]])
def test_wrong_frames_are_refused(sizes):
    with pytest.raises(BadMessage):
        check_frames(sizes)


def test_every_error_tells_what_to_do():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LinkError)]
    assert len({kind.code for kind in kinds if kind is not errors.RemoteError}) == len(kinds) - 1
    assert all(kind.hint for kind in kinds)


def test_a_preview_travels_beside_the_header():
    progress = JobProgress(JOB, "Painting", 1, 2, None, b"\xff\xd8")
    assert decode(encode(progress)) == (0, replace(progress, preview=None))
    with pytest.raises(BadMessage, match="preview"):
        replace(progress, preview=b"x" * (PREVIEW_LIMIT + 1))
    assert decode(header(t="job.progress", stage="a", i=1, n=2, preview=5))[1].preview is None
