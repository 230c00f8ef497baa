//! GGUF files in the making, whole and not.

use super::super::*;

/// A GGUF file in the making.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) version: u32,
    pub(super) key_count: u64,
    pub(super) keys: Vec<u8>,
    pub(super) tensor_count: u64,
    pub(super) tensors: Vec<u8>,
    pub(super) alignment: usize,
    pub(super) data_bytes: usize,
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Writer {
    pub(super) fn empty() -> Self {
        Self {
            version: 3,
            key_count: 0,
            keys: Vec::new(),
            tensor_count: 0,
            tensors: Vec::new(),
            alignment: 32,
            data_bytes: 0,
        }
    }

    pub(super) fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.key_count += 1;
        self.keys.extend(text(key));
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self
    }

    pub(super) fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, 4, &value.to_le_bytes())
    }

    pub(super) fn text(self, key: &str, value: &str) -> Self {
        self.key(key, 8, &text(value))
    }

    pub(super) fn array(self, key: &str, kind: u32, count: u64, items: &[u8]) -> Self {
        let head = [&kind.to_le_bytes()[..], &count.to_le_bytes(), items].concat();
        self.key(key, 9, &head)
    }

    /// Adds a tensor and as many bytes of data.
    pub(super) fn tensor(mut self, name: &str, dims: &[u64], kind: u32, bytes: usize) -> Self {
        let offset = self.data_bytes.next_multiple_of(self.alignment);
        self.data_bytes = offset + bytes;
        self.tensor_at(name, dims, kind, offset as u64)
    }

    pub(super) fn tensor_at(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        self.tensor_count += 1;
        self.tensors.extend(text(name));
        self.tensors
            .extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        for dim in dims {
            self.tensors.extend(dim.to_le_bytes());
        }
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self
    }

    pub(super) fn header(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.key_count.to_le_bytes());
        bytes.extend(&self.keys);
        bytes.extend(&self.tensors);
        bytes
    }

    pub(super) fn file(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let data_offset = bytes.len().next_multiple_of(self.alignment);
        bytes.resize(data_offset + self.data_bytes, 0);
        bytes
    }
}

/// Two layers, the second without attention.
pub(super) fn small() -> Writer {
    small_without_template().text("tokenizer.chat_template", "{{ messages }}")
}

pub(super) fn small_without_template() -> Writer {
    Writer::empty()
        .text("general.architecture", "toy")
        .text("general.name", "A \x1b[31mtoy")
        .u32("general.file_type", 15)
        .u32("toy.block_count", 2)
        .u32("toy.context_length", 4096)
        .u32("toy.embedding_length", 64)
        .array("toy.attention.head_count", 4, 2, &[4, 0, 0, 0, 4, 0, 0, 0])
        .array(
            "toy.attention.head_count_kv",
            5,
            2,
            &[2, 0, 0, 0, 0, 0, 0, 0],
        )
        .key("toy.rope.freq_base", 6, &1e4_f32.to_le_bytes())
        .array(
            "tokenizer.ggml.tokens",
            8,
            3,
            &[text("a"), text("bc"), text("")].concat(),
        )
        .array("tokenizer.ggml.scores", 6, 3, &[0; 12])
        .array("tokenizer.ggml.token_type", 5, 3, &[0; 12])
        .tensor("token_embd.weight", &[256, 3], 12, 3 * 144)
        .tensor("blk.0.attn_q.weight", &[64, 2], 8, 2 * 2 * 34)
        .tensor("output_norm.weight", &[7], 0, 28)
}

pub(super) fn check_bytes(bytes: &[u8]) -> Result<Header, GgufError> {
    check(bytes, bytes.len() as u64)
}

pub(super) fn refused(writer: &Writer) -> String {
    check_bytes(&writer.file()).unwrap_err().to_string()
}
