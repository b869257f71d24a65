"""The text model of a multimodal model is found by its configuration, also next to deeper towers of other senses."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import lmri
from lmri.exceptions import SiteError
from lmri.models.capture import capture
from lmri.models.sites import blocks, find_sites
from shrinking import shrunk
from tiny_models import CONTEXT, HIDDEN, N_HEADS, N_LAYERS, VOCABULARY, WIDTH, randomize

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 10, 11, 12, 13]])
DEPTHS = (N_LAYERS - 1, N_LAYERS, N_LAYERS + 2)
TEXT = transformers.LlamaConfig(
    vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=N_LAYERS,
    num_attention_heads=N_HEADS, num_key_value_heads=2, max_position_embeddings=CONTEXT,
)  # fmt: skip
SENSE = {"hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": N_HEADS}


def llava(depth):
    vision = transformers.CLIPVisionConfig(num_hidden_layers=depth, image_size=16, patch_size=8, **SENSE)
    config = transformers.LlavaConfig(vision_config=vision, text_config=TEXT, image_token_id=VOCABULARY - 1)
    return randomize(transformers.LlavaForConditionalGeneration(config))


def multimodal(head, depth, **own):
    """Build a tiny model of a class, with towers of a number of layers; `own` is set in the text configuration."""
    config = shrunk(getattr(transformers, head).config_class)
    text = config.get_text_config()
    for name, value in own.items():
        setattr(text, name, value)
    for part in vars(config).values():
        if isinstance(part, transformers.PretrainedConfig) and part is not text:
            for name in ("num_hidden_layers", "encoder_layers", "depth"):
                if isinstance(getattr(part, name, None), int):
                    setattr(part, name, depth)
    return randomize(getattr(transformers, head)(config))


MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
CLASSES = {
    "PaliGemmaForConditionalGeneration": ("language_model.layers.{z}.mlp.down_proj", {}),
    "Qwen2_5_VLForConditionalGeneration": ("language_model.layers.{z}.mlp.down_proj", MROPE),  # images and video
    "Qwen2AudioForConditionalGeneration": ("language_model.layers.{z}.mlp.down_proj", {}),
    "VoxtralForConditionalGeneration": ("language_model.layers.{z}.mlp.down_proj", {}),
    "GraniteSpeechForConditionalGeneration": ("language_model.layers.{z}.mlp.down_proj", {}),
    "VideoLlavaForConditionalGeneration": ("language_model.layers.{z}.mlp.down_proj", {}),  # two towers
    "Idefics3ForConditionalGeneration": ("text_model.layers.{z}.mlp.down_proj", {}),
    "GitForCausalLM": ("encoder.layer.{z}.output.dense", {}),  # whose configuration is that of its text model
}


def inputs(model, path):
    """Return the inputs of a module, by an ordinary hook."""
    seen = []
    handle = model.base_model.get_submodule(path).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS))
    handle.remove()
    return seen[0].reshape(-1, seen[0].shape[-1]).numpy()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_depth_of_a_tower_does_not_matter(depth):
    model = llava(depth)
    space = find_sites(model, "mlp_hidden")
    assert [layer.module for layer in space.layers] == [
        f"language_model.layers.{z}.mlp.down_proj" for z in range(N_LAYERS)
    ]
    assert space.widths == (HIDDEN,) * N_LAYERS
    assert find_sites(model, "mlp_hidden", projection="mlp.down_proj") == space
    assert find_sites(model, "attn_out").layers[2].module == "language_model.layers.2.self_attn.o_proj"
    with torch.inference_mode():
        everything = torch.ones_like(IDS)
        values = capture(model, [space], IDS, everything, everything.bool()).collect()[0]
    assert np.array_equal(values[:, space.layer_of == 1], inputs(model, space.layers[1].module))
    network = lmri.Network.from_members(space, (space.layer_of == 1) & (space.neuron_of == 3), "neuron")
    with lmri.lesion(network).on(model):
        lesioned = logits(model)
    model.model.language_model.layers[1].mlp.down_proj.weight.data[:, 3] = 0
    zeroed = logits(model)
    # Both sum 56 products of which one is zero, in the same order, and pass through the same two layers.
    allowed = 2 * HIDDEN * torch.finfo(torch.float32).eps * float(zeroed.abs().max())
    assert float((lesioned - zeroed).abs().max()) <= allowed


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_text_model_is_found_next_to_deeper_towers(name):
    path, own = CLASSES[name]
    model = multimodal(name, N_LAYERS + 2, **own)
    n_layers = model.config.get_text_config().num_hidden_layers
    space = find_sites(model)
    assert [layer.module for layer in space.layers] == [path.format(z=z) for z in range(n_layers)]
    assert space.widths == (model.config.get_text_config().hidden_size,) * n_layers


def test_messages_name_modules_of_the_text_model():
    with pytest.raises(SiteError, match=r"no linear module 'mlp.fc2'; it has .*'mlp.down_proj'"):
        find_sites(llava(N_LAYERS + 2), projection="mlp.fc2")


def test_a_text_model_under_another_name_is_found():
    """As in remote code, whose configuration has its own names."""

    class Config(transformers.PretrainedConfig):
        model_type = "chimera"

        def __init__(self, llm_config=None, **options):
            super().__init__(**options)
            self.llm_config = llm_config

    class Chimera(transformers.PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            vision = transformers.CLIPVisionConfig(num_hidden_layers=5, image_size=16, patch_size=8, **SENSE)
            self.vision = transformers.CLIPVisionModel(vision)
            self.writer = transformers.LlamaModel(config.llm_config)
            self.post_init()

        def get_input_embeddings(self):
            return self.writer.embed_tokens

        def forward(self, input_ids, attention_mask=None):
            return self.writer(input_ids=input_ids, attention_mask=attention_mask)

    model = randomize(Chimera(Config(TEXT)))
    assert [layer.module for layer in find_sites(model).layers] == [
        f"writer.layers.{z}.mlp.down_proj" for z in range(N_LAYERS)
    ]


def test_a_model_that_reads_no_text_alone_is_refused_with_its_inputs():
    with pytest.raises(SiteError, match=r"Blip2ForConditionalGeneration reads pixel_values, not a text alone"):
        find_sites(multimodal("Blip2ForConditionalGeneration", 3))


def test_a_model_of_several_models_names_the_one_that_reads_text():
    class Several(transformers.PreTrainedModel):
        config_class, _supports_sdpa = transformers.LlamaConfig, True

        def __init__(self, config):
            super().__init__(config)
            self.thinker = transformers.LlamaForCausalLM(config)
            self.voice = nn.Linear(3, 3)

        forward = nn.Module.forward

    model = Several(TEXT).eval()
    with pytest.raises(SiteError, match=r"has no forward pass of its own. Use the part .* such as model.thinker"):
        find_sites(model)
    assert find_sites(model.thinker).n_layers == N_LAYERS


def test_an_encoder_decoder_has_its_own_stack_of_text_in_each_part():
    encoder = transformers.BertConfig(vocab_size=VOCABULARY, num_hidden_layers=2, **SENSE)
    decoder = transformers.BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=4, is_decoder=True, add_cross_attention=True, **SENSE
    )
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    model = transformers.EncoderDecoderModel(config)
    assert (len(blocks(model)), len(blocks(model, "decoder"))) == (2, 4)
