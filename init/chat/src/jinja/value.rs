//! The values of Python that a template can have. None can be changed once it
//! is made, as in jinja2's immutable sandbox; what does change (scopes, loops,
//! namespaces) lives with the evaluator and is only named here. So no value
//! contains itself.

use std::cell::Cell;
use std::rc::Rc;

use super::ast::Macro;
use super::budget::{Budget, Charge};
use super::{Fault, wrong};

#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the text of a text")]
pub(crate) struct Text {
    pub(crate) text: Box<str>,
    /// Markup that is not escaped again.
    pub(crate) safe: bool,
    pub(crate) _charge: Charge,
}

impl Text {
    /// A text of the template itself.
    pub(crate) fn literal(text: &str) -> Rc<Self> {
        Rc::new(Self {
            text: text.into(),
            safe: false,
            _charge: Charge::default(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    List,
    Tuple,
    Keys,
    Values,
    Items,
    Range(i128, i128, i128),
    /// What `groupby` gives: a tuple whose items have names.
    Group,
    /// Can be gone through once.
    Iterator,
}

#[derive(Debug)]
pub(crate) struct Seq {
    pub(crate) kind: Kind,
    pub(crate) items: Vec<Value>,
    pub(crate) depth: usize,
    /// The next item of an iterator.
    pub(crate) next: Cell<usize>,
    /// What is found to be wrong after an iterator's last item.
    pub(crate) fault: Option<Fault>,
    pub(crate) _charge: Charge,
}

impl Seq {
    /// The next item of an iterator, if it has any more.
    pub(crate) fn pull(&self) -> Result<Option<Value>, Fault> {
        let at = self.next.get();
        match (self.items.get(at), &self.fault) {
            (Some(item), _) => {
                self.next.set(at.saturating_add(1));
                Ok(Some(item.clone()))
            }
            (None, Some(fault)) => Err(fault.clone()),
            (None, None) => Ok(None),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Dict {
    pub(crate) entries: Vec<(Value, Value)>,
    pub(crate) depth: usize,
    pub(crate) _charge: Charge,
}

/// Why a value is undefined.
#[derive(Debug, Clone)]
pub(crate) enum Why {
    Name(Rc<Text>),
    Attribute(&'static str, Rc<Text>),
    Item(&'static str),
    Unsafe(&'static str, Rc<Text>),
    Parameter(Rc<Text>),
    Empty(&'static str),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "'{}' is undefined", name.text),
            Self::Attribute("None", name) => write!(f, "'None' has no attribute '{}'", name.text),
            Self::Attribute(kind, name) => {
                write!(f, "'{kind} object' has no attribute '{}'", name.text)
            }
            Self::Item(kind) => write!(f, "'{kind} object' has no such element"),
            Self::Unsafe(kind, name) => {
                let name = &name.text;
                write!(
                    f,
                    "access to attribute '{name}' of '{kind}' object is unsafe."
                )
            }
            Self::Parameter(name) => write!(f, "parameter '{}' was not provided", name.text),
            Self::Empty(what) => f.write_str(what),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Undefined(Why),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<Text>),
    Seq(Rc<Seq>),
    Dict(Rc<Dict>),
    Object(Rc<Object>),
}

#[derive(Debug)]
pub(crate) enum Object {
    Function(Function),
    /// A method of a value.
    Method(Value, Rc<Text>),
    /// A macro and the scope that it was written in.
    Macro(Rc<Macro>, usize),
    /// Number of a namespace.
    Namespace(usize),
    /// Number of a loop, unlike that of any other.
    Loop(usize),
    Cycler(Rc<Seq>, Cell<usize>),
    Joiner(Rc<Text>, Cell<bool>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

/// Arguments of a call.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(Rc<Text>, Value)>,
    pub(crate) charge: Charge,
}

impl Args {
    pub(crate) fn new(
        budget: &Budget,
        positional: Vec<Value>,
        named: Vec<(Rc<Text>, Value)>,
    ) -> Result<Self, Fault> {
        let mut args = Self {
            charge: budget.charge(0)?,
            ..Self::default()
        };
        args.grow(budget, positional.len(), named.len())?;
        (args.positional, args.named) = (positional, named);
        Ok(args)
    }

    /// The same once more.
    pub(crate) fn copy(&self, budget: &Budget) -> Result<Self, Fault> {
        let mut args = Self::new(budget, Vec::new(), Vec::new())?;
        args.grow(budget, self.positional.len(), self.named.len())?;
        args.positional.clone_from(&self.positional);
        args.named.clone_from(&self.named);
        Ok(args)
    }

    /// Counts as many arguments that are to be added.
    pub(crate) fn grow(
        &mut self,
        budget: &Budget,
        positional: usize,
        named: usize,
    ) -> Result<(), Fault> {
        let bytes = positional.saturating_mul(size_of::<Value>());
        let named = named.saturating_mul(size_of::<(Rc<Text>, Value)>());
        let bytes = bytes.saturating_add(named);
        budget.touch(bytes)?;
        self.charge.grow(bytes)
    }

    /// The arguments in the order of `names`.
    pub(crate) fn bind<const N: usize>(
        self,
        what: &str,
        names: [&str; N],
    ) -> Result<[Option<Value>; N], Fault> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            return wrong(format!("{what} takes at most {N} arguments"));
        }
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let slot = names.iter().position(|known| **known == *name.text);
            match slot.and_then(|at| bound.get_mut(at)) {
                Some(slot @ None) => *slot = Some(value),
                Some(_) => return wrong(format!("{what} got {} twice", name.text)),
                None => return wrong(format!("{what} takes no argument {}", name.text)),
            }
        }
        Ok(bound)
    }

    /// The length of all that is text.
    pub(crate) fn text_bytes(&self) -> usize {
        let named = self.named.iter().map(|(_, value)| value);
        let texts = self
            .positional
            .iter()
            .chain(named)
            .filter_map(Value::as_str);
        texts.map(str::len).fold(0, usize::saturating_add)
    }

    /// Takes the named argument.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self
            .named
            .iter()
            .position(|(known, _)| *known.text == *name)?;
        Some(self.named.remove(at).1)
    }
}

impl Value {
    /// How deep values are nested in it.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Seq(seq) => seq.depth,
            Self::Dict(dict) => dict.depth,
            Self::Object(object) => match &**object {
                Object::Cycler(items, _) => items.depth.saturating_add(1),
                Object::Method(of, _) => match of {
                    Self::Object(_) => 1,
                    plain => plain.depth().saturating_add(1),
                },
                _ => 1,
            },
            _ => 0,
        }
    }

    pub(crate) fn function(function: Function) -> Self {
        Self::Object(Rc::new(Object::Function(function)))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(&text.text),
            _ => None,
        }
    }

    pub(crate) fn is_safe(&self) -> bool {
        matches!(self, Self::Str(text) if text.safe)
    }

    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// The number that a bool, too, is in Python.
    pub(crate) fn as_int(&self) -> Option<i128> {
        match *self {
            Self::Int(int) => Some(int),
            Self::Bool(bool) => Some(i128::from(bool)),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as Python converts")]
    pub(crate) fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Float(float) => Some(float),
            _ => self.as_int().map(|int| int as f64),
        }
    }

    /// The number, for a `what`.
    pub(crate) fn int(&self, what: &str) -> Result<i128, Fault> {
        if let Self::Undefined(why) = self {
            return wrong(why.to_string());
        }
        let int = self.as_int();
        int.ok_or_else(|| Fault::Wrong(format!("{what} must be an integer, not {}", self.kind())))
    }

    /// The size; what is below zero is zero.
    pub(crate) fn size(&self, what: &str) -> Result<usize, Fault> {
        Ok(usize::try_from(self.int(what)?.max(0)).unwrap_or(usize::MAX))
    }

    /// Python's name of the type.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Seq(seq) => match seq.kind {
                Kind::List => "list",
                Kind::Tuple | Kind::Group => "tuple",
                Kind::Keys => "dict_keys",
                Kind::Values => "dict_values",
                Kind::Items => "dict_items",
                Kind::Range(..) => "range",
                Kind::Iterator => "generator",
            },
            Self::Dict(_) => "dict",
            Self::Object(object) => match **object {
                Object::Function(_) => "function",
                Object::Method(..) => "method",
                Object::Macro(..) => "macro",
                Object::Namespace(_) => "namespace",
                Object::Loop(_) => "loop",
                Object::Cycler(..) => "cycler",
                Object::Joiner(..) => "joiner",
            },
        }
    }

    /// Python's truth.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(bool) => *bool,
            Self::Int(int) => *int != 0,
            Self::Float(float) => *float != 0.0,
            Self::Str(text) => !text.text.is_empty(),
            Self::Seq(seq) => seq.kind == Kind::Iterator || !seq.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            Self::Object(_) => true,
        }
    }

    /// Python's `len`.
    pub(crate) fn len(&self, budget: &Budget) -> Result<usize, Fault> {
        match self {
            Self::Undefined(_) => Ok(0),
            Self::Str(text) => {
                budget.touch(text.text.len())?;
                Ok(text.text.chars().count())
            }
            Self::Seq(seq) if seq.kind != Kind::Iterator => Ok(seq.items.len()),
            Self::Dict(dict) => Ok(dict.entries.len()),
            _ => wrong(format!("object of type '{}' has no len()", self.kind())),
        }
    }

    /// What Python's `iter` gives; an iterator is used up.
    pub(crate) fn iterate(&self, budget: &Budget) -> Result<Rc<Seq>, Fault> {
        match self {
            Self::Undefined(_) => budget.seq(Kind::List, Vec::new()),
            Self::Str(text) => {
                // Each character becomes a value.
                budget.reserve(text.text.len().saturating_mul(size_of::<Value>()))?;
                let mut items = Vec::new();
                for c in text.text.chars() {
                    items.push(budget.text(c.to_string())?);
                }
                budget.seq(Kind::List, items)
            }
            Self::Seq(seq) if seq.kind == Kind::Iterator => {
                let from = seq.next.replace(seq.items.len());
                if let Some(fault) = &seq.fault {
                    return Err(fault.clone());
                }
                if from == 0 {
                    return Ok(Rc::clone(seq));
                }
                let rest = seq.items.get(from..).unwrap_or_default();
                budget.seq(Kind::List, rest.to_vec())
            }
            Self::Seq(seq) => Ok(Rc::clone(seq)),
            Self::Dict(dict) => {
                let keys = dict.entries.iter().map(|(key, _)| key.clone());
                budget.seq(Kind::List, keys.collect())
            }
            _ => wrong(format!("'{}' object is not iterable", self.kind())),
        }
    }

    /// As [`Self::iterate`], but what is wrong with an item of an iterator comes after
    /// those before it: its items, and the place of the first.
    pub(crate) fn drain(&self, budget: &Budget) -> Result<(Rc<Seq>, usize), Fault> {
        match self {
            Self::Seq(seq) if seq.kind == Kind::Iterator => {
                Ok((Rc::clone(seq), seq.next.replace(seq.items.len())))
            }
            _ => Ok((self.iterate(budget)?, 0)),
        }
    }

    pub(crate) fn is_iterable(&self) -> bool {
        matches!(
            self,
            Self::Undefined(_) | Self::Str(_) | Self::Seq(_) | Self::Dict(_)
        )
    }
}
