//! The statement `for`: what is gone through, item by item, and what `loop` tells.
//! As jinja2 does, it looks at an item, and whether it passes the filter, only when
//! that is asked for: the body may change what the filter sees.

use std::rc::Rc;

use super::ast::For;
use super::budget::{Buffer, Charge};
use super::eval::{Evaluator, Flow};
use super::methods::usize_value;
use super::value::{Args, Kind, Object, Seq, Text, Value, Why};
use super::{Fault, wrong};

/// A loop that runs, as `loop` shows it.
#[derive(Debug)]
pub(super) struct Loop {
    id: usize,
    node: Rc<For>,
    /// The scope that the loop is in.
    scope: usize,
    source: Rc<Seq>,
    /// The next item of `source`, if that is not an iterator.
    at: usize,
    /// Items that passed the filter so far.
    kept: Vec<Value>,
    charge: Charge,
    /// The item that the body has.
    index: usize,
    depth: usize,
    changed: Option<Value>,
}

impl Loop {
    /// The next item of the source, which may not pass the filter.
    fn pull(&mut self) -> Result<Option<Value>, Fault> {
        if self.source.kind == Kind::Iterator {
            return self.source.pull();
        }
        let item = self.source.items.get(self.at).cloned();
        self.at = self.at.saturating_add(1);
        Ok(item)
    }
}

fn running(evaluator: &mut Evaluator, id: usize) -> Result<&mut Loop, Fault> {
    // The one that is meant is the last, or one of few around it.
    let mut loops = evaluator.loops.iter_mut().rev();
    match loops.find(|running| running.id == id) {
        Some(running) => Ok(running),
        None => wrong("a loop that has ended is used"),
    }
}

/// Goes on until there are `count` items; tells how many there are.
fn keep(evaluator: &mut Evaluator, id: usize, count: usize) -> Result<usize, Fault> {
    loop {
        let known = running(evaluator, id)?.kept.len();
        if known >= count {
            return Ok(known);
        }
        if known.saturating_add(1) < count {
            // Not the one that is gone through next.
            evaluator.budget.spend(1)?;
        }
        let current = running(evaluator, id)?;
        let Some(item) = current.pull()? else {
            return Ok(known);
        };
        let (node, scope) = (Rc::clone(&current.node), current.scope);
        if let Some(filter) = &node.filter {
            let passes = evaluator.scoped(scope, |evaluator, inner| {
                evaluator.assign(inner, &node.target, item.clone())?;
                evaluator.eval(filter, inner)
            })?;
            if !passes.is_true() {
                continue;
            }
        }
        let current = running(evaluator, id)?;
        current.charge.grow(size_of::<Value>())?;
        current.kept.push(item);
    }
}

/// Runs a loop over `items`.
pub(super) fn run(
    evaluator: &mut Evaluator,
    node: &Rc<For>,
    items: &Value,
    scope: usize,
    depth: usize,
    out: &mut Buffer,
) -> Result<(), Fault> {
    let source = match items {
        Value::Seq(seq) => Rc::clone(seq),
        other => other.iterate(&evaluator.budget)?,
    };
    evaluator.loops_begun = evaluator.loops_begun.saturating_add(1);
    let id = evaluator.loops_begun;
    let charge = evaluator.budget.charge(0)?;
    evaluator.loops.push(Loop {
        id,
        node: Rc::clone(node),
        scope,
        source,
        at: 0,
        kept: Vec::new(),
        charge,
        index: 0,
        depth,
        changed: None,
    });
    let done = iterate(evaluator, node, id, scope, out);
    evaluator.loops.pop();
    if done? == 0 {
        evaluator.scoped(scope, |evaluator, inner| {
            evaluator.block(&node.otherwise, inner, out)
        })?;
    }
    Ok(())
}

/// Runs the body for each item; tells how many there were.
fn iterate(
    evaluator: &mut Evaluator,
    node: &For,
    id: usize,
    scope: usize,
    out: &mut Buffer,
) -> Result<usize, Fault> {
    let name = Text::literal("loop");
    let shown = Value::Object(Rc::new(Object::Loop(id)));
    for index in 0_usize.. {
        if keep(evaluator, id, index.saturating_add(1))? <= index {
            return Ok(index);
        }
        let current = running(evaluator, id)?;
        current.index = index;
        let item = current.kept.get(index).cloned().unwrap_or(Value::None);
        let flow = evaluator.scoped(scope, |evaluator, inner| {
            evaluator.set(inner, &name, shown.clone())?;
            evaluator.assign(inner, &node.target, item)?;
            evaluator.block(&node.body, inner, out)
        })?;
        if flow == Flow::Break {
            break;
        }
    }
    Ok(1)
}

/// How many items there are altogether.
fn length(evaluator: &mut Evaluator, id: usize) -> Result<usize, Fault> {
    keep(evaluator, id, usize::MAX)
}

/// `loop.name`; `method` makes what can be called.
pub(super) fn attribute(
    evaluator: &mut Evaluator,
    id: usize,
    name: &str,
    method: impl FnOnce() -> Value,
) -> Result<Option<Value>, Fault> {
    evaluator.budget.spend(evaluator.loops.len())?;
    let current = running(evaluator, id)?;
    let (index, depth) = (current.index, current.depth);
    let after = index.saturating_add(1);
    let item = |current: &Loop, at: Option<usize>, none: &'static str| {
        let found = at.and_then(|at| current.kept.get(at)).cloned();
        found.unwrap_or(Value::Undefined(Why::Empty(none)))
    };
    Ok(Some(match name {
        "index" => usize_value(after),
        "index0" => usize_value(index),
        "first" => Value::Bool(index == 0),
        "depth" => usize_value(depth.saturating_add(1)),
        "depth0" => usize_value(depth),
        "previtem" => item(current, index.checked_sub(1), "there is no previous item"),
        "cycle" | "changed" => method(),
        "last" => Value::Bool(keep(evaluator, id, after.saturating_add(1))? <= after),
        "nextitem" => {
            keep(evaluator, id, after.saturating_add(1))?;
            item(
                running(evaluator, id)?,
                Some(after),
                "there is no next item",
            )
        }
        "length" => usize_value(length(evaluator, id)?),
        "revindex" => usize_value(length(evaluator, id)?.saturating_sub(index)),
        "revindex0" => usize_value(length(evaluator, id)?.saturating_sub(after)),
        _ => return Ok(None),
    }))
}

/// `loop(items)`: a recursive loop, one level deeper.
pub(super) fn recurse(evaluator: &mut Evaluator, id: usize, args: Args) -> Result<Value, Fault> {
    let [items] = args.bind("loop", ["iterable"])?;
    let current = running(evaluator, id)?;
    let (node, scope, depth) = (Rc::clone(&current.node), current.scope, current.depth);
    if !node.recursive {
        return wrong("The loop must have the 'recursive' marker to be called recursively.");
    }
    let mut out = Buffer::new(&evaluator.budget);
    evaluator.deeper(|evaluator| {
        let items = items.unwrap_or(Value::None);
        run(
            evaluator,
            &node,
            &items,
            scope,
            depth.saturating_add(1),
            &mut out,
        )
    })?;
    out.finish()
}

/// `loop.cycle` and `loop.changed`.
pub(super) fn call_method(
    evaluator: &mut Evaluator,
    id: usize,
    name: &str,
    args: Args,
) -> Result<Value, Fault> {
    let budget = evaluator.budget.clone();
    let current = running(evaluator, id)?;
    if name == "cycle" {
        let at = current.index.checked_rem(args.positional.len());
        let item = at.and_then(|at| args.positional.get(at)).cloned();
        return item.map_or_else(|| wrong("no items for cycling given"), Ok);
    }
    let now = budget.tuple(args.positional)?;
    if let Some(last) = &current.changed
        && budget.equal(last, &now)?
    {
        return Ok(Value::Bool(false));
    }
    current.changed = Some(now);
    Ok(Value::Bool(true))
}
