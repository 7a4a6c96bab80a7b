# SPDX-License-Identifier: Apache-2.0
"""Prompts are read once."""

from dataclasses import replace

import pytest
import torch
from tiny_wan import SMALL, tiny_text_encoder, tokenize

from ex4d.errors import InputError
from ex4d.generation.wan.models import WanModels
from ex4d.generation.wan.prompts import are_known, prompt_embeddings


class Loader:
    """Counts how often the text encoder is loaded."""

    def __init__(self):
        self.loads = 0

    def __call__(self):
        self.loads += 1
        return tiny_text_encoder()


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def models(loader, tmp_path, monkeypatch):
    monkeypatch.setenv("EX4D_CACHE", str(tmp_path))
    return WanModels(None, None, None, None, loader, "weights 1", torch.device("cpu"), torch.float32)


def test_an_embedding_is_cut_to_the_prompt_s_words_and_padded_with_zeros(models):
    (words,) = prompt_embeddings(models, ["a red train"])
    assert words.shape == (1, 512, SMALL.text_dim)
    assert (words[0, 4:] == 0).all()
    ids, mask = tokenize("a red train")
    with torch.no_grad():
        assert torch.equal(words[0, :4], tiny_text_encoder().network(ids, mask)[0, :4])


def test_known_prompts_do_not_load_the_text_encoder(models, loader):
    prompts = ["a red train", "blurred"]
    assert not are_known(models.text_encoder_id, models.dtype, prompts)
    first = prompt_embeddings(models, prompts)
    assert are_known(models.text_encoder_id, models.dtype, prompts)
    assert loader.loads == 1
    again = prompt_embeddings(models, ["blurred", "a red train"])
    assert loader.loads == 1
    assert torch.equal(first[0], again[1])
    assert torch.equal(first[1], again[0])


def test_a_new_prompt_and_other_weights_do(models, loader):
    prompt_embeddings(models, ["a red train"])
    prompt_embeddings(models, ["a red train", "a blue train"])
    prompt_embeddings(replace(models, text_encoder_id="weights 2"), ["a red train"])
    assert loader.loads == 3


def test_a_damaged_entry_is_made_again(models, loader, tmp_path):
    (words,) = prompt_embeddings(models, ["a red train"])
    (entry,) = (tmp_path / "prompts").iterdir()
    entry.write_bytes(entry.read_bytes()[:-7])
    (again,) = prompt_embeddings(models, ["a red train"])
    assert torch.equal(words, again)
    assert loader.loads == 2


def test_without_a_cache_folder_prompts_are_read_each_time(models, loader, monkeypatch):
    monkeypatch.setenv("EX4D_CACHE", "")
    prompt_embeddings(models, ["a red train"])
    prompt_embeddings(models, ["a red train"])
    assert loader.loads == 2


def test_a_prompt_that_would_be_cut_is_refused(models):
    prompt_embeddings(models, ["long " * 510])
    with pytest.raises(InputError, match=r"less than 512 tokens.*begins with 'very long"):
        prompt_embeddings(models, ["very long " * 300])
