//! Pieces of an evaluated context, as the engine gives them away and takes them back.
//! Whoever keeps them knows nothing of what is in them: a piece is bytes under a key.

use serde::{Deserialize, Serialize};

/// What a piece is kept under: the SHA-256 of everything that its bytes depend on, which
/// is the model, how it runs, and all tokens up to the piece's end. A piece that is kept
/// under another key is never asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PieceKey(pub [u8; 32]);

/// A piece that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceInfo {
    /// What it is kept under.
    pub key: PieceKey,
    /// Its length.
    pub bytes: u64,
    /// Tokens that need not be evaluated where it is.
    pub tokens: u32,
}

/// A piece, or that there is none under its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// What it is kept under.
    pub key: PieceKey,
    /// Its content; `None`: it is not, or no longer, there.
    #[serde(with = "serde_bytes")]
    pub bytes: Option<Vec<u8>>,
}
