//! How large the terminal is. A serial line knows no size, so the terminal is
//! asked: put the cursor far beyond the corner, report where it came to stand,
//! put it back. Nobody has to answer.

/// Saves the cursor, goes to the corner, asks, and goes back.
pub(crate) const QUERY: &[u8] = b"\x1b7\x1b[999;999H\x1b[6n\x1b8";

/// Columns and rows of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Size {
    /// What a terminal that does not say is taken for.
    pub const FALLBACK: Size = Size {
        columns: 80,
        rows: 24,
    };
    const LEAST: Size = Size {
        columns: 16,
        rows: 2,
    };
    const MOST: Size = Size {
        columns: 1000,
        rows: 1000,
    };

    /// The size nearest to the one given that can be worked with.
    #[must_use]
    pub fn clamped(self) -> Size {
        Size {
            columns: self.columns.clamp(Self::LEAST.columns, Self::MOST.columns),
            rows: self.rows.clamp(Self::LEAST.rows, Self::MOST.rows),
        }
    }
}

/// The question, asked at each prompt.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct SizeQuery {
    fixed: bool,
    asked: u32,
}

impl SizeQuery {
    /// One that never asks, for a size that was given.
    pub(crate) fn fixed() -> Self {
        SizeQuery {
            fixed: true,
            asked: 0,
        }
    }

    /// The bytes to send, if any.
    pub(crate) fn ask(&mut self) -> &'static [u8] {
        if self.fixed {
            return b"";
        }
        self.asked = self.asked.saturating_add(1);
        QUERY
    }

    /// Takes a cursor report: the size, if the report is an answer. Zero is
    /// what a terminal without a size says.
    pub(crate) fn answer(&mut self, row: u16, column: u16) -> Option<Size> {
        self.asked = self.asked.checked_sub(1)?;
        let known = row > 1 && column > 1;
        known.then(|| {
            Size {
                columns: column,
                rows: row,
            }
            .clamped()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_sets_the_size() {
        let mut query = SizeQuery::default();
        assert_eq!(query.answer(50, 132), None);
        assert_eq!(query.ask(), QUERY);
        let size = Size {
            columns: 132,
            rows: 50,
        };
        assert_eq!(query.answer(50, 132), Some(size));
        assert_eq!(query.answer(50, 132), None);
        query.ask();
        assert_eq!(query.answer(1, 1), None);
        assert_eq!(SizeQuery::fixed().ask(), b"");
    }
}
