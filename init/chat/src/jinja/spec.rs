//! Widths, signs and digits: what `%` and `format` have in common.

use super::budget::Buffer;
use super::repr::float_repr;
use super::{Fault, wrong};

/// Longest number that a format pads or writes digits for.
const DIGITS_MAX: usize = 400;

/// How a value is to be written by `%` or `format`.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) fill: char,
    /// `<`, `>`, `^`, `=` or none.
    pub(super) align: Option<char>,
    /// `+`, ` ` or none.
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    /// Zero has no sign.
    pub(super) no_negative_zero: bool,
    pub(super) group: Option<char>,
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
    pub(super) kind: char,
}

impl Spec {
    /// Of this kind, and nothing else is asked for.
    pub(super) fn plain(kind: char) -> Self {
        Self {
            fill: ' ',
            align: None,
            sign: None,
            alternate: false,
            no_negative_zero: false,
            group: None,
            width: 0,
            precision: None,
            kind,
        }
    }

    pub(super) fn pad(
        &self,
        out: &mut Buffer,
        sign: &str,
        body: &str,
        default: char,
    ) -> Result<(), Fault> {
        let length = sign.chars().count().saturating_add(body.chars().count());
        let missing = self.width.saturating_sub(length);
        let fill = self.fill.to_string();
        let (before, inner, after) = match self.align.unwrap_or(default) {
            '<' => (0, 0, missing),
            '^' => (missing / 2, 0, missing.div_ceil(2)),
            '=' => (0, missing, 0),
            _ => (missing, 0, 0),
        };
        out.repeat(&fill, before)?;
        out.push(sign)?;
        out.repeat(&fill, inner)?;
        out.push(body)?;
        out.repeat(&fill, after)
    }

    /// The digits in groups of `size`. Zeros that fill the width beside `taken`
    /// characters are digits, too.
    fn group(&self, digits: &str, size: usize, taken: usize) -> String {
        let Some(separator) = self.group else {
            return digits.to_owned();
        };
        let mut out: Vec<char> = Vec::new();
        let zeros = self.fill == '0' && self.align == Some('=');
        let width = if zeros {
            self.width.min(DIGITS_MAX).saturating_sub(taken)
        } else {
            0
        };
        let mut digits = digits.chars().rev();
        let mut count = 0_usize;
        loop {
            let digit = digits.next();
            let missing = out.len() < width;
            let Some(digit) = digit.or_else(|| missing.then_some('0')) else {
                return out.iter().rev().collect();
            };
            if count > 0 && count.is_multiple_of(size) {
                out.push(separator);
            }
            out.push(digit);
            count = count.saturating_add(1);
        }
    }

    fn sign(&self, negative: bool) -> String {
        match self.sign {
            _ if negative => "-".to_owned(),
            Some(sign) => sign.to_string(),
            None => String::new(),
        }
    }

    pub(super) fn int(
        &self,
        out: &mut Buffer,
        value: i128,
        upper_prefix: bool,
    ) -> Result<(), Fault> {
        let value_abs = value.unsigned_abs();
        let (mut digits, prefix) = match self.kind {
            'x' => (format!("{value_abs:x}"), "0x"),
            'X' => (
                format!("{value_abs:X}"),
                if upper_prefix { "0X" } else { "0x" },
            ),
            'o' => (format!("{value_abs:o}"), "0o"),
            'b' => (format!("{value_abs:b}"), "0b"),
            _ => (value_abs.to_string(), ""),
        };
        if let Some(precision) = self.precision {
            let missing = precision.min(DIGITS_MAX).saturating_sub(digits.len());
            digits.insert_str(0, &"0".repeat(missing));
        }
        let size = if prefix.is_empty() { 3 } else { 4 };
        let sign_chars = self.sign(value < 0).len();
        digits = self.group(&digits, size, sign_chars);
        let mut sign = self.sign(value < 0);
        if self.alternate {
            sign.push_str(prefix);
        }
        self.pad(out, &sign, &digits, '>')
    }

    pub(super) fn float(&self, out: &mut Buffer, value: f64) -> Result<(), Fault> {
        let precision = self.precision.unwrap_or(6);
        if precision > DIGITS_MAX {
            return wrong("precision too large");
        }
        let (kind, scale) = match self.kind {
            '%' => ('f', 100.0),
            kind => (kind, 1.0),
        };
        let absolute = value.abs() * scale;
        let mut body = if absolute.is_nan() {
            "nan".to_owned()
        } else if absolute.is_infinite() {
            "inf".to_owned()
        } else {
            match kind.to_ascii_lowercase() {
                'e' => exponential(absolute, precision),
                'f' => format!("{absolute:.precision$}"),
                'g' => general(absolute, precision.max(1), self.alternate, -4),
                // No type: as str, but general with a precision.
                _ => match self.precision {
                    Some(precision) => {
                        let body = general(absolute, precision.max(1), false, -4);
                        let plain = body.chars().all(|c| c.is_ascii_digit());
                        body + if plain { ".0" } else { "" }
                    }
                    None => float_repr(absolute),
                },
            }
        };
        if kind.is_ascii_uppercase() {
            body = body.to_ascii_uppercase();
        }
        if self.kind == '%' {
            body.push('%');
        }
        let is_zero = !body.contains(|c: char| matches!(c, '1'..='9' | 'a'..='z' | 'A'..='Z'));
        let negative =
            value.is_sign_negative() && !value.is_nan() && !(is_zero && self.no_negative_zero);
        let whole = body.find(['.', 'e', '%']).unwrap_or(body.len());
        let (whole, rest) = body.split_at_checked(whole).unwrap_or((&body, ""));
        let taken = self.sign(negative).len().saturating_add(rest.len());
        body = self.group(whole, 3, taken) + rest;
        self.pad(out, &self.sign(negative), &body, '>')
    }
}

/// C's `%e`.
fn exponential(value: f64, precision: usize) -> String {
    let written = format!("{value:.precision$e}");
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// C's `%g`.
fn general(value: f64, precision: usize, keep_zeros: bool, least: i32) -> String {
    let digits = precision.saturating_sub(1);
    let written = exponential(value, digits);
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if keep_zeros || !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let precision = i32::try_from(precision).unwrap_or(i32::MAX);
    if exponent < least || exponent >= precision {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.unsigned_abs());
    }
    let decimals = precision.saturating_sub(1).saturating_sub(exponent);
    let decimals = usize::try_from(decimals).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

/// The number that `rest` begins with.
pub(super) fn number(rest: &mut std::str::Chars<'_>) -> Option<usize> {
    let text = rest.as_str();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, after) = text.split_at_checked(end)?;
    *rest = after.chars();
    if digits.is_empty() {
        return None;
    }
    Some(digits.parse().unwrap_or(usize::MAX))
}

/// Python's `int` of a float.
#[expect(clippy::cast_possible_truncation, reason = "checked before")]
pub(super) fn truncate(float: f64) -> Result<i128, Fault> {
    if float.is_nan() || float.abs() >= 1e38 {
        return wrong("cannot convert float to an integer this large");
    }
    Ok(float.trunc() as i128)
}
