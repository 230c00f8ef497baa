//! How much of what is typed and pasted is taken.

/// Bytes that the prompt may hold, all together at most the sum of these and
/// the copies of a line that painting needs. The defaults are for a machine of
/// a gibibyte or more. What is refused is said, with its size and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One paste.
    pub paste_bytes: usize,
    /// The text in the line.
    pub text_bytes: usize,
    /// What can be taken back, and edited lines that were left for others. The
    /// oldest is forgotten.
    pub undo_bytes: usize,
    /// What was cut and can be put back. The oldest is forgotten.
    pub kill_bytes: usize,
    /// Earlier lines. The oldest is forgotten.
    pub history_bytes: usize,
    /// What is typed while the prompt is closed.
    pub waiting_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            paste_bytes: 8 << 20,
            text_bytes: 16 << 20,
            undo_bytes: 32 << 20,
            kill_bytes: 8 << 20,
            history_bytes: 16 << 20,
            waiting_bytes: 16 << 20,
        }
    }
}
