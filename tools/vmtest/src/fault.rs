//! The fault matrix: tests tell here what they saw of each fault, and
//! `tools/reliability.py` makes docs/reliability.md of it.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Instant;

use serde_json::json;

use crate::OrFail;

/// Where records go, a line of JSON each: the file that this variable names.
const RECORDS: &str = "ZOSIA_FAULTS";

/// A fault that is being tried.
#[derive(Debug)]
pub struct Fault {
    row: u32,
    what: String,
    began: Instant,
}

impl Fault {
    /// The fault `what`, of this row of the matrix, begins.
    pub fn begins(row: u32, what: impl Into<String>) -> Self {
        Self {
            row,
            what: what.into(),
            began: Instant::now(),
        }
    }

    /// It has been met: `line` is what the user reads, which must end with a code,
    /// and `then` is how it goes on.
    #[track_caller]
    pub fn told(self, line: &str, then: &str) {
        assert!(
            line.contains(" [ZE-") && line.ends_with(']'),
            "a line with a code: {line:?}"
        );
        self.record(line, then);
    }

    /// It does no harm, and there is nothing to tell; `then` is what happens.
    pub fn is_harmless(self, then: &str) {
        self.record("", then);
    }

    fn record(self, told: &str, then: &str) {
        let Some(path) = env::var_os(RECORDS) else {
            return;
        };
        let record = json!({
            "row": self.row, "fault": self.what, "told": told, "then": then,
            "seconds": self.began.elapsed().as_secs_f64(),
        });
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.or_fail(format_args!("open {}", path.display()));
        writeln!(file, "{record}").or_fail("write a record");
    }
}
