//! The largest of many logits, at the pace of memory.

/// Logits per step of a scan: a few vector registers.
const LANES: usize = 16;

/// Logits whose maximum is kept.
pub(super) const BLOCK: usize = 4 * LANES;

/// The largest of a block; NaN counts as less than anything. Lanes apart, and
/// then folded in halves, so that the compiler can use vector instructions.
pub(super) fn block_max(block: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut rows = block.chunks_exact(LANES);
    for row in &mut rows {
        for (lane, logit) in lanes.iter_mut().zip(row) {
            *lane = greater(*lane, *logit);
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        let (low, high) = lanes.split_at_mut(width);
        for (a, b) in low.iter_mut().zip(high) {
            *a = greater(*a, *b);
        }
    }
    let rest = rows.remainder().iter();
    rest.fold(lanes[0], |max, logit| greater(max, *logit))
}
