"""Hugging Face's generators, built from tiny configurations with random weights, and random sources for them."""

import torch
import transformers
from tiny_models import TINY_TEXT, TINY_VISION
from tiny_models import built as sharply_built

V = 24
PAD, START, END = 0, 3, 2
IDS = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": END}
ENCODER = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
DECODER = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
BART = {**ENCODER, **DECODER, **IDS, "vocab_size": V, "d_model": 16, "max_position_embeddings": 64}
TEXT = {**TINY_TEXT, "vocab_size": V, "max_position_embeddings": 64}
VISION = TINY_VISION
PICTURE = 20  # id that stands for a part of a picture in a prompt


def built(model_class, config, seed, sharpness=5):
    """A model that often ends its sentences."""
    model = sharply_built(model_class, config, seed, sharpness)
    likelier = torch.zeros(V, dtype=torch.float64)
    likelier[END] = 4
    writer = getattr(model, "text_decoder", model)
    writer.get_output_embeddings().register_forward_hook(lambda _, __, logits: logits + likelier.to(logits))
    return model


def t5(sharpness=0.7, **options):
    config = transformers.T5Config(
        **{"vocab_size": V, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, **options},
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
    )
    return built(transformers.T5ForConditionalGeneration, config, 1, sharpness)


def untied_t5():
    return t5(0.4, feed_forward_proj="gated-gelu", tie_word_embeddings=False)


def bart(**options):
    config = transformers.BartConfig(**{**BART, "decoder_start_token_id": END, "forced_eos_token_id": None, **options})
    return built(transformers.BartForConditionalGeneration, config, 1)


def biased_bart():
    model = bart()
    model.final_logits_bias += torch.randn(V, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return model


def mbart():
    config = transformers.MBartConfig(**BART, decoder_start_token_id=END, forced_eos_token_id=None)
    config.num_beams = None
    model = built(transformers.MBartForConditionalGeneration, config, 1)
    model.generation_config.forced_bos_token_id = 7  # the language
    return model


def marian():
    config = transformers.MarianConfig(**BART, decoder_start_token_id=PAD, forced_eos_token_id=None)
    return built(transformers.MarianMTModel, config, 1)


def pegasus():
    config = transformers.PegasusConfig(**BART, decoder_start_token_id=PAD, forced_eos_token_id=None)
    return built(transformers.PegasusForConditionalGeneration, config, 1)


def whisper():
    config = transformers.WhisperConfig(
        **{**ENCODER, **DECODER, **IDS, "vocab_size": V, "d_model": 16},
        num_mel_bins=4,
        max_source_positions=6,
        max_target_positions=64,
        decoder_start_token_id=START,
        begin_suppress_tokens=None,
    )
    model = built(transformers.WhisperForConditionalGeneration, config, 1)
    options = model.generation_config
    options.begin_suppress_tokens = [END, 9]
    options.is_multilingual, options.no_timestamps_token_id = True, 19
    options.lang_to_id, options.task_to_id = {"<|en|>": 15, "<|de|>": 16}, {"transcribe": 17, "translate": 18}
    return model


def seeing_text(decoder):
    def build():
        config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            transformers.ViTConfig(**VISION), decoder
        )
        config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = START, END, PAD
        return built(transformers.VisionEncoderDecoderModel, config, 1)

    return build


def gpt2_config():
    return transformers.GPT2Config(
        vocab_size=V, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=END
    )


def blip():
    ends = {"bos_token_id": 1, "eos_token_id": 3, "sep_token_id": END, "pad_token_id": PAD}
    text = {**TEXT, **ends, "encoder_hidden_size": 16, "projection_dim": 16}
    config = transformers.BlipConfig(text_config=text, vision_config={**VISION, "projection_dim": 16})
    return built(transformers.BlipForConditionalGeneration, config, 1)


def blip2(text, sharpness=5):
    def build():
        config = transformers.Blip2Config(
            vision_config={**VISION},
            qformer_config={**TINY_TEXT, "vocab_size": V, "encoder_hidden_size": 16, "cross_attention_frequency": 1},
            text_config=text,
            num_query_tokens=3,
            image_token_index=PICTURE,
        )
        return built(transformers.Blip2ForConditionalGeneration, config, 1, sharpness)

    return build


OPT = {
    "model_type": "opt",
    "vocab_size": V,
    "hidden_size": 16,
    "word_embed_proj_dim": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "ffn_dim": 16,
    "max_position_embeddings": 64,
    **IDS,
}
FLAN = {"model_type": "t5", "vocab_size": V, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
FLAN |= {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD, "bos_token_id": 1}


def git():
    config = transformers.GitConfig(**TEXT, **IDS, vision_config=VISION)
    return built(transformers.GitForCausalLM, config, 1)


def gpt2():
    return built(transformers.GPT2LMHeadModel, gpt2_config(), 1)


LLAMA = {**TEXT, **IDS, "num_key_value_heads": 1}


def llama():
    return built(transformers.LlamaForCausalLM, transformers.LlamaConfig(**LLAMA), 1)


def mistral():
    """A model with a sliding window, which is shorter than the prompts."""
    return built(transformers.MistralForCausalLM, transformers.MistralConfig(**LLAMA, sliding_window=4), 1)


def llava():
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION, "projection_dim": 16},
        text_config={"model_type": "llama", **LLAMA},
        image_token_index=PICTURE,
        vision_feature_layer=-1,
    )
    return built(transformers.LlavaForConditionalGeneration, config, 1)


def paligemma():
    config = transformers.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION},
        text_config={"model_type": "gemma", **LLAMA, "head_dim": 8},
        projection_dim=16,
        image_token_index=PICTURE,
        **IDS,
    )
    return built(transformers.PaliGemmaForConditionalGeneration, config, 1)


def random(number):
    return torch.Generator().manual_seed(number)


def words(number, most=9):
    length = 1 + number % most
    return torch.randint(4, PICTURE - 5, (1, length), generator=random(number))


def sentence(number):
    """What a tokenizer returns."""
    ids = torch.cat([words(number), torch.tensor([[END]])], dim=1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def picture(number):
    """What an image processor returns."""
    return {"pixel_values": torch.randn(1, 3, 8, 8, generator=random(number), dtype=torch.float64)}


def sound(number):
    return {"input_features": torch.randn(1, 4, 12, generator=random(number), dtype=torch.float64)}


def prompt(number):
    ids = words(number)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def prompt_with_picture(parts, types=False):
    """What the processor of a model returns that puts pictures into prompts."""

    def source(number):
        ids = torch.cat([torch.full((1, parts), PICTURE), words(number)], dim=1)
        more = {"token_type_ids": torch.zeros_like(ids)} if types else {}
        return {**picture(number), "input_ids": ids, "attention_mask": torch.ones_like(ids), **more}

    return source


MODELS = {
    "T5": (t5, sentence),
    "T5, untied": (untied_t5, sentence),
    "BART": (bart, sentence),
    "BART, biased": (biased_bart, sentence),
    "mBART": (mbart, sentence),
    "Marian": (marian, sentence),
    "Pegasus": (pegasus, sentence),
    "Whisper": (whisper, sound),
    "VisionEncoderDecoder, GPT-2": (seeing_text(gpt2_config()), picture),
    "VisionEncoderDecoder, BERT": (
        seeing_text(transformers.BertConfig(**TEXT, pad_token_id=PAD, is_decoder=True, add_cross_attention=True)),
        picture,
    ),
    "BLIP": (blip, picture),
    "BLIP-2, OPT": (blip2(OPT), prompt_with_picture(3)),
    "BLIP-2, T5": (blip2(FLAN, sharpness=1.5), prompt_with_picture(3)),
    "GIT": (git, picture),
    "GPT-2": (gpt2, prompt),
    "Llama": (llama, prompt),
    "Mistral": (mistral, prompt),
    "LLaVA": (llava, prompt_with_picture(4)),
    "PaliGemma": (paligemma, prompt_with_picture(4, types=True)),
}
GENERATE = {"Whisper": {"language": "de", "task": "translate", "return_timestamps": False}}
