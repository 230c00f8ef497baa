//! Space for contexts: the blocks that follow some records.

use serde::{Deserialize, Serialize};

use crate::BLOCK_BYTES;

/// Adjoining blocks, counted from the beginning of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// The first.
    pub(crate) block: u64,
    /// How many.
    pub(crate) blocks: u64,
}

impl Extent {
    pub(crate) fn end(&self) -> u64 {
        self.block.saturating_add(self.blocks)
    }

    /// Where it begins, in bytes.
    pub(crate) fn at(&self) -> u64 {
        self.block.saturating_mul(BLOCK_BYTES)
    }

    /// How long it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(BLOCK_BYTES)
    }
}

/// What of `all`, which is in order, is not in `used`.
pub(crate) fn without(all: &[Extent], used: impl Iterator<Item = Extent>) -> Vec<Extent> {
    let mut used: Vec<_> = used.filter(|extent| extent.blocks > 0).collect();
    used.sort_unstable();
    let mut used = used.into_iter().peekable();
    let mut free = Vec::new();
    let mut from = 0;
    for region in all {
        from = region.block.max(from);
        while let Some(taken) = used.next_if(|taken| taken.block < region.end()) {
            push(&mut free, from, taken.block);
            from = from.max(taken.end());
        }
        push(&mut free, from, region.end());
    }
    free
}

fn push(out: &mut Vec<Extent>, from: u64, to: u64) {
    if let Some(blocks @ 1..) = to.checked_sub(from) {
        out.push(Extent {
            block: from,
            blocks,
        });
    }
}

/// Takes up to `blocks` from the front of `free`: what is taken, and how many are not
/// there.
pub(crate) fn take(free: &[Extent], blocks: u64) -> (Vec<Extent>, u64) {
    let mut missing = blocks;
    let mut taken = Vec::new();
    for extent in free {
        let blocks = extent.blocks.min(missing);
        if blocks > 0 {
            taken.push(Extent { blocks, ..*extent });
            missing = missing.saturating_sub(blocks);
        }
    }
    (taken, missing)
}

/// How many blocks these are.
pub(crate) fn blocks(extents: &[Extent]) -> u64 {
    extents
        .iter()
        .fold(0, |sum, extent| sum.saturating_add(extent.blocks))
}

/// The parts of `extents` that bytes `from..from + length` of their contents lie in:
/// where on the disk, and how long each is.
pub(crate) fn parts(extents: &[Extent], mut from: u64, mut length: u64) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    for extent in extents {
        match extent.bytes().checked_sub(from) {
            Some(there @ 1..) => {
                let count = there.min(length);
                if count > 0 {
                    parts.push((extent.at().saturating_add(from), count));
                }
                length = length.saturating_sub(count);
                from = 0;
            }
            _ => from = from.saturating_sub(extent.bytes()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(block: u64, blocks: u64) -> Extent {
        Extent { block, blocks }
    }

    #[test]
    fn what_is_free_is_what_nobody_uses() {
        let all = [extent(10, 10), extent(30, 10)];
        // One is nowhere, and two overlap.
        let used = [
            extent(15, 2),
            extent(35, 10),
            extent(12, 1),
            extent(12, 2),
            extent(3, 2),
        ];
        let free = without(&all, used.into_iter());
        let expected = [extent(10, 2), extent(14, 1), extent(17, 3), extent(30, 5)];
        assert_eq!(free, expected);
        assert_eq!(blocks(&free), 11);
        let (taken, missing) = take(&free, 4);
        assert_eq!(taken, [extent(10, 2), extent(14, 1), extent(17, 1)]);
        assert_eq!(missing, 0);
        assert_eq!(take(&free, 12).1, 1);
    }

    #[test]
    fn contents_run_through_the_extents_in_order() {
        let extents = [extent(2, 1), extent(9, 2)];
        assert_eq!(
            parts(&extents, 4000, 200),
            [(8192 + 4000, 96), (9 * 4096, 104)]
        );
        assert_eq!(parts(&extents, 4096, 8192), [(9 * 4096, 8192)]);
        assert_eq!(parts(&extents, 12288, 1), []);
    }
}
