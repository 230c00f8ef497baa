//! What a template is parsed into: jinja2's own nodes.

use std::rc::Rc;

use super::value::{Text, Value};

/// An expression and how deep others are nested in it, itself included.
#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) node: Node,
    pub(crate) line: usize,
    pub(crate) depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Math {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Debug)]
pub(crate) enum Node {
    Const(Value),
    Name(Rc<Text>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Concat(Vec<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Not(Box<Expr>),
    And(Box<(Expr, Expr)>),
    Or(Box<(Expr, Expr)>),
    Math(Math, Box<(Expr, Expr)>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// Test, then, else.
    If(Box<(Expr, Expr, Option<Expr>)>),
    Attribute(Box<Expr>, Rc<Text>),
    Item(Box<(Expr, Expr)>),
    /// Start, stop, step.
    Slice(Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, CallArgs),
    /// Without an operand: of a filter block.
    Filter(Option<Box<Expr>>, Rc<Text>, CallArgs),
    Test(Box<Expr>, Rc<Text>, CallArgs),
}

#[derive(Debug, Default)]
pub(crate) struct CallArgs {
    pub(crate) positional: Vec<Expr>,
    pub(crate) named: Vec<(Rc<Text>, Expr)>,
    pub(crate) rest: Option<Box<Expr>>,
    pub(crate) named_rest: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(crate) enum Target {
    Name(Rc<Text>),
    Attribute(Rc<Text>, Rc<Text>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(crate) struct For {
    pub(crate) target: Target,
    pub(crate) iter: Expr,
    pub(crate) filter: Option<Expr>,
    pub(crate) recursive: bool,
    pub(crate) body: Vec<Statement>,
    pub(crate) otherwise: Vec<Statement>,
}

/// Names and what they are without an argument.
pub(crate) type Params = Vec<(Rc<Text>, Option<Expr>)>;

/// A macro, or the body of a `call` block, which has no name.
#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) name: Option<Rc<Text>>,
    pub(crate) params: Params,
    pub(crate) body: Vec<Statement>,
    pub(crate) uses: Uses,
}

/// Which special names occur in a macro.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Uses {
    pub(crate) varargs: bool,
    pub(crate) kwargs: bool,
    pub(crate) caller: bool,
}

#[derive(Debug)]
pub(crate) enum Statement {
    Data(String),
    Output(Expr),
    For(Rc<For>),
    If(Vec<(Expr, Vec<Statement>)>, Vec<Statement>),
    Set(Target, Expr),
    /// The filter, if there is one, has no operand.
    SetBlock(Target, Option<Expr>, Vec<Statement>),
    With(Vec<(Target, Expr)>, Vec<Statement>),
    /// A scope of its own: `block`, `generation`.
    Scope(Vec<Statement>),
    Filter(Expr, Vec<Statement>),
    Macro(Rc<Macro>),
    Call(Expr, Rc<Macro>),
    Break,
    Continue,
    /// What needs other templates; there are none.
    Other(&'static str, usize),
}
