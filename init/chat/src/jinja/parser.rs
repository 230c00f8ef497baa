//! jinja2's parser: expressions. Statements are in [`super::statements`].

use std::rc::Rc;

use super::ast::{CallArgs, Comparison, Expr, Math, Node, Uses};
use super::lexer::{Lexer, Token};
use super::value::{Text, Value};
use super::{Fault, wrong};

/// How deep the parser calls itself: for brackets and blocks within each other.
const RECURSION_MAX: usize = 56;
/// Depth of expressions within each other, links of chains included.
const DEPTH_MAX: usize = 150;
/// Expressions, names and statements of a template. The largest known have 1500, and each
/// takes some 200 bytes.
const PARTS_MAX: usize = 1 << 16;

/// Reads a template. The line of an error is [`Parser::line`].
#[derive(Debug)]
pub(super) struct Parser<'s> {
    lexer: Lexer<'s>,
    pub(super) current: Token,
    ahead: Option<Token>,
    /// Line of the current token.
    pub(super) line: usize,
    /// How deep the parser has called itself.
    pub(super) depth: usize,
    /// Of the macro that is being read.
    pub(super) uses: Uses,
    /// Loops around what is being read.
    pub(super) loops: usize,
    /// Parts of the template so far.
    parts: usize,
}

impl<'s> Parser<'s> {
    pub(super) fn new(normalized: &'s str) -> Self {
        Self {
            lexer: Lexer::new(normalized),
            current: Token::End,
            ahead: None,
            line: 1,
            depth: 0,
            uses: Uses::default(),
            loops: 0,
            parts: 0,
        }
    }

    /// Takes the current token.
    pub(super) fn take(&mut self) -> Result<Token, Fault> {
        let next = match self.ahead.take() {
            Some(token) => token,
            None => self
                .lexer
                .next()
                .inspect_err(|_| self.line = self.lexer.line)?,
        };
        self.line = self.lexer.line;
        Ok(std::mem::replace(&mut self.current, next))
    }

    fn look(&mut self) -> Result<&Token, Fault> {
        if self.ahead.is_none() {
            self.ahead = Some(self.lexer.next()?);
        }
        Ok(self.ahead.as_ref().unwrap_or(&Token::End))
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.current, Token::Op(current) if current == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(&self.current, Token::Name(current) if current == name)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> Result<bool, Fault> {
        let is = self.is_op(op);
        if is {
            self.take()?;
        }
        Ok(is)
    }

    pub(super) fn skip_name(&mut self, name: &str) -> Result<bool, Fault> {
        let is = self.is_name(name);
        if is {
            self.take()?;
        }
        Ok(is)
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Result<(), Fault> {
        if self.skip_op(op)? {
            return Ok(());
        }
        wrong(format!("expected '{op}', got {}", self.describe()))
    }

    pub(super) fn name(&mut self) -> Result<Rc<Text>, Fault> {
        if let Token::Name(name) = &self.current {
            let name = Text::literal(name);
            self.count()?;
            self.take()?;
            return Ok(name);
        }
        wrong(format!("expected a name, got {}", self.describe()))
    }

    pub(super) fn describe(&self) -> String {
        match &self.current {
            Token::Name(name) => format!("'{name}'"),
            Token::Op(op) => format!("'{op}'"),
            Token::Str(_) => "a string".to_owned(),
            Token::Int(_) | Token::Float(_) => "a number".to_owned(),
            Token::BlockEnd | Token::VariableEnd => "the end of the tag".to_owned(),
            Token::End => "the end of the template".to_owned(),
            _ => "text".to_owned(),
        }
    }

    /// Runs `parse` one level deeper.
    pub(super) fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > RECURSION_MAX {
            return wrong("nested too deeply");
        }
        let parsed = parse(self)?;
        self.depth = self.depth.saturating_sub(1);
        Ok(parsed)
    }

    /// Counts a part that is kept.
    pub(super) fn count(&mut self) -> Result<(), Fault> {
        self.parts = self.parts.saturating_add(1);
        if self.parts > PARTS_MAX {
            return Err(Fault::Memory);
        }
        Ok(())
    }

    pub(super) fn expr(&mut self, node: Node, line: usize) -> Result<Expr, Fault> {
        self.count()?;
        let mut depth = 0;
        node.for_each(&mut |inner| depth = depth.max(inner.depth));
        if depth >= DEPTH_MAX {
            // Parts of a chain are freed one within the other: not too many.
            return wrong("nested too deeply");
        }
        Ok(Expr {
            node,
            line,
            depth: depth.saturating_add(1),
        })
    }

    /// Whether a tuple ends here.
    fn is_tuple_end(&self, end: Option<&str>) -> bool {
        matches!(self.current, Token::VariableEnd | Token::BlockEnd)
            || self.is_op(")")
            || end.is_some_and(|end| self.is_name(end))
    }

    /// One expression or several with commas.
    pub(super) fn tuple(
        &mut self,
        ternary: bool,
        end: Option<&str>,
        parenthesized: bool,
    ) -> Result<Expr, Fault> {
        let line = self.line;
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if self.is_tuple_end(end) {
                break;
            }
            let item = if ternary {
                self.expression()?
            } else {
                self.deeper(|parser| parser.binary(0))?
            };
            items.push(item);
            if !self.is_op(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            match items.pop() {
                Some(item) => return Ok(item),
                None if !parenthesized => {
                    return wrong(format!("expected an expression, got {}", self.describe()));
                }
                None => {}
            }
        }
        self.expr(Node::Tuple(items), line)
    }

    pub(super) fn expression(&mut self) -> Result<Expr, Fault> {
        self.deeper(Self::ternary)
    }

    fn ternary(&mut self) -> Result<Expr, Fault> {
        let line = self.line;
        let mut then = self.binary(0)?;
        while self.skip_name("if")? {
            let test = self.binary(0)?;
            let otherwise = if self.skip_name("else")? {
                Some(self.expression()?)
            } else {
                None
            };
            then = self.expr(Node::If(Box::new((test, then, otherwise))), line)?;
        }
        Ok(then)
    }

    /// The binary operators from `or` (0) to `**` (7), each binding closer
    /// than the one before.
    pub(super) fn binary(&mut self, level: usize) -> Result<Expr, Fault> {
        match level {
            2 => return self.not(),
            3 => return self.compare(),
            5 => return self.concat(),
            8.. => return self.unary(true),
            _ => {}
        }
        let line = self.line;
        let next = level.saturating_add(1);
        let mut left = self.binary(next)?;
        loop {
            let math = match (level, &self.current) {
                (0, Token::Name(name)) if name == "or" => None,
                (1, Token::Name(name)) if name == "and" => None,
                (4, Token::Op("+")) => Some(Math::Add),
                (4, Token::Op("-")) => Some(Math::Sub),
                (6, Token::Op("*")) => Some(Math::Mul),
                (6, Token::Op("/")) => Some(Math::Div),
                (6, Token::Op("//")) => Some(Math::FloorDiv),
                (6, Token::Op("%")) => Some(Math::Mod),
                (7, Token::Op("**")) => Some(Math::Pow),
                _ => return Ok(left),
            };
            self.take()?;
            let sides = Box::new((left, self.binary(next)?));
            let node = match math {
                Some(math) => Node::Math(math, sides),
                None if level == 0 => Node::Or(sides),
                None => Node::And(sides),
            };
            left = self.expr(node, line)?;
        }
    }

    fn not(&mut self) -> Result<Expr, Fault> {
        let line = self.line;
        if self.skip_name("not")? {
            let operand = self.deeper(Self::not)?;
            return self.expr(Node::Not(Box::new(operand)), line);
        }
        self.binary(3)
    }

    fn compare(&mut self) -> Result<Expr, Fault> {
        let line = self.line;
        let first = self.binary(4)?;
        let mut rest = Vec::new();
        loop {
            let comparison = match &self.current {
                Token::Op("==") => Comparison::Eq,
                Token::Op("!=") => Comparison::Ne,
                Token::Op("<") => Comparison::Lt,
                Token::Op("<=") => Comparison::Le,
                Token::Op(">") => Comparison::Gt,
                Token::Op(">=") => Comparison::Ge,
                Token::Name(name) if name == "in" => Comparison::In,
                Token::Name(name) if name == "not" => {
                    if *self.look()? != Token::Name("in".to_owned()) {
                        break;
                    }
                    self.take()?;
                    Comparison::NotIn
                }
                _ => break,
            };
            self.take()?;
            rest.push((comparison, self.binary(4)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        self.expr(Node::Compare(Box::new(first), rest), line)
    }

    fn concat(&mut self) -> Result<Expr, Fault> {
        let line = self.line;
        let mut parts = vec![self.binary(6)?];
        while self.skip_op("~")? {
            parts.push(self.binary(6)?);
        }
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            last => {
                parts.extend(last);
                self.expr(Node::Concat(parts), line)
            }
        }
    }

    fn unary(&mut self, with_filter: bool) -> Result<Expr, Fault> {
        let line = self.line;
        let mut expr = if self.skip_op("-")? {
            let operand = self.deeper(|parser| parser.unary(false))?;
            self.expr(Node::Neg(Box::new(operand)), line)?
        } else if self.skip_op("+")? {
            let operand = self.deeper(|parser| parser.unary(false))?;
            self.expr(Node::Pos(Box::new(operand)), line)?
        } else {
            self.primary()?
        };
        expr = self.postfix(expr)?;
        if !with_filter {
            return Ok(expr);
        }
        loop {
            expr = if self.is_op("|") {
                self.filter(Some(expr))?
            } else if self.is_name("is") {
                self.test(expr)?
            } else if self.is_op("(") {
                self.call(expr)?
            } else {
                return Ok(expr);
            };
        }
    }

    pub(super) fn primary(&mut self) -> Result<Expr, Fault> {
        let line = self.line;
        let node = match self.take()? {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => Node::Const(Value::Bool(true)),
                "false" | "False" => Node::Const(Value::Bool(false)),
                "none" | "None" => Node::Const(Value::None),
                _ => {
                    self.uses.varargs |= name == "varargs";
                    self.uses.kwargs |= name == "kwargs";
                    self.uses.caller |= name == "caller";
                    Node::Name(Text::literal(&name))
                }
            },
            Token::Str(mut text) => {
                while let Token::Str(more) = &self.current {
                    text.push_str(more);
                    self.take()?;
                }
                Node::Const(Value::Str(Text::literal(&text)))
            }
            Token::Int(int) => Node::Const(Value::Int(int)),
            Token::Float(float) => Node::Const(Value::Float(float)),
            Token::Op("(") => {
                let inner = self.deeper(|parser| parser.tuple(true, None, true))?;
                self.expect_op(")")?;
                return Ok(inner);
            }
            Token::Op("[") => Node::List(self.items("]", Self::expression)?),
            Token::Op("{") => Node::Dict(self.items("}", |parser| {
                let key = parser.expression()?;
                parser.expect_op(":")?;
                Ok((key, parser.expression()?))
            })?),
            token => {
                self.current = token;
                return wrong(format!("unexpected {}", self.describe()));
            }
        };
        self.expr(node, line)
    }

    /// Items with commas between and maybe at the end, up to `close`.
    fn items<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut items = Vec::new();
        while !self.is_op(close) {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.is_op(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        self.expect_op(close)?;
        Ok(items)
    }

    fn postfix(&mut self, mut expr: Expr) -> Result<Expr, Fault> {
        loop {
            let line = self.line;
            if self.skip_op(".")? {
                let node = match self.take()? {
                    Token::Name(name) => Node::Attribute(Box::new(expr), Text::literal(&name)),
                    Token::Int(index) => {
                        let index = self.expr(Node::Const(Value::Int(index)), line)?;
                        Node::Item(Box::new((expr, index)))
                    }
                    _ => return wrong("expected name or number"),
                };
                expr = self.expr(node, line)?;
            } else if self.skip_op("[")? {
                let mut items = self.items("]", Self::subscript)?;
                let index = match items.pop() {
                    Some(only) if items.is_empty() => only,
                    last => {
                        items.extend(last);
                        self.expr(Node::Tuple(items), line)?
                    }
                };
                expr = self.expr(Node::Item(Box::new((expr, index))), line)?;
            } else if self.is_op("(") {
                expr = self.call(expr)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn subscript(&mut self) -> Result<Expr, Fault> {
        let line = self.line;
        let mut parts = [None, None, None];
        for (index, part) in parts.iter_mut().enumerate() {
            if !self.is_op(":") && !self.is_op("]") && !self.is_op(",") {
                *part = Some(self.expression()?);
            }
            if index == 0 && !self.is_op(":") {
                return match part.take() {
                    Some(only) => Ok(only),
                    None => wrong("expected an expression"),
                };
            }
            if index < 2 && !self.skip_op(":")? {
                break;
            }
        }
        self.expr(Node::Slice(Box::new(parts)), line)
    }

    pub(super) fn call_args(&mut self) -> Result<CallArgs, Fault> {
        let mut args = CallArgs::default();
        self.expect_op("(")?;
        let invalid = || wrong("invalid syntax for function call expression");
        self.items(")", |parser| {
            let is_named =
                matches!(parser.current, Token::Name(_)) && *parser.look()? == Token::Op("=");
            if parser.skip_op("*")? {
                if args.rest.is_some() || args.named_rest.is_some() {
                    return invalid();
                }
                args.rest = Some(Box::new(parser.expression()?));
            } else if parser.skip_op("**")? {
                if args.named_rest.is_some() {
                    return invalid();
                }
                args.named_rest = Some(Box::new(parser.expression()?));
            } else if is_named {
                if args.named_rest.is_some() {
                    return invalid();
                }
                let name = parser.name()?;
                parser.expect_op("=")?;
                args.named.push((name, parser.expression()?));
            } else {
                if args.rest.is_some() || args.named_rest.is_some() || !args.named.is_empty() {
                    return invalid();
                }
                args.positional.push(parser.expression()?);
            }
            Ok(())
        })?;
        Ok(args)
    }

    fn call(&mut self, callee: Expr) -> Result<Expr, Fault> {
        let line = self.line;
        let args = self.call_args()?;
        self.expr(Node::Call(Box::new(callee), args), line)
    }

    fn dotted(&mut self) -> Result<Rc<Text>, Fault> {
        let first = self.name()?;
        if !self.is_op(".") {
            return Ok(first);
        }
        let mut name = first.text.to_string();
        while self.skip_op(".")? {
            name.push('.');
            name.push_str(&self.name()?.text);
        }
        Ok(Text::literal(&name))
    }

    /// One filter after the "|".
    fn filter(&mut self, operand: Option<Expr>) -> Result<Expr, Fault> {
        self.expect_op("|")?;
        self.filter_name(operand)
    }

    fn filter_name(&mut self, operand: Option<Expr>) -> Result<Expr, Fault> {
        let line = self.line;
        let name = self.dotted()?;
        let args = if self.is_op("(") {
            self.call_args()?
        } else {
            CallArgs::default()
        };
        self.expr(Node::Filter(operand.map(Box::new), name, args), line)
    }

    /// The filters of a block, the first one after a "|" if `piped`.
    pub(super) fn block_filters(&mut self, piped: bool) -> Result<Option<Expr>, Fault> {
        let mut filters = None;
        if !piped {
            filters = Some(self.filter_name(None)?);
        }
        while self.is_op("|") {
            filters = Some(self.filter(filters.take())?);
        }
        Ok(filters)
    }

    fn test(&mut self, operand: Expr) -> Result<Expr, Fault> {
        let line = self.line;
        self.take()?;
        let negated = self.skip_name("not")?;
        let name = self.dotted()?;
        let mut args = CallArgs::default();
        let begins_operand = match &self.current {
            Token::Name(name) if name == "is" => {
                return wrong("You cannot chain multiple tests with is");
            }
            Token::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{") => true,
            _ => false,
        };
        if self.is_op("(") {
            args = self.call_args()?;
        } else if begins_operand {
            let operand = self.deeper(Self::primary)?;
            args.positional.push(self.postfix(operand)?);
        }
        let test = self.expr(Node::Test(Box::new(operand), name, args), line)?;
        if negated {
            return self.expr(Node::Not(Box::new(test)), line);
        }
        Ok(test)
    }
}

impl Node {
    /// The expressions of which this one is made.
    fn for_each(&self, see: &mut impl FnMut(&Expr)) {
        match self {
            Self::Const(_) | Self::Name(_) => {}
            Self::List(items) | Self::Tuple(items) | Self::Concat(items) => {
                items.iter().for_each(see);
            }
            Self::Dict(entries) => entries.iter().for_each(|(key, value)| {
                see(key);
                see(value);
            }),
            Self::Neg(operand)
            | Self::Pos(operand)
            | Self::Not(operand)
            | Self::Attribute(operand, _) => see(operand),
            Self::And(sides) | Self::Or(sides) | Self::Math(_, sides) | Self::Item(sides) => {
                see(&sides.0);
                see(&sides.1);
            }
            Self::Compare(first, rest) => {
                see(first);
                for (_, side) in rest {
                    see(side);
                }
            }
            Self::If(parts) => {
                see(&parts.0);
                see(&parts.1);
                parts.2.iter().for_each(see);
            }
            Self::Slice(parts) => parts.iter().flatten().for_each(see),
            Self::Call(callee, args) => {
                see(callee);
                args.for_each(see);
            }
            Self::Filter(operand, _, args) => {
                if let Some(operand) = operand {
                    see(operand);
                }
                args.for_each(see);
            }
            Self::Test(operand, _, args) => {
                see(operand);
                args.for_each(see);
            }
        }
    }
}

impl CallArgs {
    fn for_each(&self, see: &mut impl FnMut(&Expr)) {
        self.positional.iter().for_each(&mut *see);
        self.named.iter().for_each(|(_, value)| see(value));
        if let Some(rest) = &self.rest {
            see(rest);
        }
        if let Some(rest) = &self.named_rest {
            see(rest);
        }
    }
}
