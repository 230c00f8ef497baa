//! How much of what is typed and pasted is taken.

/// Bytes that the edit line may hold. What is more is refused, and said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One paste.
    pub paste_bytes: usize,
    /// The text in the line.
    pub text_bytes: usize,
    /// What can be taken back. The oldest is forgotten.
    pub undo_bytes: usize,
    /// What is typed while the prompt is closed.
    pub waiting_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            paste_bytes: 8 << 20,
            text_bytes: 16 << 20,
            undo_bytes: 32 << 20,
            waiting_bytes: 16 << 20,
        }
    }
}
