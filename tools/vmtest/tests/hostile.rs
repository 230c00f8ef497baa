//! Models that were made to hurt: each is refused before llama.cpp sees a byte of it,
//! with one line whose words are the cause, or it loads and answers.

use std::ffi::OsStr;

use vmtest::{Disks, Fault, GgufFile, LOAD, TinyModel, run_plain};

use Told::{Check, Fails, Llama, Loads, Warns};

/// What becomes of a model.
#[derive(Clone, Copy)]
enum Told {
    /// The check of the header refuses it in these words.
    Check(&'static str),
    /// It contradicts itself in what only llama.cpp knows, which says so.
    Llama(&'static str),
    /// It loads, and has no answer, for a reason in these words.
    Fails(&'static str),
    /// It answers, and these words tell of a part that is not used.
    Warns(&'static str),
    /// It answers.
    Loads,
}

type Row = (&'static str, fn(GgufFile) -> GgufFile, Told);

const I63: u64 = 1 << 63;
const I31: u32 = 1 << 31;

/// Of the array of the tokens' types, where that of token `n` is.
const fn type_of(n: usize) -> usize {
    4 + 8 + 4 * n
}

#[rustfmt::skip]
const FORMAT: &[Row] = &[
    ("nothing wrong", |g| g, Loads),
    ("n_kv 2^31", |g| g.key_count(1 << 31), Check("the number of metadata keys is 2147483648")),
    ("n_kv 2^63", |g| g.key_count(I63), Check("the number of metadata keys is 9223372036854775808")),
    ("n_tensors 2^31", |g| g.tensor_count(1 << 31), Check("the number of tensors is 2147483648")),
    ("n_tensors 2^63", |g| g.tensor_count(I63), Check("the number of tensors is 9223372036854775808")),
    ("more keys than there are", |g| g.key_count(40), Check("a key has 73464968921481216 bytes")),
    ("version 0", |g| g.version(0), Check("version 0")),
    ("version 2^31", |g| g.version(I31), Check("version 2147483648")),
    ("a key twice", |g| g.twice("llama.block_count"), Check("\"llama.block_count\" is wrong: it is there twice")),
    ("text of 2^31", |g| g.value("x", 8, &(1_u64 << 31).to_le_bytes()), Check("a metadata value has 2147483648 bytes")),
    ("text of 2^63", |g| g.value("x", 8, &I63.to_le_bytes()), Check("a metadata value has 9223372036854775808 bytes")),
    ("text of 2^64-1", |g| g.value("x", 8, &u64::MAX.to_le_bytes()), Check("a metadata value has 18446744073709551615 bytes")),
    ("text of 1 GiB", |g| g.value("x", 8, &(1_u64 << 30).to_le_bytes()), Check("a metadata value has 1073741824 bytes")),
    ("array of 2^31", |g| g.array("x", 4, 1 << 31, &[]), Check("an array's length is 2147483648")),
    ("array of 2^63", |g| g.array("x", 4, I63, &[]), Check("an array's length is 9223372036854775808")),
    ("array of 2^62 floats", |g| g.array("x", 6, 1 << 62, &[]), Check("an array's length is 4611686018427387904")),
    ("array of an unknown type", |g| g.array("x", 13, 1, &[0]), Check("13 is not a type of value")),
    ("array of arrays", |g| g.array("x", 9, 1, &[0; 16]), Check("arrays of arrays are not supported")),
    ("array of texts, one of 2^63", |g| g.array("x", 8, 1, &I63.to_le_bytes()), Check("a text of an array has 9223372036854775808 bytes")),
    ("value of type 2^32-1", |g| g.value("x", u32::MAX, &[]), Check("4294967295 is not a type of value")),
    ("alignment 0", |g| g.u32("general.alignment", 0), Check("0 is not a power of two from 32")),
    ("alignment 1", |g| g.u32("general.alignment", 1), Check("1 is not a power of two from 32")),
    ("alignment 8", |g| g.u32("general.alignment", 8), Check("8 is not a power of two from 32")),
    ("alignment 48", |g| g.u32("general.alignment", 48), Check("48 is not a power of two from 32")),
    ("alignment 2^30", |g| g.u32("general.alignment", 1 << 30), Check("1073741824 is not a power of two from 32")),
    ("alignment 2^31", |g| g.u32("general.alignment", I31), Check("2147483648 is not a power of two from 32")),
    ("alignment of 64 bits", |g| g.u64("general.alignment", 32), Check("it is not an unsigned number of 32 bits")),
    ("alignment that is signed", |g| g.i32("general.alignment", 32), Check("it is not an unsigned number of 32 bits")),
    ("alignment in words", |g| g.text("general.alignment", "32"), Check("\"general.alignment\" is wrong")),
    ("split", |g| g.value("split.count", 2, &[2, 0]).value("split.no", 2, &[0, 0]).i32("split.tensors.count", 9), Check("part 1 of a model in 2 parts")),
    ("split without a number", |g| g.value("split.count", 2, &[2, 0]), Check("\"split.no\" is wrong")),
    ("split.count 2^16-1", |g| g.value("split.count", 2, &[255; 2]), Check("at most 256 parts can be")),
    ("no architecture", |g| g.without("general.architecture"), Check("\"general.architecture\" is wrong")),
    ("an architecture of its own", |g| g.text("general.architecture", "x%s%n"), Check("is not a name")),
    ("an unknown architecture", |g| g.text("general.architecture", "llama9"), Llama("does not know models of the architecture 'llama9'")),
    ("a name of 1 MiB", |g| g.text("general.name", &"x".repeat(1 << 20)), Loads),
    ("a name with a line feed", |g| g.text("general.name", "a\nb\x1b[2J"), Loads),
];

#[rustfmt::skip]
const TENSORS: &[Row] = &[
    ("ne = [4, 2^30-1, 2^30+1, 1]", |g| g.shape("output_norm.weight", &[4, (1 << 30) - 1, (1 << 30) + 1, 1]), Check("\"output_norm.weight\" is wrong: ")),
    ("ne0 = SIZE_MAX/4 of F32", |g| g.shape("output_norm.weight", &[u64::MAX / 4]), Check("\"output_norm.weight\" is wrong: ")),
    ("ne = [2^63-1, 2, 1, 1] of I8", |g| g.shape("output_norm.weight", &[I63 - 1, 2, 1, 1]).kind("output_norm.weight", 24), Check("too many weights")),
    ("ne1 = 2^42+1", |g| g.shape("token_embd.weight", &[64, (1 << 42) + 1]), Check("it is said to begin at")),
    ("ne = [2^31, 2^31, 2^31, 2^31]", |g| g.shape("output_norm.weight", &[1 << 31; 4]), Check("too many weights")),
    ("a dimension of -1", |g| g.shape("output_norm.weight", &[u64::MAX]), Check("too many weights")),
    ("a dimension of 0", |g| g.shape("output_norm.weight", &[0]), Check("its dimension 0 is zero")),
    ("five dimensions", |g| g.shape("output_norm.weight", &[1; 5]), Check("it has 5 dimensions")),
    ("2^32-1 dimensions", |g| { g.tensor("output_norm.weight", |t| t.name = "x".into()).shape("x", &[1; 6]) }, Check("it has 6 dimensions")),
    ("sizes whose sum wraps", |g| g.tensor("a", |t| t.shape = vec![1 << 61]).tensor("b", |t| t.shape = vec![1 << 61]), Check("is wrong")),
    ("a size whose padding wraps", |g| g.tensor("a", |t| (t.shape, t.kind) = (vec![I63 - 1], 24)), Check("nothing is multiplied with weights of its type")),
    ("a tensor over another", |g| g.offset("blk.0.attn_q.weight", 0), Check("\"blk.0.attn_q.weight\" is wrong: it is said to begin at 0")),
    ("a tensor beyond the file", |g| g.offset("blk.0.ffn_down.weight", 1 << 40), Check("it is said to begin at 1099511627776")),
    ("a tensor at 2^64-32", |g| g.offset("blk.0.ffn_down.weight", u64::MAX - 31), Check("it is said to begin at 18446744073709551584")),
    ("a tensor at 1", |g| g.offset("blk.0.ffn_down.weight", 1), Check("it begins at 1, which is not a multiple of 32")),
    ("a last tensor larger than the file", |g| g.shape("blk.0.ffn_down.weight", &[64, 1 << 30]), Check("the file is cut")),
    ("type 4", |g| g.kind("output_norm.weight", 4), Check("is of type 4, a quantization that llama.cpp does not read")),
    ("type 43", |g| g.kind("output_norm.weight", 43), Check("is of type 43, a quantization that llama.cpp does not read")),
    ("type -1", |g| g.kind("output_norm.weight", u32::MAX), Check("its type 4294967295 is unknown")),
    ("type -2^31", |g| g.kind("output_norm.weight", I31), Check("its type 2147483648 is unknown")),
    ("rows that are not whole blocks", |g| g.shape("output_norm.weight", &[33]).kind("output_norm.weight", 8), Check("are not whole q8_0 blocks")),
    ("a tensor twice", |g| g.tensor("x", |t| t.name = "output_norm.weight".into()), Check("\"output_norm.weight\" is wrong: it is there twice")),
    ("a tensor without a name", |g| g.tensor("x", |t| t.name = String::new()), Check("a tensor's name is empty")),
    ("a tensor's name of 64 bytes", |g| g.tensor("x", |t| t.name = "x".repeat(64)), Check("a tensor's name has 64 bytes")),
    ("a norm of integers", |g| g.kind("output_norm.weight", 26), Check("nothing is multiplied with weights of its type")),
    ("a norm of integers in a layer", |g| g.kind("blk.0.attn_norm.weight", 26), Check("nothing is multiplied with weights of its type")),
    ("weights of integers", |g| g.kind("blk.0.attn_q.weight", 26), Check("nothing is multiplied with weights of its type")),
    ("embeddings of integers", |g| g.kind("token_embd.weight", 26), Check("nothing is multiplied with weights of its type")),
    ("an output of integers", |g| g.kind("output.weight", 26), Check("nothing is multiplied with weights of its type")),
    ("a norm of f16", |g| { g.tensor("output_norm.weight", |t| { t.kind = 1; t.data.truncate(128); }) }, Check("its values must be of type f32")),
    ("a norm of q8_0", |g| { g.tensor("output_norm.weight", |t| { t.kind = 8; t.data.truncate(68); }) }, Check("its values must be of type f32")),
    ("weights of f64", |g| { g.tensor("blk.0.attn_q.weight", |t| { t.kind = 28; t.data.resize(64 * 64 * 8, 0); }) }, Check("nothing is multiplied with weights of its type")),
    ("weights of q8_1", |g| { g.tensor("blk.0.attn_q.weight", |t| { t.kind = 9; t.data.resize(64 * 2 * 36, 0); }) }, Check("nothing is multiplied with weights of its type")),
    ("weights of q8_K", |g| { g.tensor("blk.0.attn_q.weight", |t| { t.kind = 15; t.shape = vec![256, 16]; t.data.resize(16 * 292, 0); }) }, Check("nothing is multiplied with weights of its type")),
    ("no norm", |g| g.without_tensor("output_norm.weight"), Llama("tensor 'output_norm.weight' not found")),
    ("one tensor too many", |g| g.tensor("blk.7.ffn_up.weight", |_| ()), Llama("wrong number of tensors")),
    ("a norm of another width", |g| { g.tensor("output_norm.weight", |t| { t.shape = vec![32]; t.data.truncate(128); }) }, Llama("wrong shape")),
];

#[rustfmt::skip]
const SHAPE: &[Row] = &[
    ("block_count 0", |g| g.u32("llama.block_count", 0), Check("\"llama.block_count\" is wrong: 0 is not from 1 to 512")),
    ("block_count 2^31", |g| g.u32("llama.block_count", I31), Check("2147483648 is not from 1 to 512")),
    ("block_count 513", |g| g.u32("llama.block_count", 513), Check("513 is not from 1 to 512")),
    ("block_count 512", |g| g.u32("llama.block_count", 512), Llama("tensor 'blk.1.attn_norm.weight' not found")),
    ("block_count of 64 bits", |g| g.u64("llama.block_count", 1), Check("it is not an unsigned number of 32 bits")),
    ("block_count -1", |g| g.i32("llama.block_count", -1), Check("it is not an unsigned number of 32 bits")),
    ("block_count in words", |g| g.text("llama.block_count", "1"), Check("it is not an unsigned number of 32 bits")),
    ("block_count an array", |g| g.u32s("llama.block_count", &[1]), Check("it is not an unsigned number of 32 bits")),
    ("no block_count", |g| g.without("llama.block_count"), Llama("key not found in model: llama.block_count")),
    ("no context_length", |g| g.without("llama.context_length"), Llama("key not found in model: llama.context_length")),
    ("no embedding_length", |g| g.without("llama.embedding_length"), Llama("key not found in model: llama.embedding_length")),
    ("context_length 0", |g| g.u32("llama.context_length", 0), Loads),
    ("context_length 2^31", |g| g.u32("llama.context_length", I31), Check("2147483648 is not from 0 to")),
    ("nextn_predict_layers above the layers", |g| g.u32("llama.nextn_predict_layers", 2), Check("more than there are layers")),
    ("nextn_predict_layers all layers", |g| g.u32("llama.nextn_predict_layers", 1), Llama("wrong number of tensors")),
    ("embedding_length 0", |g| g.u32("llama.embedding_length", 0), Check("0 is not from 1 to")),
    ("embedding_length 2^31", |g| g.u32("llama.embedding_length", I31), Check("2147483648 is not from 1 to")),
    ("embedding_length 2^63", |g| g.u64("llama.embedding_length", I63), Check("9223372036854775808 is not from 1 to")),
    ("embedding_length 65", |g| g.u32("llama.embedding_length", 65), Llama("wrong shape")),
    ("feed_forward_length 0", |g| g.u32("llama.feed_forward_length", 0), Llama("wrong shape")),
    ("feed_forward_length 2^31", |g| g.u32("llama.feed_forward_length", I31), Check("2147483648 is not from 0 to")),
    ("feed_forward_length 2^63", |g| g.u64("llama.feed_forward_length", I63), Check("9223372036854775808 is not from 0 to")),
    ("feed_forward_length of two layers", |g| g.u32s("llama.feed_forward_length", &[64, 64]), Check("it has 2 items for 1 layers")),
    ("head_count 0", |g| g.u32("llama.attention.head_count", 0), Llama("wrong shape")),
    ("head_count 0 that is divided by", |g| g.u32("llama.attention.head_count", 0).architecture("olmo2"), Check("\"olmo2.attention.head_count\" is wrong: there is no head")),
    ("no head_count that is divided by", |g| g.without("llama.attention.head_count").architecture("phimoe"), Check("\"phimoe.attention.head_count\" is wrong: there is no head")),
    ("head_count 3", |g| g.u32("llama.attention.head_count", 3), Check("it leaves each head 21 values, an odd number")),
    ("head_count 64", |g| g.u32("llama.attention.head_count", 64), Check("it leaves each head 1 values, an odd number")),
    ("head_count 2^31", |g| g.u32("llama.attention.head_count", I31), Check("2147483648 is not from 0 to")),
    ("head_count_kv 0", |g| g.u32("llama.attention.head_count_kv", 0), Llama("wrong shape")),
    ("head_count_kv 3", |g| g.u32("llama.attention.head_count_kv", 3), Llama("wrong shape")),
    ("head_count_kv 2^31", |g| g.u32("llama.attention.head_count_kv", I31), Check("2147483648 is not from 0 to")),
    ("head_count_kv 2^63", |g| g.u64("llama.attention.head_count_kv", I63), Check("9223372036854775808 is not from 0 to")),
    ("head_count_kv of 513 layers", |g| g.u32s("llama.attention.head_count_kv", &[2; 513]), Check("it has 513 items for 1 layers")),
    ("key_length 0", |g| g.u32("llama.attention.key_length", 0), Check("0 is not from 1 to")),
    ("key_length 2^63", |g| g.u64("llama.attention.key_length", I63), Check("9223372036854775808 is not from 1 to")),
    ("key_length 31", |g| g.u32("llama.attention.key_length", 31), Check("31 is an odd number")),
    ("value_length 2^63", |g| g.u64("llama.attention.value_length", I63), Check("9223372036854775808 is not from 1 to")),
    ("value_length 31", |g| g.u32("llama.attention.value_length", 31), Llama("wrong shape")),
    ("rope.dimension_count 31", |g| g.u32("llama.rope.dimension_count", 31), Check("31 is an odd number")),
    ("rope.dimension_count 2^31", |g| g.u32("llama.rope.dimension_count", I31), Check("2147483648 is not from 0 to")),
    ("rope.dimension_count 0", |g| g.u32("llama.rope.dimension_count", 0), Llama("invalid n_rot: 0, expected 32")),
    ("odd heads", |g| odd_heads(g), Check("31 is an odd number")),
    ("rope.freq_base NaN", |g| g.f32("llama.rope.freq_base", f32::NAN), Fails("the model's output is not a number")),
    ("rope.freq_base 0", |g| g.f32("llama.rope.freq_base", 0.0), Fails("the model's output is not a number")),
    ("rope.freq_base -1", |g| g.f32("llama.rope.freq_base", -1.0), Fails("the model's output is not a number")),
    ("rope.scaling.factor NaN", |g| g.f32("llama.rope.scaling.factor", f32::NAN), Fails("the model's output is not a number")),
    ("rope.scaling.type of nobody", |g| g.text("llama.rope.scaling.type", "spiral"), Check("it is not one of none, linear, yarn")),
    ("rope.scaling.type a number", |g| g.u32("llama.rope.scaling.type", 1), Llama("wrong type u32 but expected type str")),
    ("epsilon negative", |g| g.f32("llama.attention.layer_norm_rms_epsilon", -1.0), Check("-1 is not a small number")),
    ("epsilon NaN", |g| g.f32("llama.attention.layer_norm_rms_epsilon", f32::NAN), Check("NaN is not a small number")),
    ("epsilon infinite", |g| g.f32("llama.attention.layer_norm_rms_epsilon", f32::INFINITY), Check("inf is not a small number")),
    ("epsilon of 64 bits", |g| g.value("llama.attention.layer_norm_rms_epsilon", 12, &1e-5_f64.to_le_bytes()), Llama("wrong type f64 but expected type f32")),
    ("no epsilon", |g| g.without("llama.attention.layer_norm_rms_epsilon"), Llama("key not found in model: llama.attention.layer_norm_rms_epsilon")),
    ("experts without any used", |g| g.u32("llama.expert_count", 8), Check("no expert is used")),
    ("more experts used than there are", |g| g.u32("llama.expert_used_count", 2), Check("more than there are experts")),
    ("expert_count 2^31", |g| g.u32("llama.expert_count", I31), Check("2147483648 is not from 0 to 1024")),
    ("groups that do not divide the experts", |g| experts(g, 8, 2).u32("llama.expert_group_count", 3), Check("it does not divide the experts")),
    ("as many groups as experts", |g| experts(g, 8, 2).u32("llama.expert_group_count", 8), Check("as many as there are experts")),
    ("no group used", |g| experts(g, 8, 2).u32("llama.expert_group_count", 4), Check("it is none of the groups")),
    ("experts without weights", |g| experts(g, 8, 2), Llama("tensor 'blk.0.ffn_gate_inp.weight' not found")),
    ("vocab_size 2^31", |g| g.u32("llama.vocab_size", I31), Loads),
    ("sliding window 2^31", |g| g.u32("llama.attention.sliding_window", I31), Check("2147483648 is not from 0 to")),
    ("logit_scale NaN", |g| g.f32("llama.logit_scale", f32::NAN), Loads),
];

#[rustfmt::skip]
const VOCABULARY: &[Row] = &[
    ("no tokens", |g| g.without("tokenizer.ggml.tokens").without("tokenizer.ggml.scores").without("tokenizer.ggml.token_type"), Check("some of the 256 tokens for single bytes are missing")),
    ("no token at all", |g| g.texts::<&str>("tokenizer.ggml.tokens", &[]).array("tokenizer.ggml.scores", 6, 0, &[]).array("tokenizer.ggml.token_type", 5, 0, &[]), Check("some of the 256 tokens for single bytes are missing")),
    ("tokens that are numbers", |g| g.u32s("tokenizer.ggml.tokens", &[0; 261]), Check("it is not an array of texts")),
    ("a token of 100 MB", |g| g.token(260, &vec![b'x'; 100_000_000]), Check("a token's text has 100000000 bytes")),
    ("a token of 2^63 bytes", |g| g.patched("tokenizer.ggml.tokens", 12, &I63.to_le_bytes()), Check("a token's text has 9223372036854775808 bytes")),
    ("two tokens of one text", |g| g.token(260, b"Yes"), Check("two tokens have the same text")),
    ("two tokens that differ behind a NUL", |g| g.token(260, b"Yes\0x"), Check("two tokens have the same text")),
    ("two tokens of one text after all", |g| g.token(259, b"[EMPTY_260]").token(260, b""), Check("two tokens have the same text")),
    ("an empty token", |g| g.token(260, b""), Loads),
    ("a token that is not UTF-8", |g| g.token(260, b"\xff\xfe"), Loads),
    ("a byte token <0x-1>", |g| g.token(260, b"<0x-1>").patched("tokenizer.ggml.token_type", type_of(260), &[6, 0, 0, 0]), Check("token 260 is of a single byte, and its text is not")),
    ("a byte token <0xZZ>", |g| g.token(260, b"<0xZZ>").patched("tokenizer.ggml.token_type", type_of(260), &[6, 0, 0, 0]), Check("token 260 is of a single byte, and its text is not")),
    ("a byte token x", |g| g.token(260, b"x").patched("tokenizer.ggml.token_type", type_of(260), &[6, 0, 0, 0]), Check("token 260 is of a single byte, and its text is not")),
    ("all tokens bytes", |g| g.array("tokenizer.ggml.token_type", 5, 261, &[6, 0, 0, 0].repeat(261)), Check("token 0 is of a single byte, and its text is not")),
    ("all tokens control", |g| g.array("tokenizer.ggml.token_type", 5, 261, &[3, 0, 0, 0].repeat(261)), Fails("the model ended its answer without saying anything")),
    ("SPM without byte tokens", |g| g.token(3, b"x"), Check("token 3 is of a single byte, and its text is not")),
    ("SPM without byte tokens or types", |g| g.token(3, b"x").without("tokenizer.ggml.token_type"), Check("some of the 256 tokens for single bytes are missing")),
    ("bert without bytes", |g| g.text("tokenizer.ggml.model", "bert").without("tokenizer.ggml.token_type"), Loads),
    ("rwkv without bytes", |g| g.text("tokenizer.ggml.model", "rwkv").without("tokenizer.ggml.token_type"), Check("some of the 256 tokens for single bytes are missing")),
    ("types of another number", |g| g.array("tokenizer.ggml.token_type", 5, 3, &[0; 12]), Check("it has 3 items for 261 tokens")),
    ("types that are floats", |g| g.array("tokenizer.ggml.token_type", 6, 261, &[0; 4 * 261]), Check("its items are not 32-bit integers")),
    ("types that are bytes", |g| g.array("tokenizer.ggml.token_type", 0, 261, &[0; 261]), Check("its items are not 32-bit integers")),
    ("types of none", |g| g.array("tokenizer.ggml.token_type", 5, 261, &[0xff; 4 * 261]), Fails("the model ended its answer without saying anything")),
    ("scores of another number", |g| g.array("tokenizer.ggml.scores", 6, 300, &[0; 1200]), Check("it has 300 items for 261 tokens")),
    ("scores that are bytes", |g| g.array("tokenizer.ggml.scores", 0, 261, &[0; 261]), Check("its items are not 32-bit floats")),
    ("scores that are doubles", |g| g.array("tokenizer.ggml.scores", 12, 261, &[0; 8 * 261]), Check("its items are not 32-bit floats")),
    ("scores that are unsigned", |g| g.array("tokenizer.ggml.scores", 4, 261, &[0; 4 * 261]), Check("its items are not 32-bit floats")),
    ("scores that are NaN", |g| g.array("tokenizer.ggml.scores", 6, 261, &[0xff; 4 * 261]), Loads),
    ("scores in words", |g| g.text("tokenizer.ggml.scores", "x"), Check("it is not an array")),
    ("merges that are numbers", |g| g.u32s("tokenizer.ggml.merges", &[1]), Check("it is not an array of texts")),
    ("bos out of range", |g| g.u32("tokenizer.ggml.bos_token_id", 1 << 20), Loads),
    ("eos 2^32-1", |g| g.u32("tokenizer.ggml.eos_token_id", u32::MAX), Loads),
    ("eos 2^31", |g| g.u32("tokenizer.ggml.eos_token_id", I31), Loads),
    ("eos of 64 bits", |g| g.u64("tokenizer.ggml.eos_token_id", I63), Llama("eos_token_id has wrong type u64")),
    ("eos -1", |g| g.i32("tokenizer.ggml.eos_token_id", -1), Llama("eos_token_id has wrong type i32")),
    ("unknown out of range", |g| g.u32("tokenizer.ggml.unknown_token_id", 261), Loads),
    ("padding out of range", |g| g.u32("tokenizer.ggml.padding_token_id", I31), Loads),
    ("no special ids", |g| g.without("tokenizer.ggml.bos_token_id").without("tokenizer.ggml.eos_token_id"), Loads),
    ("gpt2 without merges", |g| g.text("tokenizer.ggml.model", "gpt2"), Llama("cannot find tokenizer merges")),
    ("gpt2", |g| g.text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.merges", &["a b", "", " ", "  ", "a", "\0 \0"]), Fails("the model's vocabulary has no token for a part of this text")),
    ("gpt2 of an unknown kind", |g| g.text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.merges", &["a b"]).text("tokenizer.ggml.pre", "nobody"), Llama("unknown pre-tokenizer type: 'nobody'")),
    ("bert", |g| g.text("tokenizer.ggml.model", "bert"), Check("token 3 is of a single byte, which bert has not")),
    ("bert of a tiny vocabulary", |g| few_tokens(g).text("tokenizer.ggml.model", "bert"), Fails("the model's vocabulary has no token for a part of this text")),
    ("t5", |g| g.text("tokenizer.ggml.model", "t5"), Loads),
    ("t5 with a broken map", |g| { g.text("tokenizer.ggml.model", "t5").array("tokenizer.ggml.precompiled_charsmap", 0, 8, &[255; 8], ) }, Llama("precompiled charsmap")),
    ("t5 with a map of nothing", |g| g.text("tokenizer.ggml.model", "t5").array("tokenizer.ggml.precompiled_charsmap", 0, 12, &[4, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]), Llama("Index out of array bounds in XCDA array")),
    ("rwkv", |g| g.text("tokenizer.ggml.model", "rwkv"), Check("token 3 is of a single byte, which rwkv has not")),
    ("plamo2", |g| g.text("tokenizer.ggml.model", "plamo2"), Loads),
    ("plamo2 with <0x-1>", |g| g.text("tokenizer.ggml.model", "plamo2").token(260, b"<0x-1>").patched("tokenizer.ggml.token_type", type_of(260), &[6, 0, 0, 0]), Check("token 260 is of a single byte, and its text is not")),
    ("plamo2 without bytes", |g| g.text("tokenizer.ggml.model", "plamo2").token(3, b"x"), Check("token 3 is of a single byte, and its text is not")),
    ("gemma4", |g| g.text("tokenizer.ggml.model", "gemma4").texts("tokenizer.ggml.merges", &["a b"]), Loads),
    ("tokenizer none", |g| g.text("tokenizer.ggml.model", "none"), Check("it names no tokenizer")),
    ("tokenizer no_vocab", |g| g.text("tokenizer.ggml.model", "no_vocab"), Check("it names no tokenizer")),
    ("tokenizer test", |g| g.text("tokenizer.ggml.model", "test"), Check("it names no tokenizer")),
    ("tokenizer of nobody", |g| g.text("tokenizer.ggml.model", "nobody"), Llama("unknown tokenizer: 'nobody'")),
    ("tokenizer a number", |g| g.u32("tokenizer.ggml.model", 1), Llama("wrong type u32 but expected type str")),
    ("no tokenizer", |g| g.without("tokenizer.ggml.model"), Llama("key not found in model: tokenizer.ggml.model")),
    ("token_type_count 2^31", |g| g.u32("tokenizer.ggml.token_type_count", I31), Loads),
    ("suppressed tokens out of range", |g| g.array("tokenizer.ggml.suppress_tokens", 5, 2, &[0xff; 8]), Loads),
    ("suppressed tokens of 64 bits", |g| g.array("tokenizer.ggml.suppress_tokens", 11, 1, &[0; 8]), Llama("invalid gguf type for tokenizer.ggml.suppress_tokens")),
];

#[rustfmt::skip]
const TEMPLATES: &[Row] = &[
    ("a template of 2 MiB", |g| g.text("tokenizer.chat_template", &"x".repeat(2 << 20)), Check("a metadata value has 2097152 bytes")),
    ("a template that is not text", |g| g.value("tokenizer.chat_template", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]), Check("its text is not UTF-8")),
    ("a template that is a number", |g| g.u32("tokenizer.chat_template", 1), Warns("the model's own is a number, not text")),
    ("an empty template", |g| g.text("tokenizer.chat_template", ""), Warns("the model's own is empty")),
    ("a template that loops", |g| g.text("tokenizer.chat_template", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"), Warns("it runs without end")),
    ("a template of lists in a loop", |g| g.text("tokenizer.chat_template", "{% for i in range(100000) %}{% set x = range(100000)|list %}{% endfor %}"), Warns("it runs without end")),
    ("a template that adds lists", |g| g.text("tokenizer.chat_template", "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}"), Warns("it needs more than 16 MiB")),
    ("a template that doubles a text", |g| g.text("tokenizer.chat_template", "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}"), Warns("it needs more than 16 MiB")),
    ("a template that replaces", |g| g.text("tokenizer.chat_template", "{% set ns = namespace(a='xx') %}{% for i in range(60) %}{% set ns.a = ns.a|replace('x', 'xx') %}{% endfor %}"), Warns("it needs more than 16 MiB")),
    ("a template that joins", |g| g.text("tokenizer.chat_template", "{{ range(100000)|join('x' * 100000) }}"), Warns("it needs more than 16 MiB")),
    ("a template that indents", |g| g.text("tokenizer.chat_template", "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = (ns.a ~ '\\n' ~ ns.a)|indent(100) %}{% endfor %}"), Warns("it needs more than 16 MiB")),
    ("a template with a wide format", |g| g.text("tokenizer.chat_template", "{{ '%999999999d'|format(1) }}"), Warns("it needs more than 16 MiB")),
    ("a template that compares nests", |g| g.text("tokenizer.chat_template", "{% set ns = namespace(a=[], b=[]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}"), Warns("it runs without end")),
    ("a template that writes nests", |g| g.text("tokenizer.chat_template", "{% set ns = namespace(a=[]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a|tojson }}"), Warns("it needs more than 16 MiB")),
    ("a template that nests", |g| g.text("tokenizer.chat_template", "{% set ns = namespace(a=[]) %}{% for i in range(50000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}"), Warns("values nested too deeply")),
    ("a template that calls itself", |g| g.text("tokenizer.chat_template", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), Warns("recursion goes too deep")),
    ("a template of 100,000 nots", |g| g.text("tokenizer.chat_template", &format!("{{{{ {}1 }}}}", "not ".repeat(100_000))), Warns("nested too deeply")),
    ("a template of 100,000 minuses", |g| g.text("tokenizer.chat_template", &format!("{{{{ {}1 }}}}", "-".repeat(100_000))), Warns("nested too deeply")),
    ("a template of 100,000 filters", |g| g.text("tokenizer.chat_template", &format!("{{{{ 1{} }}}}", "|upper".repeat(100_000))), Warns("nested too deeply")),
    ("a template of 100,000 members", |g| g.text("tokenizer.chat_template", &format!("{{{{ a{} }}}}", ".b".repeat(100_000))), Warns("nested too deeply")),
    ("a template of 100,000 sums", |g| g.text("tokenizer.chat_template", &format!("{{{{ 1{} }}}}", "+1".repeat(100_000))), Warns("nested too deeply")),
    ("a template of 100,000 powers", |g| g.text("tokenizer.chat_template", &format!("{{{{ 1{} }}}}", "**1".repeat(100_000))), Warns("nested too deeply")),
    ("a template of 100,000 brackets", |g| g.text("tokenizer.chat_template", &format!("{{{{ {}1 }}}}", "(".repeat(100_000))), Warns("nested too deeply")),
    ("a template of 100,000 choices", |g| g.text("tokenizer.chat_template", &format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(80_000))), Warns("nested too deeply")),
];

/// A model with `count` experts, `used` of them at a time.
fn experts(file: GgufFile, count: u32, used: u32) -> GgufFile {
    let file = file.u32("llama.expert_count", count);
    file.u32("llama.expert_used_count", used)
}

/// Heads of 31 values each, with weights to match.
fn odd_heads(file: GgufFile) -> GgufFile {
    let file = file.u32("llama.attention.key_length", 31);
    let file = file.u32("llama.rope.dimension_count", 31);
    let narrow = |file: GgufFile, name: &str| {
        file.tensor(name, |tensor| {
            tensor.shape = vec![64, 62];
            tensor.data.truncate(64 * 62 * 4);
        })
    };
    narrow(narrow(file, "blk.0.attn_q.weight"), "blk.0.attn_k.weight")
}

/// A vocabulary of two tokens, with weights to match.
fn few_tokens(file: GgufFile) -> GgufFile {
    let file = file.texts("tokenizer.ggml.tokens", &["a", "b"]);
    let file = file.array("tokenizer.ggml.scores", 6, 2, &[0; 8]);
    let file = file.array("tokenizer.ggml.token_type", 5, 2, &[1, 0, 0, 0, 1, 0, 0, 0]);
    let few = |file: GgufFile, name: &str| {
        file.tensor(name, |tensor| {
            tensor.shape = vec![64, 2];
            tensor.data.truncate(64 * 2 * 4);
        })
    };
    few(few(file, "token_embd.weight"), "output.weight")
}

/// What no line may say: of a debugger, of a bug of ours, of a cause that is not the
/// cause.
const NOT_THE_CAUSE: [&str; 8] = [
    "gdb",
    "BACKTRACE",
    "panicked",
    "GGML_",
    "killed by",
    "ended with status",
    "in a row",
    "memory ran out",
];

/// The codes of what is refused before llama.cpp sees it.
const CHECKED: [&str; 3] = ["[ZE-10]", "[ZE-11]", "[ZE-12]"];

/// What is wrong with what became of a model, if anything.
fn fault(disks: &Disks, (name, change, told): &Row) -> Option<String> {
    let file = change(TinyModel::saying(&["Yes", "."]).gguf());
    fault_of(disks, name, &file, *told)
}

fn fault_of(disks: &Disks, name: &str, file: &GgufFile, told: Told) -> Option<String> {
    let disk = disks.holding("hostile.gguf", &file.bytes());
    let arguments = [
        "-p",
        "Hi",
        "--max-tokens",
        "4",
        "--temp",
        "0",
        "--threads",
        "1",
    ]
    .map(OsStr::new);
    let done = run_plain(arguments.into_iter().chain([disk.as_os_str()]), LOAD);
    let said = String::from_utf8_lossy(&done.stderr);
    let shown = format!("{name}: status {:?}, said {said}", done.status.code());
    let (status, words) = match told {
        Llama(words) => (1, [words, "llama.cpp"]),
        Check(words) | Fails(words) => (1, [words, ""]),
        Warns(words) => (0, [words, ""]),
        Loads => (0, ["", ""]),
    };
    let right = done.status.code() == Some(status)
        && words.iter().all(|words| said.contains(words))
        && (!matches!(told, Check(_)) || CHECKED.iter().any(|code| said.contains(code)))
        && said.lines().count() == usize::from(!matches!(told, Loads))
        && NOT_THE_CAUSE.iter().all(|words| !said.contains(words));
    (!right).then_some(shown)
}

fn each_is_refused_or_harmless(what: &str, rows: &[Row]) {
    let tried = Fault::begins(8, format!("{} models of a hostile {what}", rows.len()));
    let disks = Disks::new();
    let faults: Vec<String> = rows.iter().filter_map(|row| fault(&disks, row)).collect();
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        rows.len(),
        faults.join("\n")
    );
    tried.is_harmless("each is refused with its reason before llama.cpp sees it, or answers");
}

#[test]
fn hostile_formats_are_refused_or_harmless() {
    each_is_refused_or_harmless("format", FORMAT);
}

#[test]
fn hostile_tensors_are_refused_or_harmless() {
    each_is_refused_or_harmless("table of tensors", TENSORS);
}

#[test]
fn hostile_shapes_are_refused_or_harmless() {
    each_is_refused_or_harmless("shape", SHAPE);
}

#[test]
fn hostile_vocabularies_are_refused_or_harmless() {
    each_is_refused_or_harmless("vocabulary", VOCABULARY);
}

#[test]
fn hostile_templates_are_refused_or_harmless() {
    each_is_refused_or_harmless("template", TEMPLATES);
}

/// ggml's types of weights: number, weights a block, bytes a block, whether something
/// is multiplied with them.
const KINDS: [(u32, usize, usize, bool); 35] = [
    (0, 1, 4, true),
    (1, 1, 2, true),
    (2, 32, 18, true),
    (3, 32, 20, true),
    (6, 32, 22, true),
    (7, 32, 24, true),
    (8, 32, 34, true),
    (9, 32, 36, false),
    (10, 256, 84, true),
    (11, 256, 110, true),
    (12, 256, 144, true),
    (13, 256, 176, true),
    (14, 256, 210, true),
    (15, 256, 292, false),
    (16, 256, 66, true),
    (17, 256, 74, true),
    (18, 256, 98, true),
    (19, 256, 50, true),
    (20, 32, 18, true),
    (21, 256, 110, true),
    (22, 256, 82, true),
    (23, 256, 136, true),
    (24, 1, 1, false),
    (25, 1, 2, false),
    (26, 1, 4, false),
    (27, 1, 8, false),
    (28, 1, 8, false),
    (29, 256, 56, true),
    (30, 1, 2, true),
    (34, 256, 54, true),
    (35, 256, 66, true),
    (39, 32, 17, true),
    (40, 64, 36, true),
    (41, 128, 18, true),
    (42, 64, 18, true),
];

#[test]
fn weights_of_every_type_are_refused_or_harmless() {
    let pieces: Vec<String> = (0..200).map(|piece| format!("{piece} ")).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let model = TinyModel::saying(&pieces).gguf();
    let disks = Disks::new();
    let mut faults = Vec::new();
    for (kind, block, bytes, multiplied) in KINDS {
        for name in ["blk.0.attn_q.weight", "token_embd.weight"] {
            let file = model.clone().tensor(name, |tensor| {
                tensor.data = vec![0; tensor.data.len() / 4 / block * bytes];
                tensor.kind = kind;
            });
            let told = match (multiplied, name) {
                (false, _) => Check("nothing is multiplied with weights of its type"),
                (true, "blk.0.attn_q.weight") => Loads,
                // Without a direction for each token none is likelier than another.
                (true, _) => Fails("cut at max_tokens before anything of it could be seen"),
            };
            faults.extend(fault_of(
                &disks,
                &format!("{name} of type {kind}"),
                &file,
                told,
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Grammars on which llama.cpp's parser would run out of its stack, or of time.
#[test]
fn grammars_without_bottom_are_refused() {
    let (open, close) = ("(".repeat(60_000), ")".repeat(60_000));
    let chain: Vec<String> = (0..40_000)
        .map(|rule| format!("r{rule} ::= r{}", rule + 1))
        .collect();
    let chain = chain.join("\n");
    let model = TinyModel::saying(&["a", "b"]).file();
    for (grammar, words) in [
        (
            format!("root ::= {open}\"a\"{close}"),
            "more than 1000 groups in each other",
        ),
        (
            format!("root ::= r0\n{chain}\nr40000 ::= \"a\"\n"),
            "more than 4000 rules",
        ),
        // Each may be followed by any behind it: minutes for a token.
        (
            format!("root ::= {}", "\"a\"? ".repeat(4001)),
            "more than 4000 rules",
        ),
        ("root ::= root \"a\" | \"b\"".to_owned(), "refuses it"),
        // Nothing, as often as one likes, is no endless loop.
        ("root ::= (\"a\"* )*".to_owned(), ""),
    ] {
        let disks = Disks::new();
        let disk = disks.holding("model.gguf", &model);
        let _ = disks.holding("it.gbnf", grammar.as_bytes());
        let arguments = ["-p", "Hi", "--grammar", "it"].map(OsStr::new);
        let done = run_plain(arguments.into_iter().chain([disk.as_os_str()]), LOAD);
        let said = String::from_utf8_lossy(&done.stderr);
        let refused = !words.is_empty();
        assert_eq!(done.status.code(), Some(i32::from(refused)), "{said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(said.contains("[ZE-17]"), refused, "{said}");
        assert_eq!(said.lines().count(), usize::from(refused), "{said}");
    }
}
