//! The models that the command line names.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use gguf::PartName;

use crate::layout;

/// A file, and the label that it is to have.
pub(crate) struct Named {
    pub(crate) label: Option<String>,
    pub(crate) path: PathBuf,
}

impl Named {
    /// `FILE` or `LABEL=FILE`.
    pub(crate) fn parse(argument: &str) -> Result<Self> {
        Ok(match argument.split_once('=') {
            Some((label, path)) if !Path::new(argument).exists() => {
                layout::check_label(label)?;
                Self {
                    label: Some(label.to_owned()),
                    path: path.into(),
                }
            }
            _ => Self {
                label: None,
                path: argument.into(),
            },
        })
    }

    /// With the other parts, if it is the first part of a model; their labels end as the
    /// files' names do.
    pub(crate) fn with_parts(self) -> Result<Vec<Self>> {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str());
        let Some(name) = stem.and_then(PartName::of) else {
            return Ok(vec![self]);
        };
        let shown = self.path.display();
        ensure!(
            name.number == 1,
            "{shown} is part {} of a model in {} parts; give the first, and the others come with it",
            name.number,
            name.count
        );
        let label = self.label.as_deref();
        let extension = self.path.extension().unwrap_or_default().display();
        let part = |number| {
            let file = format!("{}.{extension}", name.with_number(number));
            let path = self.path.with_file_name(file);
            ensure!(
                path.is_file(),
                "{shown} is the first of {} parts, of which this one is missing: {}",
                name.count,
                path.display()
            );
            let label = label.map(|stem| PartName { stem, ..name }.with_number(number));
            Ok(Self { label, path })
        };
        (1..=name.count).map(part).collect()
    }
}
