# SPDX-License-Identifier: Apache-2.0
"""Pictures of how a job comes along: small, not too many, seen by late listeners too."""

import cv2
import numpy as np
import pytest
from test_background_client import Artist

from server.preview import LONGEST_SIDE, preview_jpeg
from shared_protocol.background import BackgroundClient
from shared_protocol.events import JobProgress
from shared_protocol.messages import PREVIEW_LIMIT


def pixels(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_pictures_reach_the_artist_about_once_a_second(server, tmp_path):
    server.start()
    client = BackgroundClient()
    artist = Artist(client)
    artist.wait_end(client.run_job("paint", {"n": 40, "step_s": 0.04}, {}, tmp_path))
    pictures = [event.preview for event in artist.heard if isinstance(event, JobProgress) and event.preview]
    assert 1 <= len(pictures) <= 3
    picture = pixels(pictures[0])
    assert picture.shape == (240, 512, 3)
    assert np.allclose(picture[..., (0, 2)].mean((0, 1)), (0, 255), atol=3)
    client.close()


def test_who_comes_late_sees_the_newest_picture(server):
    server.start()
    follower = server.follower()
    job_id = follower.submit("paint", {"n": 10_000})
    follower.wait(job_id, lambda message: getattr(message, "preview", None))
    late = server.follower()
    late.client.subscribe(job_id)
    assert late.wait(job_id, lambda message: getattr(message, "preview", None)).preview[:2] == b"\xff\xd8"
    follower.client.cancel(job_id)


@pytest.mark.parametrize("shape", [(1, 1), (2000, 3), (700, 1920), (512, 512)])
def test_a_preview_is_never_too_big(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    jpeg = preview_jpeg(noise)
    assert len(jpeg) <= PREVIEW_LIMIT
    assert max(pixels(jpeg).shape) <= LONGEST_SIDE


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_no_preview(wrong):
    assert preview_jpeg(wrong) is None
