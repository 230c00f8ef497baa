//! jinja2's parser: statements, with the tags `break`, `continue` and
//! `generation`.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::ast::{For, Macro, Params, Statement, Target, Uses};
use super::lexer::Token;
use super::parser::Parser;
use super::value::Text;
use super::{Fault, wrong};

impl Parser<'_> {
    /// A whole template.
    pub(super) fn template(&mut self) -> Result<Vec<Statement>, Fault> {
        self.take()?;
        let (statements, _) = self.until(&[])?;
        Ok(statements)
    }

    /// Statements up to a tag of one of these names, and its name, which is
    /// taken; without names, up to the end of the template.
    fn until(&mut self, ends: &[&str]) -> Result<(Vec<Statement>, String), Fault> {
        let mut statements = Vec::new();
        loop {
            self.count()?;
            match self.take()? {
                Token::Data(text) => statements.push(Statement::Data(text)),
                Token::VariableBegin => {
                    statements.push(Statement::Output(self.tuple(true, None, false)?));
                    self.end_tag(&Token::VariableEnd)?;
                }
                Token::BlockBegin => {
                    let Token::Name(name) = self.take()? else {
                        return wrong("tag name expected");
                    };
                    if ends.contains(&name.as_str()) {
                        return Ok((statements, name));
                    }
                    self.statement(&name, &mut statements)?;
                    self.end_tag(&Token::BlockEnd)?;
                }
                _ if ends.is_empty() => return Ok((statements, String::new())),
                _ => {
                    let ends = ends.join(" or ");
                    return wrong(format!("unexpected end of template, looking for {ends}"));
                }
            }
        }
    }

    fn end_tag(&mut self, end: &Token) -> Result<(), Fault> {
        if self.current != *end {
            return wrong(format!(
                "expected the end of the tag, got {}",
                self.describe()
            ));
        }
        self.take().map(|_| ())
    }

    /// The body of a block, up to a tag of one of these names.
    fn block(&mut self, ends: &[&str]) -> Result<(Vec<Statement>, String), Fault> {
        self.skip_op(":")?;
        self.end_tag(&Token::BlockEnd)?;
        self.deeper(|parser| parser.until(ends))
    }

    fn body(&mut self, end: &str) -> Result<Vec<Statement>, Fault> {
        Ok(self.block(&[end])?.0)
    }

    /// The statement whose tag is `name`, which was taken.
    fn statement(&mut self, name: &str, into: &mut Vec<Statement>) -> Result<(), Fault> {
        let line = self.line;
        let statement = match name {
            "for" => self.for_loop()?,
            "if" => self.branches()?,
            "set" => self.assignment()?,
            "with" => self.with()?,
            "macro" => {
                let name = self.name()?;
                Statement::Macro(Rc::new(self.macro_of(Some(name), "endmacro")?))
            }
            "call" => self.call_block()?,
            "filter" => match self.block_filters(false)? {
                Some(filter) => Statement::Filter(filter, self.body("endfilter")?),
                None => return wrong("expected a filter"),
            },
            "block" => {
                let name = self.name()?;
                self.skip_name("scoped")?;
                self.skip_name("required")?;
                let body = self.body("endblock")?;
                self.skip_name(&name.text)?;
                Statement::Scope(body)
            }
            "generation" => Statement::Scope(self.body("endgeneration")?),
            "print" => {
                while self.current != Token::BlockEnd {
                    into.push(Statement::Output(self.expression()?));
                    if self.current != Token::BlockEnd {
                        self.expect_op(",")?;
                    }
                }
                return Ok(());
            }
            "break" | "continue" if self.loops == 0 => {
                return wrong(format!("'{name}' outside of a loop"));
            }
            "break" => Statement::Break,
            "continue" => Statement::Continue,
            "include" => self.other("include", line)?,
            "import" => self.other("import", line)?,
            "from" => self.other("from", line)?,
            "extends" => self.other("extends", line)?,
            unknown => return wrong(format!("unknown tag '{unknown}'")),
        };
        into.push(statement);
        Ok(())
    }

    /// A tag that needs another template: refused when it is reached.
    fn other(&mut self, tag: &'static str, line: usize) -> Result<Statement, Fault> {
        while !matches!(self.current, Token::BlockEnd | Token::End) {
            self.take()?;
        }
        Ok(Statement::Other(tag, line))
    }

    fn for_loop(&mut self) -> Result<Statement, Fault> {
        let target = self.target(Some("in"), false)?;
        if !self.skip_name("in")? {
            return wrong(format!("expected 'in', got {}", self.describe()));
        }
        let iter = self.tuple(false, Some("recursive"), false)?;
        let filter = if self.skip_name("if")? {
            Some(self.expression()?)
        } else {
            None
        };
        let recursive = self.skip_name("recursive")?;
        self.loops = self.loops.saturating_add(1);
        let (body, end) = self.block(&["endfor", "else"])?;
        self.loops = self.loops.saturating_sub(1);
        let otherwise = if end == "else" {
            self.body("endfor")?
        } else {
            Vec::new()
        };
        Ok(Statement::For(Rc::new(For {
            target,
            iter,
            filter,
            recursive,
            body,
            otherwise,
        })))
    }

    fn branches(&mut self) -> Result<Statement, Fault> {
        let mut branches = Vec::new();
        loop {
            let test = self.tuple(false, None, false)?;
            let (body, end) = self.block(&["elif", "else", "endif"])?;
            branches.push((test, body));
            match end.as_str() {
                "elif" => {}
                "else" => return Ok(Statement::If(branches, self.body("endif")?)),
                _ => return Ok(Statement::If(branches, Vec::new())),
            }
        }
    }

    fn assignment(&mut self) -> Result<Statement, Fault> {
        let target = self.target(None, true)?;
        if self.skip_op("=")? {
            return Ok(Statement::Set(target, self.tuple(true, None, false)?));
        }
        let filter = self.block_filters(true)?;
        Ok(Statement::SetBlock(target, filter, self.body("endset")?))
    }

    fn with(&mut self) -> Result<Statement, Fault> {
        let mut values = Vec::new();
        while self.current != Token::BlockEnd {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(None, false)?;
            self.expect_op("=")?;
            values.push((target, self.expression()?));
        }
        Ok(Statement::With(values, self.body("endwith")?))
    }

    fn call_block(&mut self) -> Result<Statement, Fault> {
        let params = if self.is_op("(") {
            self.params()?
        } else {
            Vec::new()
        };
        let call = self.expression()?;
        if !matches!(call.node, super::ast::Node::Call(..)) {
            return wrong("expected call");
        }
        let mut body = self.macro_body(None, "endcall")?;
        body.params = params;
        Ok(Statement::Call(call, Rc::new(body)))
    }

    fn macro_of(&mut self, name: Option<Rc<Text>>, end: &str) -> Result<Macro, Fault> {
        let params = self.params()?;
        let mut made = self.macro_body(name, end)?;
        made.params = params;
        Ok(made)
    }

    fn macro_body(&mut self, name: Option<Rc<Text>>, end: &str) -> Result<Macro, Fault> {
        let outer = std::mem::take(&mut self.uses);
        let loops = std::mem::take(&mut self.loops);
        let body = self.body(end)?;
        let uses = self.uses;
        self.loops = loops;
        self.uses = Uses {
            varargs: outer.varargs || uses.varargs,
            kwargs: outer.kwargs || uses.kwargs,
            caller: outer.caller || uses.caller,
        };
        Ok(Macro {
            name,
            params: Vec::new(),
            body,
            uses,
        })
    }

    fn params(&mut self) -> Result<Params, Fault> {
        let mut params: Params = Vec::new();
        let mut known = BTreeSet::new();
        self.expect_op("(")?;
        while !self.is_op(")") {
            if !params.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.name()?;
            if !known.insert(name.text.clone()) {
                return wrong(format!("duplicate argument '{}' in a macro", name.text));
            }
            let default = if self.skip_op("=")? {
                Some(self.expression()?)
            } else if params.last().is_some_and(|(_, default)| default.is_some()) {
                return wrong("non-default argument follows default argument");
            } else {
                None
            };
            params.push((name, default));
        }
        self.expect_op(")")?;
        Ok(params)
    }

    /// What is assigned to: a name, several, or an attribute of a namespace.
    fn target(&mut self, end: Option<&str>, namespaces: bool) -> Result<Target, Fault> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            let ends = matches!(self.current, Token::BlockEnd | Token::VariableEnd);
            if ends || self.is_op(")") || end.is_some_and(|end| self.is_name(end)) {
                break;
            }
            targets.push(self.one_target(namespaces)?);
            if !self.skip_op(",")? {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(only) if !is_tuple => Ok(only),
            Some(last) => {
                targets.push(last);
                Ok(Target::Tuple(targets))
            }
            None => wrong(format!("expected a name, got {}", self.describe())),
        }
    }

    fn one_target(&mut self, namespaces: bool) -> Result<Target, Fault> {
        if self.skip_op("(")? {
            let inner = self.deeper(|parser| parser.target(None, namespaces))?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        if matches!(
            &*name.text,
            "true" | "false" | "none" | "True" | "False" | "None"
        ) {
            return wrong(format!("can't assign to '{}'", name.text));
        }
        if namespaces && self.skip_op(".")? {
            return Ok(Target::Attribute(name, self.name()?));
        }
        Ok(Target::Name(name))
    }
}
