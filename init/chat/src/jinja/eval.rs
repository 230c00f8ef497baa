//! Runs a template: scopes, statements and expressions as jinja2's compiler
//! means them.

use std::rc::Rc;

use super::ast::{CallArgs, Expr, Macro, Node, Statement, Target};
use super::budget::{Budget, Buffer, Charge};
use super::loops::Loop;
use super::repr::write_str;
use super::value::{Args, Function, Object, Text, Value, Why};
use super::{Clock, Fault, calls, filters, loops, predicates, wrong};

/// Depth of statements, expressions and macros that run within each other.
const DEPTH_MAX: usize = 120;
/// What a scope or a name in one costs.
const SCOPE_BYTES: usize = 96;

#[derive(Debug)]
struct Scope {
    parent: Option<usize>,
    names: Vec<(Rc<Text>, Value)>,
    /// A macro was written in it, and may be called after the scope's end.
    captured: bool,
    charge: Charge,
}

/// Where to go on after a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// A rendering under way. Whatever changes during it is here; values refer to
/// it by number, so that nothing holds itself.
#[derive(Debug)]
pub(super) struct Evaluator {
    pub(super) budget: Budget,
    scopes: Vec<Scope>,
    pub(super) loops: Vec<Loop>,
    pub(super) loops_begun: usize,
    namespaces: Vec<Vec<(Value, Value)>>,
    /// What the namespaces hold.
    namespaces_charge: Charge,
    depth: usize,
    pub(super) clock: Clock,
    /// Line of what was looked at last.
    pub(super) line: usize,
}

impl Evaluator {
    /// For writing values where no namespace is known.
    pub(super) fn nameless(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            scopes: Vec::new(),
            loops: Vec::new(),
            loops_begun: 0,
            namespaces: Vec::new(),
            namespaces_charge: Charge::default(),
            depth: 0,
            clock: Clock::None,
            line: 0,
        }
    }

    pub(super) fn new(
        budget: &Budget,
        names: Vec<(Rc<Text>, Value)>,
        clock: Clock,
    ) -> Result<Self, Fault> {
        let mut evaluator = Self::nameless(budget);
        evaluator.clock = clock;
        evaluator.namespaces_charge = budget.charge(0)?;
        evaluator.push_scope(None)?;
        for (name, value) in names {
            evaluator.set(0, &name, value)?;
        }
        Ok(evaluator)
    }

    pub(super) fn run(&mut self, statements: &[Statement], out: &mut Buffer) -> Result<(), Fault> {
        self.block(statements, 0, out).map(|_| ())
    }

    pub(super) fn deeper<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.depth >= DEPTH_MAX {
            return wrong("recursion goes too deep");
        }
        self.depth = self.depth.saturating_add(1);
        let done = run(self);
        self.depth = self.depth.saturating_sub(1);
        done
    }

    fn push_scope(&mut self, parent: Option<usize>) -> Result<usize, Fault> {
        self.budget.spend(1)?;
        self.scopes.push(Scope {
            parent,
            names: Vec::new(),
            captured: false,
            charge: self.budget.charge(SCOPE_BYTES)?,
        });
        Ok(self.scopes.len().saturating_sub(1))
    }

    /// Ends a scope; one that a macro may need stays.
    fn pop_scope(&mut self, scope: usize) {
        let is_last = self.scopes.len() == scope.saturating_add(1);
        if is_last && self.scopes.last().is_some_and(|scope| !scope.captured) {
            self.scopes.pop();
        }
    }

    /// Runs in a scope of its own.
    pub(super) fn scoped<T>(
        &mut self,
        parent: usize,
        run: impl FnOnce(&mut Self, usize) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let scope = self.push_scope(Some(parent))?;
        let done = run(self, scope);
        self.pop_scope(scope);
        done
    }

    pub(super) fn set(&mut self, scope: usize, name: &Rc<Text>, value: Value) -> Result<(), Fault> {
        let Some(scope) = self.scopes.get_mut(scope) else {
            return Ok(());
        };
        self.budget
            .spend((scope.names.len() / 8).saturating_add(1))?;
        let known = scope
            .names
            .iter_mut()
            .find(|(known, _)| known.text == name.text);
        if let Some((_, old)) = known {
            *old = value;
        } else {
            scope.charge.grow(SCOPE_BYTES)?;
            scope.names.push((Rc::clone(name), value));
        }
        Ok(())
    }

    fn get(&self, scope: usize, name: &Rc<Text>) -> Result<Value, Fault> {
        let mut next = Some(scope);
        while let Some(scope) = next.and_then(|index| self.scopes.get(index)) {
            self.budget
                .spend((scope.names.len() / 8).saturating_add(1))?;
            let known = scope
                .names
                .iter()
                .find(|(known, _)| known.text == name.text);
            if let Some((_, value)) = known {
                return Ok(value.clone());
            }
            next = scope.parent;
        }
        let function = match &*name.text {
            "range" => Function::Range,
            "dict" => Function::Dict,
            "namespace" => Function::Namespace,
            "cycler" => Function::Cycler,
            "joiner" => Function::Joiner,
            "lipsum" => Function::Lipsum,
            "raise_exception" => Function::RaiseException,
            "strftime_now" if self.clock != Clock::None => Function::StrftimeNow,
            _ => return Ok(Value::Undefined(Why::Name(Rc::clone(name)))),
        };
        Ok(Value::function(function))
    }

    pub(super) fn new_namespace(&mut self, entries: Vec<(Value, Value)>) -> Result<Value, Fault> {
        let count = entries.len().saturating_add(1);
        self.namespaces_charge
            .grow(count.saturating_mul(SCOPE_BYTES))?;
        self.namespaces.push(entries);
        let index = self.namespaces.len().saturating_sub(1);
        Ok(Value::Object(Rc::new(Object::Namespace(index))))
    }

    pub(super) fn namespace(&self, index: usize) -> &[(Value, Value)] {
        self.namespaces.get(index).map_or(&[], Vec::as_slice)
    }

    pub(super) fn assign(
        &mut self,
        scope: usize,
        target: &Target,
        value: Value,
    ) -> Result<(), Fault> {
        match target {
            Target::Name(name) => self.set(scope, name, value),
            Target::Attribute(name, attribute) => {
                let Value::Object(object) = self.get(scope, name)? else {
                    return wrong("cannot assign attribute on non-namespace object");
                };
                let Object::Namespace(index) = *object else {
                    return wrong("cannot assign attribute on non-namespace object");
                };
                self.namespaces_charge.grow(SCOPE_BYTES)?;
                let budget = self.budget.clone();
                match self.namespaces.get_mut(index) {
                    Some(entries) => {
                        budget.insert(entries, Value::Str(Rc::clone(attribute)), value)
                    }
                    None => Ok(()),
                }
            }
            Target::Tuple(targets) => {
                let values = value.iterate(&self.budget)?;
                if values.items.len() != targets.len() {
                    let (wanted, got) = (targets.len(), values.items.len());
                    return wrong(format!("cannot unpack {got} values into {wanted} names"));
                }
                for (target, value) in targets.iter().zip(&values.items) {
                    self.assign(scope, target, value.clone())?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn block(
        &mut self,
        statements: &[Statement],
        scope: usize,
        out: &mut Buffer,
    ) -> Result<Flow, Fault> {
        for statement in statements {
            self.budget.spend(1)?;
            let flow = match statement {
                Statement::Data(text) => {
                    out.push(text)?;
                    Flow::Next
                }
                Statement::Output(expr) => {
                    let value = self.eval(expr, scope)?;
                    write_str(out, &value, self)?;
                    Flow::Next
                }
                nested => self.deeper(|evaluator| evaluator.statement(nested, scope, out))?,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// Runs `statements` in a scope of their own and gives what they write.
    fn capture(&mut self, statements: &[Statement], scope: usize) -> Result<Value, Fault> {
        let mut inner = Buffer::new(&self.budget);
        self.scoped(scope, |evaluator, scope| {
            evaluator.block(statements, scope, &mut inner)
        })?;
        inner.finish()
    }

    fn statement(
        &mut self,
        statement: &Statement,
        scope: usize,
        out: &mut Buffer,
    ) -> Result<Flow, Fault> {
        match statement {
            Statement::Data(_) | Statement::Output(_) => {}
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.eval(test, scope)?.is_true() {
                        return self.block(body, scope, out);
                    }
                }
                return self.block(otherwise, scope, out);
            }
            Statement::For(node) => {
                let items = self.eval(&node.iter, scope)?;
                loops::run(self, node, &items, scope, 0, out)?;
            }
            Statement::Set(target, expr) => {
                let value = self.eval(expr, scope)?;
                self.assign(scope, target, value)?;
            }
            Statement::SetBlock(target, filter, body) => {
                let mut value = self.capture(body, scope)?;
                if let Some(filter) = filter {
                    value = self.block_filter(filter, value, scope)?;
                }
                self.assign(scope, target, value)?;
            }
            Statement::Filter(filter, body) => {
                let value = self.capture(body, scope)?;
                let value = self.block_filter(filter, value, scope)?;
                write_str(out, &value, self)?;
            }
            Statement::With(values, body) => {
                return self.scoped(scope, |evaluator, inner| {
                    for (target, expr) in values {
                        let value = evaluator.eval(expr, scope)?;
                        evaluator.assign(inner, target, value)?;
                    }
                    evaluator.block(body, inner, out)
                });
            }
            Statement::Scope(body) => {
                return self.scoped(scope, |evaluator, scope| evaluator.block(body, scope, out));
            }
            Statement::Macro(definition) => {
                let value = self.capture_macro(definition, scope);
                if let Some(name) = &definition.name {
                    self.set(scope, name, value)?;
                }
            }
            Statement::Call(call, body) => {
                let Node::Call(callee, args) = &call.node else {
                    return wrong("expected call");
                };
                let callee = self.eval(callee, scope)?;
                let mut args = self.args(args, scope)?;
                let caller = self.capture_macro(body, scope);
                args.named.push((Text::literal("caller"), caller));
                let value = calls::call(self, &callee, args)?;
                write_str(out, &value, self)?;
            }
            Statement::Other(tag, line) => {
                self.line = *line;
                return wrong(format!("'{tag}' needs another template, and there is none"));
            }
        }
        Ok(Flow::Next)
    }

    fn capture_macro(&mut self, definition: &Rc<Macro>, scope: usize) -> Value {
        if let Some(scope) = self.scopes.get_mut(scope) {
            scope.captured = true;
        }
        Value::Object(Rc::new(Object::Macro(Rc::clone(definition), scope)))
    }

    /// Filters of a block: the innermost has no operand of its own.
    fn block_filter(&mut self, filter: &Expr, value: Value, scope: usize) -> Result<Value, Fault> {
        let Node::Filter(inner, name, args) = &filter.node else {
            return wrong("expected a filter");
        };
        let value = match inner {
            Some(inner) => self.block_filter(inner, value, scope)?,
            None => value,
        };
        let args = self.args(args, scope)?;
        filters::filter(self, &name.text, value, args)
    }

    pub(super) fn call_macro(
        &mut self,
        definition: &Rc<Macro>,
        scope: usize,
        mut args: Args,
    ) -> Result<Value, Fault> {
        let name = definition.name.as_ref().map_or("caller", |name| &name.text);
        let caller = args.take("caller");
        if caller.is_some() && !definition.uses.caller {
            return wrong(format!("macro '{name}' takes no caller"));
        }
        let mut out = Buffer::new(&self.budget);
        self.scoped(scope, |evaluator, inner| {
            let mut positional = args.positional.into_iter();
            let mut named = Args {
                named: args.named,
                ..Args::default()
            };
            let mut left_out = Vec::new();
            for (param, default) in &definition.params {
                evaluator.budget.spend(named.named.len() / 16)?;
                let given = positional.next().or_else(|| named.take(&param.text));
                let value = given.unwrap_or_else(|| {
                    left_out.extend(default.as_ref().map(|default| (param, default)));
                    Value::Undefined(Why::Parameter(Rc::clone(param)))
                });
                evaluator.set(inner, param, value)?;
            }
            // A default may name any parameter.
            for (param, default) in left_out {
                let value = evaluator.eval(default, inner)?;
                evaluator.set(inner, param, value)?;
            }
            let rest: Vec<Value> = positional.collect();
            let uses = definition.uses;
            if !rest.is_empty() && !uses.varargs {
                let count = definition.params.len();
                return wrong(format!(
                    "macro '{name}' takes not more than {count} argument(s)"
                ));
            }
            if let (Some((unknown, _)), false) = (named.named.first(), uses.kwargs) {
                let unknown = &unknown.text;
                return wrong(format!(
                    "macro '{name}' takes no keyword argument '{unknown}'"
                ));
            }
            if uses.varargs {
                let rest = evaluator.budget.tuple(rest)?;
                evaluator.set(inner, &Text::literal("varargs"), rest)?;
            }
            if uses.kwargs {
                let named = named.named.into_iter();
                let named = named.map(|(name, value)| (Value::Str(name), value));
                let named = evaluator.budget.dict(named.collect())?;
                evaluator.set(inner, &Text::literal("kwargs"), named)?;
            }
            if uses.caller {
                let none = Value::Undefined(Why::Empty("No caller defined"));
                let caller = caller.unwrap_or(none);
                evaluator.set(inner, &Text::literal("caller"), caller)?;
            }
            evaluator.deeper(|evaluator| evaluator.block(&definition.body, inner, &mut out))
        })?;
        out.finish()
    }

    fn args(&mut self, args: &CallArgs, scope: usize) -> Result<Args, Fault> {
        let positional = self.all(&args.positional, scope)?;
        let mut named = Vec::new();
        for (name, value) in &args.named {
            named.push((Rc::clone(name), self.eval(value, scope)?));
        }
        let mut made = Args::new(&self.budget, positional, named)?;
        if let Some(rest) = &args.rest {
            let rest = self.eval(rest, scope)?.iterate(&self.budget)?;
            made.grow(&self.budget, rest.items.len(), 0)?;
            made.positional.extend(rest.items.iter().cloned());
        }
        if let Some(rest) = &args.named_rest {
            let rest = self.eval(rest, scope)?;
            let Value::Dict(dict) = &rest else {
                return wrong("argument after ** must be a mapping");
            };
            made.grow(&self.budget, 0, dict.entries.len())?;
            for (name, value) in &dict.entries {
                let Value::Str(name) = name else {
                    return wrong("keywords must be strings");
                };
                made.named.push((Rc::clone(name), value.clone()));
            }
        }
        Ok(made)
    }

    fn all(&mut self, exprs: &[Expr], scope: usize) -> Result<Vec<Value>, Fault> {
        exprs.iter().map(|expr| self.eval(expr, scope)).collect()
    }

    pub(super) fn eval(&mut self, expr: &Expr, scope: usize) -> Result<Value, Fault> {
        self.budget.spend(1)?;
        self.line = expr.line;
        match &expr.node {
            Node::Const(value) => Ok(value.clone()),
            Node::Name(name) => self.get(scope, name),
            _ => self.deeper(|evaluator| evaluator.compound(expr, scope)),
        }
    }

    fn compound(&mut self, expr: &Expr, scope: usize) -> Result<Value, Fault> {
        let budget = self.budget.clone();
        match &expr.node {
            Node::Const(_) | Node::Name(_) => self.eval(expr, scope),
            Node::List(items) => budget.list(self.all(items, scope)?),
            Node::Tuple(items) => budget.tuple(self.all(items, scope)?),
            Node::Dict(items) => {
                let mut entries = Vec::new();
                for (key, value) in items {
                    let key = self.eval(key, scope)?;
                    let value = self.eval(value, scope)?;
                    budget.insert(&mut entries, key, value)?;
                }
                budget.dict(entries)
            }
            Node::Concat(parts) => {
                let mut out = Buffer::new(&budget);
                for part in parts {
                    let part = self.eval(part, scope)?;
                    write_str(&mut out, &part, self)?;
                }
                out.finish()
            }
            Node::Neg(operand) => budget.negate(&self.eval(operand, scope)?),
            Node::Pos(operand) => budget.plus(&self.eval(operand, scope)?),
            Node::Not(operand) => Ok(Value::Bool(!self.eval(operand, scope)?.is_true())),
            Node::And(sides) | Node::Or(sides) => {
                let left = self.eval(&sides.0, scope)?;
                if left.is_true() == matches!(expr.node, Node::Or(_)) {
                    return Ok(left);
                }
                self.eval(&sides.1, scope)
            }
            Node::Math(math, sides) => {
                let left = self.eval(&sides.0, scope)?;
                let right = self.eval(&sides.1, scope)?;
                budget.math(*math, &left, &right)
            }
            Node::Compare(first, rest) => {
                let mut left = self.eval(first, scope)?;
                for (comparison, right) in rest {
                    let right = self.eval(right, scope)?;
                    if !budget.compare(*comparison, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Node::If(parts) => {
                let (test, then, otherwise) = &**parts;
                if self.eval(test, scope)?.is_true() {
                    return self.eval(then, scope);
                }
                match otherwise {
                    Some(otherwise) => self.eval(otherwise, scope),
                    None => Ok(Value::Undefined(Why::Empty(
                        "the inline if-expression evaluated to false and no else section was defined.",
                    ))),
                }
            }
            Node::Slice(_) => wrong("a slice stands alone in its brackets"),
            _ => self.access(expr, scope),
        }
    }

    /// Attributes, items, calls, filters and tests.
    fn access(&mut self, expr: &Expr, scope: usize) -> Result<Value, Fault> {
        match &expr.node {
            Node::Attribute(whole, name) => {
                let whole = self.eval(whole, scope)?;
                self.attribute(&whole, name)
            }
            Node::Item(sides) => {
                let whole = self.eval(&sides.0, scope)?;
                if let Node::Slice(parts) = &sides.1.node {
                    let mut bounds = [Value::None, Value::None, Value::None];
                    for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                        if let Some(part) = part {
                            *bound = self.eval(part, scope)?;
                        }
                    }
                    return self.budget.slice(&whole, bounds);
                }
                let index = self.eval(&sides.1, scope)?;
                self.item(&whole, &index)
            }
            Node::Call(callee, args) => {
                let callee = self.eval(callee, scope)?;
                let args = self.args(args, scope)?;
                self.line = expr.line;
                calls::call(self, &callee, args)
            }
            Node::Filter(Some(operand), name, args) => {
                let operand = self.eval(operand, scope)?;
                let args = self.args(args, scope)?;
                self.line = expr.line;
                filters::filter(self, &name.text, operand, args)
            }
            Node::Test(operand, name, args) => {
                let operand = self.eval(operand, scope)?;
                let args = self.args(args, scope)?;
                self.line = expr.line;
                predicates::test(self, &name.text, &operand, args).map(Value::Bool)
            }
            _ => wrong("expected an expression"),
        }
    }

    /// `whole.name`: a method or attribute, else an item.
    pub(super) fn attribute(&mut self, whole: &Value, name: &Rc<Text>) -> Result<Value, Fault> {
        if let Value::Undefined(why) = whole {
            return wrong(why.to_string());
        }
        if let Some(found) = calls::attribute(self, whole, name)? {
            return Ok(found);
        }
        let found = self.budget.subscript(whole, &Value::Str(Rc::clone(name)))?;
        Ok(
            found
                .unwrap_or_else(|| Value::Undefined(Why::Attribute(whole.kind(), Rc::clone(name)))),
        )
    }

    /// `whole[index]`: an item, else a method or attribute.
    pub(super) fn item(&mut self, whole: &Value, index: &Value) -> Result<Value, Fault> {
        // What cannot be a key is, for jinja2, no item.
        let hashable = !matches!(index, Value::Dict(_) | Value::Seq(_));
        if hashable || !matches!(whole, Value::Dict(_)) {
            if let Some(found) = self.budget.subscript(whole, index)? {
                return Ok(found);
            }
        } else if self.budget.check_key(index).is_ok()
            && let Some(found) = self.budget.subscript(whole, index)?
        {
            return Ok(found);
        }
        let Value::Str(name) = index else {
            return Ok(Value::Undefined(Why::Item(whole.kind())));
        };
        let found = calls::attribute(self, whole, name)?;
        Ok(
            found
                .unwrap_or_else(|| Value::Undefined(Why::Attribute(whole.kind(), Rc::clone(name)))),
        )
    }
}
