//! Which of several models: what `zosia.model=` picks.

use std::path::Path;

use gguf::PartName;

use super::{DiskError, ModelFile};

/// What was picked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// This one.
    One(&'a ModelFile),
    /// Any of these: the user must be asked.
    Several(Vec<&'a ModelFile>),
}

/// Picks among `models`: all of them when nothing is wanted, else the one whose path is
/// `wanted`, or those whose partition label, file name (with or without `.gguf`, and with or without what tells
/// the parts of one model apart), device name or path
/// (or its last components) is `wanted`; if there are none, those that match
/// regardless of case.
///
/// # Errors
/// [`DiskError::NotFound`], also when there are no models.
pub(crate) fn choose<'a>(
    models: &'a [ModelFile],
    wanted: Option<&str>,
) -> Result<Choice<'a>, DiskError> {
    let matching: Vec<&ModelFile> = match wanted {
        None => models.iter().collect(),
        Some(wanted) if models.iter().any(|model| model.path == Path::new(wanted)) => {
            let at_path = |model: &&ModelFile| model.path == Path::new(wanted);
            models.iter().filter(at_path).collect()
        }
        Some(wanted) => {
            let exact = |a: &str, b: &str| a == b;
            let found = matching(models, wanted, exact);
            if found.is_empty() {
                self::matching(models, wanted, str::eq_ignore_ascii_case)
            } else {
                found
            }
        }
    };
    match matching.as_slice() {
        [] => Err(DiskError::NotFound {
            wanted: wanted.unwrap_or("anything").into(),
            have: models.iter().map(describe).collect(),
        }),
        [one] => Ok(Choice::One(one)),
        _ => Ok(Choice::Several(matching)),
    }
}

fn matching<'a>(
    models: &'a [ModelFile],
    wanted: &str,
    same: impl Fn(&str, &str) -> bool,
) -> Vec<&'a ModelFile> {
    // `/dir/model.gguf` is meant from the root of the file system it is on.
    let end = Path::new(wanted.trim_start_matches('/'));
    let fits = |model: &&ModelFile| {
        let by_path = !end.as_os_str().is_empty() && model.path.ends_with(end);
        by_path || names(model).iter().any(|name| same(name, wanted))
    };
    models.iter().filter(fits).collect()
}

/// Everything that a model may be called.
fn names(model: &ModelFile) -> Vec<String> {
    let mut names = vec![model.name.clone()];
    names.extend(model.label.clone());
    names.extend(model.device.clone());
    let file = Path::new(&model.name);
    let gguf = file
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if gguf {
        let stem = file.file_stem().unwrap_or_default();
        names.push(stem.to_string_lossy().into_owned());
    }
    let of_part = |name: &String| Some(PartName::of(name)?.stem.to_owned());
    let of_all = names.iter().find_map(of_part);
    names.extend(of_all);
    names
}

/// A model in a list: its name, and its device if that says more.
fn describe(model: &ModelFile) -> String {
    match &model.device {
        Some(device) if *device != model.name => format!("{} ({device})", model.name),
        _ => model.name.clone(),
    }
}
