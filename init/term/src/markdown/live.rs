//! What is shown ahead of a decision. The renderer's rows are final; what it
//! still holds back (a marker whose end has not come, a table that grows) is
//! painted below them as it would stand now, and painted over when it is known.

/// What stands on the screen from the row on that is not final.
#[derive(Debug, Default, Clone)]
pub(super) struct Live {
    /// Final bytes of the last row.
    settled: Vec<u8>,
    /// These and what was shown ahead.
    shown: Vec<u8>,
    /// The terminal may have moved what was shown.
    is_lost: bool,
}

const ROW_END: &[u8] = b"\r\n";

impl Live {
    /// The window has changed: what was shown ahead cannot be painted over.
    pub(super) fn lose(&mut self) {
        self.is_lost = self.shown != self.settled;
    }

    /// Writes what is `settled` now, and `ahead` in at most `rows` rows.
    pub(super) fn show(&mut self, settled: &[u8], ahead: &[u8], rows: usize, out: &mut Vec<u8>) {
        self.settled.extend_from_slice(settled);
        let ahead_ends = row_starts(ahead).nth(rows);
        let cut = ahead_ends.map_or(ahead.len(), |end| end.saturating_sub(ROW_END.len()));
        let mut target = self.settled.clone();
        target.extend_from_slice(ahead.get(..cut).unwrap_or_default());
        self.paint(&target, out);
        let last = row_starts(&self.settled).last().unwrap_or(0);
        self.settled.drain(..last);
        target.drain(..last);
        self.shown = target;
        self.is_lost &= self.shown != self.settled;
    }

    fn paint(&mut self, target: &[u8], out: &mut Vec<u8>) {
        if let Some(more) = target.strip_prefix(self.shown.as_slice()) {
            out.extend_from_slice(more);
            return;
        }
        out.extend_from_slice(b"\x1b[m");
        if std::mem::take(&mut self.is_lost) {
            out.extend_from_slice(ROW_END);
            out.extend_from_slice(target);
            return;
        }
        // From the first row on that differs.
        let same = self.shown.iter().zip(target).take_while(|(a, b)| a == b);
        let same = same.count();
        let starts: Vec<usize> = row_starts(&self.shown).collect();
        let kept = starts.iter().filter(|start| **start <= same).count();
        let from = kept.checked_sub(1).and_then(|row| starts.get(row));
        let up = starts.len().saturating_sub(kept);
        out.push(b'\r');
        if up > 0 {
            out.extend_from_slice(format!("\x1b[{up}A").as_bytes());
        }
        out.extend_from_slice(b"\x1b[J");
        out.extend_from_slice(target.get(from.copied().unwrap_or(0)..).unwrap_or_default());
    }
}

/// Where the rows of `bytes` begin.
fn row_starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let ends = bytes.windows(ROW_END.len()).enumerate();
    let ends = ends.filter(|(_, window)| *window == ROW_END);
    std::iter::once(0).chain(ends.map(|(at, _)| at.saturating_add(ROW_END.len())))
}
