"""Which settings of text encoders and tokenizers are honoured; see `_honoured`."""

from __future__ import annotations

from distillbench.backbones._rules import (
    Rule,
    Rules,
    either,
    flag,
    listed,
    number,
    one_of,
    only,
    optional,
    text,
    unread,
    whole,
)  # fmt: skip

__all__ = ["CLIP", "T5", "TOKENIZER"]

_TRAINING = "read in training alone"
_PARTLY = "read where text is written, not where it is encoded"
_NOTE = "a note of the library's"
_id = optional(either(whole(-1), listed(whole(0))))
_COMMON: Rules = {
    "architectures": unread(optional(listed(text)), _NOTE),
    "transformers_version": unread(optional(text), _NOTE),
    "dtype": unread(optional(text), "the experiment's precision decides"),
    "torch_dtype": unread(optional(text), "the experiment's precision decides"),
    "vocab_size": whole().must(),
    "pad_token_id": _id,
    "bos_token_id": _id,
    "eos_token_id": _id,
    "decoder_start_token_id": unread(_id, _PARTLY),
    "initializer_factor": unread(number(), _TRAINING),
    "initializer_range": unread(number(), _TRAINING),
    "use_cache": unread(flag, _PARTLY),
    "output_past": unread(flag, _PARTLY),
    "tie_word_embeddings": unread(flag, _PARTLY),
    "task_specific_params": unread(Rule(lambda v: True, "anything"), _PARTLY),
    "return_dict": unread(flag, "asked for by name"),
    "is_encoder_decoder": unread(flag, "the encoder alone is loaded"),
    "is_decoder": only(False),
    "chunk_size_feed_forward": only(0),
    "max_length": unread(whole(), _PARTLY),
    "min_length": unread(whole(0), _PARTLY),
    "num_beams": unread(whole(), _PARTLY),
    "num_beam_groups": unread(whole(), _PARTLY),
    "num_return_sequences": unread(whole(), _PARTLY),
    "temperature": unread(number(), _PARTLY),
    "top_k": unread(whole(0), _PARTLY),
    "top_p": unread(number(), _PARTLY),
    "typical_p": unread(number(), _PARTLY),
    "repetition_penalty": unread(number(), _PARTLY),
    "length_penalty": unread(number(), _PARTLY),
    "diversity_penalty": unread(number(), _PARTLY),
    "no_repeat_ngram_size": unread(whole(0), _PARTLY),
    "encoder_no_repeat_ngram_size": unread(whole(0), _PARTLY),
    "id2label": unread(Rule(lambda v: isinstance(v, dict), "a table"), _PARTLY),
    "label2id": unread(Rule(lambda v: isinstance(v, dict), "a table"), _PARTLY),
}
_ACTIVATION = one_of("quick_gelu", "gelu", "gelu_new", "relu", "silu")
_RATE = unread(number(-1e-9, 1), "nothing is dropped: encoders run in evaluation mode")

CLIP: Rules = {
    **_COMMON,
    "model_type": only("clip_text_model"),
    "hidden_size": whole().must(),
    "intermediate_size": whole().must(),
    "num_hidden_layers": whole().must(),
    "num_attention_heads": whole().must(),
    "max_position_embeddings": whole().must(),
    "projection_dim": whole(),
    "hidden_act": _ACTIVATION,
    "layer_norm_eps": number(0, 1),
    "attention_dropout": _RATE,
    "dropout": _RATE,
}
T5: Rules = {
    **_COMMON,
    "model_type": only("t5"),
    "d_model": whole().must(),
    "d_kv": whole().must(),
    "d_ff": whole().must(),
    "num_layers": whole().must(),
    "num_heads": whole().must(),
    "num_decoder_layers": unread(optional(whole()), "the encoder alone is loaded"),
    "n_positions": unread(whole(), "positions are relative"),
    "relative_attention_num_buckets": whole(),
    "relative_attention_max_distance": whole(),
    "feed_forward_proj": one_of("relu", "gated-gelu", "gated-silu", "gated-relu"),
    "dense_act_fn": unread(_ACTIVATION, "follows from feed_forward_proj"),
    "is_gated_act": unread(flag, "follows from feed_forward_proj"),
    "layer_norm_epsilon": number(0, 1),
    "dropout_rate": _RATE,
    "classifier_dropout": _RATE,
    "scale_decoder_outputs": unread(flag, "the encoder alone is loaded"),
}

_token = optional(either(text, Rule(lambda v: isinstance(v, dict) and isinstance(
    v.get("content"), str), "a token's table with its content")))  # fmt: skip
_table = Rule(lambda v: isinstance(v, dict), "a table")
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")
TOKENIZER: Rules = dict.fromkeys(_SPECIAL, _token) | {
    "model_max_length": number(0),
    "padding_side": one_of("right", "left"),
    "truncation_side": one_of("right", "left"),
    "do_lower_case": flag,
    "add_prefix_space": flag,
    "add_bos_token": flag,
    "add_eos_token": flag,
    "legacy": optional(flag),
    "errors": one_of("replace", "strict", "ignore"),
    "extra_ids": whole(0),
    "additional_special_tokens": optional(listed(_token)),
    "extra_special_tokens": optional(either(_table, Rule(lambda v: isinstance(v, list), "a list"))),
    "added_tokens_decoder": _table,
    "sp_model_kwargs": _table,
    "clean_up_tokenization_spaces": unread(flag, "read where tokens are turned into text"),
    "tokenizer_class": unread(text, "model_index.json names the class"),
    "backend": unread(text, _NOTE),
    "is_local": unread(flag, _NOTE),
    "local_files_only": unread(flag, _NOTE),
    "name_or_path": unread(text, _NOTE),
    "special_tokens_map_file": unread(optional(text), _NOTE),
    "tokenizer_file": unread(optional(text), _NOTE),
    "from_slow": unread(optional(flag), _NOTE),
    "processor_class": unread(optional(text), _NOTE),
    **{
        name: unread(Rule(lambda v: v is None or isinstance(v, (int, str)), "a number or a text"),
                     "how the pipeline pads and cuts is said in its own call")
        for name in ("max_length", "pad_to_multiple_of", "pad_token_type_id", "stride",
                     "truncation_strategy")
    },
}  # fmt: skip
