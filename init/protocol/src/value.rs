//! The kinds of values that parameters have: parsing them, and saying what was
//! expected.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::frames::Switch;

/// The words for a [`Switch`].
const SWITCHES: &[(&str, Switch)] = &[
    ("auto", Switch::Auto),
    ("on", Switch::On),
    ("off", Switch::Off),
];

pub(crate) fn text(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Err("expected some text".into());
    }
    Ok(value.to_owned())
}

/// Of one file, or of each part of a model, commas between.
pub(crate) fn sha256(value: &str) -> Result<Option<String>, String> {
    if value == "none" {
        return Ok(None);
    }
    let is_one = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if value.split(',').all(is_one) {
        return Ok(Some(value.to_ascii_lowercase()));
    }
    Err(
        "expected 64 hexadecimal digits, of a model in parts as many for each part, commas between"
            .into(),
    )
}

pub(crate) fn number<T>(value: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    value
        .parse()
        .ok()
        .filter(|n| range.contains(n))
        .ok_or_else(|| {
            format!(
                "expected a number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

pub(crate) fn named_number<T>(
    value: &str,
    name: &str,
    range: RangeInclusive<T>,
) -> Result<Option<T>, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    if value == name {
        return Ok(None);
    }
    number(value, range)
        .map(Some)
        .map_err(|e| format!("{e}, or {name}"))
}

pub(crate) fn auto_number<T>(value: &str, range: RangeInclusive<T>) -> Result<Option<T>, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    named_number(value, "auto", range)
}

pub(crate) fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices
        .iter()
        .find(|(name, _)| *name == value)
        .map(|&(_, v)| v)
        .ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("expected {}", names.join(" or "))
        })
}

pub(crate) fn choice_text<T: PartialEq>(value: &T, choices: &[(&str, T)]) -> String {
    choices
        .iter()
        .find(|(_, v)| v == value)
        .map_or(String::new(), |(name, _)| (*name).to_owned())
}

pub(crate) fn switch(value: &str) -> Result<Switch, String> {
    choice(value, SWITCHES)
}

pub(crate) fn switch_text(value: Switch) -> String {
    choice_text(&value, SWITCHES)
}

pub(crate) fn on_off(value: &str) -> Result<bool, String> {
    choice(value, &[("on", true), ("off", false)])
}

pub(crate) fn on_off_text(value: bool) -> String {
    if value { "on" } else { "off" }.to_owned()
}

pub(crate) fn optional<T: ToString>(value: Option<T>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |v| v.to_string())
}
