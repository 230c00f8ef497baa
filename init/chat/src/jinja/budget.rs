//! What one rendering may spend. Every step and every byte that a template
//! causes is counted here, whichever way it causes it.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;

use super::value::{Dict, Kind, Seq, Text, Value};
use super::{Fault, wrong};

/// Depth of values within values, so that whatever walks them ends before the
/// stack does.
const NESTING_MAX: usize = 120;
/// Bytes that are moved in one step.
const BYTES_PER_STEP: usize = 64;
/// What a value costs beside its contents.
const VALUE_BYTES: usize = 96;

#[derive(Debug)]
struct Left {
    steps: Cell<usize>,
    bytes: Cell<usize>,
}

/// Steps and bytes that are left.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Rc<Left>);

impl Budget {
    pub(crate) fn new(steps: usize, bytes: usize) -> Self {
        Self(Rc::new(Left {
            steps: Cell::new(steps),
            bytes: Cell::new(bytes),
        }))
    }

    #[cfg(test)]
    pub(crate) fn bytes_left(&self) -> usize {
        self.0.bytes.get()
    }

    /// Counts `steps`.
    pub(crate) fn spend(&self, steps: usize) -> Result<(), Fault> {
        let left = self.0.steps.get().checked_sub(steps);
        self.0.steps.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Fault::Endless)
    }

    /// Counts the time to read or move `bytes`.
    pub(crate) fn touch(&self, bytes: usize) -> Result<(), Fault> {
        self.spend((bytes / BYTES_PER_STEP).saturating_add(1))
    }

    /// Counts time and checks that `bytes` could be had.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.0.bytes.get() {
            return Err(Fault::Memory);
        }
        self.touch(bytes)
    }

    /// Takes `bytes` until the charge is dropped.
    pub(crate) fn charge(&self, bytes: usize) -> Result<Charge, Fault> {
        let mut charge = Charge {
            budget: Some(self.clone()),
            bytes: 0,
        };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// A text.
    pub(crate) fn text(&self, text: impl Into<String>) -> Result<Value, Fault> {
        self.marked(text.into(), false)
    }

    /// A text that is markup if `safe`.
    pub(crate) fn marked(&self, text: String, safe: bool) -> Result<Value, Fault> {
        self.touch(text.len())?;
        let charge = self.charge(text.len().saturating_add(VALUE_BYTES))?;
        Ok(Value::Str(Rc::new(Text {
            text: text.into_boxed_str(),
            safe,
            _charge: charge,
        })))
    }

    /// A list or something like it.
    pub(crate) fn seq(&self, kind: Kind, items: Vec<Value>) -> Result<Rc<Seq>, Fault> {
        self.faulty(kind, items, None)
    }

    /// An iterator over `items`, after which `fault` is found.
    pub(crate) fn iterator(
        &self,
        items: Vec<Value>,
        fault: Option<Fault>,
    ) -> Result<Rc<Seq>, Fault> {
        self.faulty(Kind::Iterator, items, fault)
    }

    fn faulty(
        &self,
        kind: Kind,
        items: Vec<Value>,
        fault: Option<Fault>,
    ) -> Result<Rc<Seq>, Fault> {
        self.spend((items.len() / 4).saturating_add(1))?;
        let depth = deepen(items.iter())?;
        let bytes = items.len().saturating_mul(size_of::<Value>());
        Ok(Rc::new(Seq {
            kind,
            items,
            depth,
            next: Cell::new(0),
            fault,
            _charge: self.charge(bytes.saturating_add(VALUE_BYTES))?,
        }))
    }

    pub(crate) fn list(&self, items: Vec<Value>) -> Result<Value, Fault> {
        Ok(Value::Seq(self.seq(Kind::List, items)?))
    }

    pub(crate) fn tuple(&self, items: Vec<Value>) -> Result<Value, Fault> {
        Ok(Value::Seq(self.seq(Kind::Tuple, items)?))
    }

    pub(crate) fn dict(&self, entries: Vec<(Value, Value)>) -> Result<Value, Fault> {
        self.spend(entries.len().saturating_add(1))?;
        let depth = deepen(entries.iter().flat_map(|(key, value)| [key, value]))?;
        let bytes = entries.len().saturating_mul(size_of::<[Value; 2]>());
        Ok(Value::Dict(Rc::new(Dict {
            entries,
            depth,
            _charge: self.charge(bytes.saturating_add(VALUE_BYTES))?,
        })))
    }
}

fn deepen<'a>(values: impl Iterator<Item = &'a Value>) -> Result<usize, Fault> {
    let depth = values
        .map(Value::depth)
        .max()
        .unwrap_or(0)
        .saturating_add(1);
    if depth > NESTING_MAX {
        return wrong("values nested too deeply");
    }
    Ok(depth)
}

/// Bytes in use; dropping gives them back.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    budget: Option<Budget>,
    bytes: usize,
}

impl Charge {
    /// Takes `bytes` more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        let left = budget
            .0
            .bytes
            .get()
            .checked_sub(bytes)
            .ok_or(Fault::Memory)?;
        budget.0.bytes.set(left);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            let left = &budget.0.bytes;
            left.set(left.get().saturating_add(self.bytes));
        }
    }
}

/// A text being written.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) text: String,
    budget: Budget,
    charge: Charge,
    /// Bytes and calls that are not counted as steps yet.
    moved: usize,
}

impl Buffer {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            text: String::new(),
            budget: budget.clone(),
            charge: Charge {
                budget: Some(budget.clone()),
                bytes: 0,
            },
            moved: 0,
        }
    }

    pub(crate) fn push(&mut self, text: &str) -> Result<(), Fault> {
        self.moved = self.moved.saturating_add(text.len()).saturating_add(1);
        if self.moved >= 4 * BYTES_PER_STEP {
            self.budget.touch(std::mem::take(&mut self.moved))?;
        }
        self.charge.grow(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(crate) fn push_char(&mut self, c: char) -> Result<(), Fault> {
        self.push(c.encode_utf8(&mut [0; 4]))
    }

    /// `text`, `count` times.
    pub(crate) fn repeat(&mut self, text: &str, count: usize) -> Result<(), Fault> {
        let bytes = text.len().saturating_mul(count);
        if bytes == 0 {
            return Ok(());
        }
        self.budget.reserve(bytes)?;
        self.charge.grow(bytes)?;
        (0..count).for_each(|_| self.text.push_str(text));
        Ok(())
    }

    pub(crate) fn display(&mut self, shown: impl std::fmt::Display) -> Result<(), Fault> {
        let before = self.text.len();
        // Writing to a string does not fail.
        let _ = write!(self.text, "{shown}");
        let grown = self.text.len().saturating_sub(before);
        self.budget.touch(grown)?;
        self.charge.grow(grown)
    }

    pub(crate) fn finish(self) -> Result<Value, Fault> {
        self.marked(false)
    }

    pub(crate) fn marked(self, safe: bool) -> Result<Value, Fault> {
        let Self {
            text,
            budget,
            mut charge,
            ..
        } = self;
        charge.grow(VALUE_BYTES)?;
        budget.touch(text.len())?;
        Ok(Value::Str(Rc::new(Text {
            text: text.into_boxed_str(),
            safe,
            _charge: charge,
        })))
    }
}
