"""BLIP's class for questions, with the logits that its own forward pass computes and leaves out of what it returns."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BlipForQuestionAnswering as LibraryClass
from transformers.modeling_outputs import Seq2SeqLMOutput


class BlipForQuestionAnswering(LibraryClass):
    """An encoder reads the question and looks at the image; a decoder looks at the encoder and writes the answer.

    Named as the library's class, so that a saved folder names that one.
    """

    def __init__(self, config: Any):
        config.is_encoder_decoder = True
        super().__init__(config)

    @property
    def encoder(self) -> torch.nn.Module:
        return self.text_encoder

    @property
    def decoder(self) -> torch.nn.Module:
        return self.text_decoder.bert

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.text_decoder.get_output_embeddings()

    def forward(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        decoder_input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **unused: Any,
    ) -> Seq2SeqLMOutput:
        """The logits `[batch, answer positions, vocabulary]` behind each token of the answer, as the library's `generate` reads them."""
        image = self.vision_model(pixel_values=pixel_values).last_hidden_state
        read = self.text_encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:-1], dtype=torch.long, device=image.device),
        ).last_hidden_state
        mask = torch.ones(read.shape[:-1], dtype=torch.long, device=read.device) if attention_mask is None else attention_mask
        written = self.text_decoder(input_ids=decoder_input_ids, encoder_hidden_states=read, encoder_attention_mask=mask, use_cache=False)
        return Seq2SeqLMOutput(logits=written.logits)

    @torch.no_grad()
    def generate(self, *given: Any, **options: Any) -> Any:
        """The library's; the token that an answer begins with is its own."""
        options.pop("decoder_input_ids", None)
        return super().generate(*given, **options)
