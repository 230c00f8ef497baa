//! Why a file is refused: each message is one line with cause, place and remedy.

use std::io;

/// Why a GGUF header is refused.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// Another magic.
    #[error(
        "this is not a GGUF file: it begins with \"{found}\", not with \"GGUF\"; \
         give the .gguf file of a model [ZE-10]"
    )]
    NotGguf {
        /// The first bytes, escaped.
        found: String,
    },
    /// Made for big-endian machines.
    #[error(
        "this GGUF file is big-endian and this machine is little-endian; \
         use the little-endian file of the model [ZE-10]"
    )]
    BigEndian,
    /// A version that llama.cpp does not read.
    #[error(
        "this GGUF file has version {version}; zosia reads versions 2 and 3: {} [ZE-10]",
        if *version < 2 {
            "convert the model again"
        } else {
            "the file is damaged or needs a newer zosia"
        }
    )]
    Version {
        /// The version in the file.
        version: u32,
    },
    /// One of several files.
    #[error(
        "this is part {number} of a model in {count} parts, all of which are needed: {} [ZE-10]",
        if *number == 1 {
            "keep them in one folder under names that end in -0000N-of-0000M.gguf, or attach them all as disks"
        } else {
            "give the first part"
        }
    )]
    Split {
        /// Which part, from 1.
        number: u64,
        /// How many parts there are.
        count: u64,
    },
    /// It is not the part that its name or its place says.
    #[error(
        "this should be part {wanted} of {count} and is {found}; \
         download the parts of one model again [ZE-10]"
    )]
    Foreign {
        /// Which part it should be, from 1.
        wanted: u64,
        /// How many parts there are.
        count: u64,
        /// What it is.
        found: String,
    },
    /// Valid GGUF with something else in it.
    #[error("this GGUF file is {what}; give the .gguf file of a chat model [ZE-10]")]
    NoChatModel {
        /// What it is.
        what: &'static str,
    },
    /// Weights are missing at the end.
    #[error(
        "the file is cut: {there} of {promised} bytes are there; download or copy it again [ZE-11]"
    )]
    Cut {
        /// The length that the header gives.
        promised: u64,
        /// The length there is.
        there: u64,
    },
    /// The file ends within the header.
    #[error(
        "the file is cut inside its header: it ends at byte {there}, within {what} at byte {at}; \
         download or copy it again [ZE-11]"
    )]
    CutHeader {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// The length there is.
        there: u64,
    },
    /// A value that cannot be.
    #[error(
        "the header is damaged at byte {at}: {problem}; download or copy the file again [ZE-12]"
    )]
    Damaged {
        /// Where in the file.
        at: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A metadata key with a value that cannot be used.
    #[error(
        "the header's key {key:?} is wrong: {problem}; download or convert the model again [ZE-12]"
    )]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor with a description that cannot be used.
    #[error("tensor {tensor:?} is wrong: {problem}; download or convert the model again [ZE-12]")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Weights of a type that llama.cpp does not read.
    #[error(
        "tensor {tensor:?} is of type {kind}, a quantization that llama.cpp does not read, \
         or no longer; use another one of the model, such as Q4_K_M [ZE-10]"
    )]
    Quantization {
        /// The tensor's name.
        tensor: String,
        /// ggml's number of its type.
        kind: u32,
    },
    /// The disk failed.
    #[error("reading the header failed at byte {at}; check the disk that holds the model [ZE-23]")]
    Read {
        /// Where in the file.
        at: u64,
        /// The system's error.
        source: io::Error,
    },
}

/// Which of a model's files is refused, and why.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct PartError {
    /// Which, from 0.
    pub index: usize,
    /// Why.
    pub source: GgufError,
}
