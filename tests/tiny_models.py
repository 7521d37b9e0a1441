"""Hugging Face's own models, built from tiny configurations with random weights."""

import torch
import transformers

V = 12


def pixels():
    return list(torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


TINY_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
TINY_TEXT = {
    "vocab_size": V,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
}


def built(model_class, config, seed, sharpness=8):
    """A model with weights that make its distributions far from flat, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(sharpness)
    return model


def vit_gpt2(seed):
    text = transformers.GPT2Config(
        vocab_size=V, n_positions=12, n_embd=24, n_layer=2, n_head=2, bos_token_id=3, eos_token_id=3
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**TINY_VISION), text
    )
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 0
    return built(transformers.VisionEncoderDecoderModel, config, seed)


def vit_bert(seed):
    text = transformers.BertConfig(**TINY_TEXT, pad_token_id=0, is_decoder=True, add_cross_attention=True)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**TINY_VISION), text
    )
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 0
    return built(transformers.VisionEncoderDecoderModel, config, seed)


def blip(seed):
    text = {**TINY_TEXT, "encoder_hidden_size": 16, "projection_dim": 16}
    ends = {"bos_token_id": 1, "eos_token_id": 3, "sep_token_id": 2, "pad_token_id": 0}
    config = transformers.BlipConfig(text_config={**text, **ends}, vision_config={**TINY_VISION, "projection_dim": 16})
    return built(transformers.BlipForConditionalGeneration, config, seed)


def git(seed):
    config = transformers.GitConfig(
        **TINY_TEXT, pad_token_id=0, bos_token_id=1, eos_token_id=2, vision_config=TINY_VISION
    )
    return built(transformers.GitForCausalLM, config, seed)


def gpt2(seed):
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = built(transformers.GPT2LMHeadModel, config, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.image_projection = torch.nn.Linear(192, 4 * 16).double()
    return model


def project(model):
    """Pictures [N, 3, 8, 8] to four embeddings each."""
    return lambda images: model.image_projection(images.flatten(1)).unflatten(1, (4, 16))
