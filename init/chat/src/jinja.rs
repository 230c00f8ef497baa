//! The dialect of Jinja that chat templates are written in: what Python's
//! jinja2 does in the sandbox of Hugging Face's `apply_chat_template`, byte for
//! byte. A template comes with the model and is not trusted: every step it
//! takes and every byte it holds is counted, and it recurses no deeper than
//! the stack allows. No existing library bounds what its built-ins do, or has
//! Python's operators.

#![expect(
    clippy::similar_names,
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "start, stop and step are Python's; values are cheap to pass; the budget is where operators are"
)]

mod ast;
mod braces;
mod budget;
mod calls;
mod case;
mod eval;
mod filters;
mod json;
mod lexer;
mod loops;
mod methods;
mod numerals;
mod operators;
mod parser;
mod percent;
mod predicates;
mod repr;
mod spec;
mod statements;
mod strings;
mod urlize;
mod value;
mod wrapping;

use std::rc::Rc;

use ast::Statement;
pub(crate) use budget::Budget;
use budget::Buffer;
use eval::Evaluator;
pub(crate) use value::{Text, Value};

/// Steps of one rendering; a thousand turns need less with every template known.
const STEPS: usize = 10_000_000;
/// Steps more for each byte of the conversation.
const STEPS_PER_BYTE: usize = 4;
/// Memory of one rendering beside what the conversation needs.
const BYTES: usize = 16 << 20;
/// The same, for each byte of the conversation.
const BYTES_PER_BYTE: usize = 8;

/// Why a rendering ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The template said so, through `raise_exception`.
    Raised(String),
    /// It took too many steps.
    Endless,
    /// It needs too much memory.
    Memory,
    /// It is wrong.
    Wrong(String),
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Wrong(message.into()))
}

/// A fault and the line of the template where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) line: usize,
}

/// What a rendering of a conversation of `bytes` may hold at a time, bytes.
pub(super) fn bytes_max(bytes: usize) -> usize {
    BYTES.saturating_add(bytes.saturating_mul(BYTES_PER_BYTE))
}

/// A compiled template.
#[derive(Debug)]
pub(super) struct Program {
    statements: Vec<Statement>,
    clock: Clock,
}

/// What `strftime_now` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Local time, seconds since 1970.
    At(i64),
    /// There is none, and the template cannot do without: "unknown".
    Unknown,
    /// There is none; `strftime_now` is not defined.
    None,
}

/// What a template may read, made within its budget.
pub(super) type Names = Vec<(Rc<Text>, Value)>;

impl Program {
    /// Compiles `source`. `now_s` is local time in seconds since 1970; without
    /// it `strftime_now` does not exist if the template can do without, and
    /// says "unknown" if not.
    pub(super) fn new(source: &str, now_s: Option<i64>) -> Result<Self, Failure> {
        let normalized = lexer::normalize(source);
        let mut parser = parser::Parser::new(&normalized);
        let clock = match now_s {
            Some(now_s) => Clock::At(now_s),
            None if source.contains("strftime_now is defined") => Clock::None,
            None => Clock::Unknown,
        };
        match parser.template() {
            Ok(statements) => Ok(Self { statements, clock }),
            Err(fault) => Err(Failure {
                fault,
                line: parser.line,
            }),
        }
    }

    /// Renders a conversation of `bytes`.
    pub(super) fn render(
        &self,
        bytes: usize,
        names: impl FnOnce(&Budget) -> Result<Names, Fault>,
    ) -> Result<String, Failure> {
        let steps = STEPS.saturating_add(bytes.saturating_mul(STEPS_PER_BYTE));
        let budget = Budget::new(steps, bytes_max(bytes));
        let mut line = 0;
        let run = || {
            let mut out = Buffer::new(&budget);
            let mut evaluator = Evaluator::new(&budget, names(&budget)?, self.clock)?;
            let done = evaluator.run(&self.statements, &mut out);
            line = evaluator.line;
            done.map(|()| out.text)
        };
        let done = run();
        done.map_err(|fault| Failure { fault, line })
    }
}

/// White space as Python's `str.strip` has it.
fn is_py_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

#[cfg(test)]
mod tests;
